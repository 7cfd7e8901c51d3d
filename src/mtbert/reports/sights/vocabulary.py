"""What a vocabulary makes of texts: how much of them it does not know, and which texts it cannot tell apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mtbert.data.tokens import Tokens
from mtbert.reports.base import count
from mtbert.reports.sights.base import Looks, Sight
from mtbert.reports.sights.prints import blocks, first_of_each, first_places, of_tokens, repeated, sums

UNKNOWN = 0.01  # the share of unknown tokens that is a problem by itself


def unknown_tokens(looks: Looks) -> Iterator[Sight]:
    """Tokens that the vocabulary does not know, which are all the same to the encoder."""
    for look in looks:
        each = np.sum([unknown_of(tokens, look.unknown) for tokens in look.examples.tokens], axis=0)
        rows, share = np.flatnonzero(each), float(each.sum()) / max(look.tokens, 1)
        if not len(rows):
            continue
        yield look.sight(
            "unknown tokens",
            f"the vocabulary does not know {share:.2%} of the tokens, in {count(len(rows), 'row')} of {len(look):,}",
            rows=rows[np.argsort(-each[rows], kind="stable")],
            remedy="replace signs that matter by words, or take an encoder whose vocabulary has them",
            problem=share >= UNKNOWN,
        )


def alike(looks: Looks) -> Iterator[Sight]:
    """Different texts whose tokens are equal: they differ in case, accents or spaces, or in what is unknown."""
    for look in looks:
        for place, (texts, tokens) in enumerate(zip(look.prints, look.examples.tokens, strict=True)):
            rows, made = first_of_each(texts), of_tokens(tokens)
            rows = rows[repeated(made[rows])]
            if not len(rows):
                continue
            blurred = int((unknown_of(tokens, look.unknown)[rows] > 0).sum())
            column = f" of column '{look.task.text[place]}'" if len(look.prints) > 1 else ""
            yield look.sight(
                "equal tokens",
                f"{count(len(rows), 'different text')}{column} have the tokens of another, {blurred:,} of them with "
                "tokens that the vocabulary does not know",
                rows=rows[np.argsort(first_places(made[rows], made[rows]), kind="stable")],
                remedy="to the model they are one text: replace the signs that tell them apart by words, or take an "
                "encoder that knows them (a cased one tells upper case from lower)",
                problem=blurred > 0,
            )


def unknown_of(tokens: Tokens, unknown: int | None) -> NDArray[np.int64]:
    """How many unknown tokens each text has: (N,)."""
    found = [np.empty(0, np.int64)]
    for first, last in blocks(tokens.starts):
        starts = tokens.starts[first : last + 1]
        found.append(sums((tokens.flat[starts[0] : starts[-1]] == unknown).astype(np.int64), starts - starts[0]))
    return np.concatenate(found)
