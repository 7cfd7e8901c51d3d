"""Texts that are nearly the same: but for a word, a sign, an ending.

Texts are compared by the pairs of neighbouring tokens that they have, and near are those that share LIKE of these
(Jaccard). MinHash finds which may be near, and each of these is then compared exactly: what is found is true. Of texts
that share 0.8 it finds 98 in 100, of those that share 0.9 all but one in 5,000.

Source: Broder, 1997, https://doi.org/10.1109/SEQUEN.1997.666900
Source: rensa, https://github.com/beowolx/rensa
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.data.tokens import Tokens
from mtbert.reports.sights.prints import blocks

LIKE = 0.8  # of the pairs that either text has, the share that both have
HASHES, BANDS = 32, 8  # texts that share s are found with probability 1 - (1 - s^4)^8
GUESSED = 0.55  # MinHash's estimate of the share below which two texts are not compared: 3.5 deviations below LIKE
TRIED = 50  # texts of those looked for that one text is compared with, for each band that it shares with more
ROWS = 100_000  # looked at together, which bounds the memory
PAIRS, AT_ONCE = 1_000_000, 50_000  # that are estimated at most for a block of texts, and compared together
SEED = 20_220_504
ODD = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F))

Starts = NDArray[np.int64]  # of N texts end to end, and the end of the last one: (N + 1,)


@dataclass(frozen=True)
class Sets:
    """What each of N texts holds, as numbers end to end."""

    flat: NDArray[np.uint64]
    starts: Starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, texts: NDArray[np.int64]) -> Sets:
        """Some of the texts."""
        flat, starts = _taken(self.flat, self.starts, texts)
        return Sets(flat, starts)


class Near(NamedTuple):
    """For each of N texts the row of one that is near it, and what they share; -1 and 0 where none is."""

    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    all_tried: bool  # False where so many look alike that some were not compared


def near(asked: Sets, learned: Iterable[tuple[NDArray[np.int64], Sets]]) -> Near:
    """Look for texts among others, which come in blocks, each with the rows of its texts."""
    found = Near(np.full(len(asked), -1), np.zeros(len(asked)), True)
    if not len(asked):
        return found
    digests, all_tried = _digests(asked), True
    flag = _Flagging(asked)
    for rows, sets in learned:
        hits = np.flatnonzero(flag(sets))
        left = np.flatnonzero(found.rows < 0)
        if not len(hits) or not len(left):
            continue
        seen = sets.take(hits)
        seen_digests = _digests(seen)
        ours, theirs, tried = _candidates(digests[left], seen_digests)
        all_tried &= tried
        for start in range(0, len(ours), AT_ONCE):
            one, other = left[ours[start : start + AT_ONCE]], theirs[start : start + AT_ONCE]
            likely = (digests[one] == seen_digests[other]).mean(1) >= GUESSED
            one, other = one[likely], other[likely]
            shares = shared(asked.take(one), seen.take(other))
            best = np.argsort(shares, kind="stable")  # the last one that is written stays
            best = best[shares[best] >= np.maximum(LIKE, found.shares[one[best]])]
            found.rows[one[best]], found.shares[one[best]] = rows[hits[other[best]]], shares[best]
    return found._replace(all_tried=all_tried)


def shared(one: Sets, other: Sets) -> NDArray[np.float64]:
    """What the N pairs of sets have in common, of what either has (Jaccard): (N,)."""
    mine, theirs = _distinct(one), _distinct(other)
    both = np.isin(mine.numbers, theirs.numbers, assume_unique=True)
    common = np.bincount(mine.texts[both], minlength=len(one))
    either = np.bincount(mine.texts, minlength=len(one)) + np.bincount(theirs.texts, minlength=len(one)) - common
    shares: NDArray[np.float64] = common / np.maximum(either, 1)
    return shares


def sets_of(columns: Sequence[Tokens], rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Sets]]:
    """The pairs of neighbouring tokens of these rows, a block at a time; of several columns those of each by itself.

    Rows without a token are left out.
    """
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        lengths = np.sum([tokens.starts[some + 1] - tokens.starts[some] for tokens in columns], axis=0)
        some, lengths = some[lengths > 0], lengths[lengths > 0]
        for first, last in blocks(np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])):
            own = some[first:last]
            yield own, _side_by_side([_pairs(tokens, own, place) for place, tokens in enumerate(columns)])


def all_sets(columns: Sequence[Tokens], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Sets]:
    """The same of all rows at once."""
    parts = list(sets_of(columns, rows))
    return np.concatenate([np.empty(0, np.int64), *(some for some, _ in parts)]), end_to_end([s for _, s in parts])


def end_to_end(parts: Sequence[Sets]) -> Sets:
    """Several of them as one."""
    lengths = [np.diff(sets.starts) for sets in parts]
    flat = np.concatenate([np.empty(0, np.uint64), *(sets.flat for sets in parts)])
    return Sets(flat, np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths])))


def _pairs(tokens: Tokens, texts: NDArray[np.int64], place: int) -> Sets:
    """Each two neighbouring tokens as a number, of a text with one token this one: the column's `place` counts too."""
    flat, starts = _taken(tokens.flat, tokens.starts, texts)
    lengths = np.diff(starts)
    ends = starts[1:][lengths > 0] - 1
    here = flat.astype(np.uint64) + np.uint64(1)
    after: NDArray[np.uint64] = np.append(here[1:], np.uint64(0))
    after[ends] = 0
    numbers: NDArray[np.uint64] = here * ODD[0] + after * ODD[1] + np.uint64(place * int(ODD[2]) % 2**64)
    numbers = (numbers ^ (numbers >> np.uint64(32))) * ODD[1]
    kept = np.ones(len(flat), np.bool_)
    kept[starts[1:][lengths > 1] - 1] = False
    return Sets(numbers[kept], np.concatenate([np.zeros(1, np.int64), np.cumsum(np.maximum(lengths - 1, lengths > 0))]))


def _side_by_side(columns: Sequence[Sets]) -> Sets:
    """The sets of each row over all columns."""
    if len(columns) == 1:
        return columns[0]
    lengths = [np.diff(column.starts) for column in columns]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.sum(lengths, axis=0))])
    flat, begins = np.empty(starts[-1], np.uint64), starts[:-1].copy()
    for column, own in zip(columns, lengths, strict=True):
        flat[np.arange(len(column.flat)) + np.repeat(begins - column.starts[:-1], own)] = column.flat
        begins += own
    return Sets(flat, starts)


class _Flagging:
    """Says which texts share a band of MinHash's numbers with one of those that are looked for."""

    def __init__(self, asked: Sets) -> None:
        from rensa import RMinHashLSH  # late, as few commands look for near texts

        self._index = RMinHashLSH(LIKE, HASHES, BANDS)
        for key in (0, len(asked)):  # twice, as a text is flagged that has two candidates: itself and another
            self._index.insert_matrix(_matrix(asked), key)

    def __call__(self, sets: Sets) -> NDArray[np.bool_]:
        return np.array(self._index.query_duplicate_flags_matrix(_matrix(sets)), dtype=np.bool_)


def _matrix(sets: Sets) -> Any:
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_flat_token_hashes(sets.flat, sets.starts.astype(np.uint64), HASHES, SEED)


def _digests(sets: Sets) -> NDArray[np.uint32]:
    """(N, HASHES): of two texts the share of equal numbers is about what they share."""
    return np.array(_matrix(sets).to_rows(), dtype=np.uint32).reshape(-1, HASHES)


def _candidates(
    ours: NDArray[np.uint32], theirs: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Pairs of places that share a band, each once, and whether these are all."""
    keys, sought = _bands(ours), _bands(theirs)
    order = np.argsort(keys, kind="stable")
    low, high = (np.searchsorted(keys, sought, side=side, sorter=order) for side in ("left", "right"))
    tried = np.minimum(high - low, TRIED)
    within = np.arange(tried.sum()) - np.repeat(np.cumsum(tried) - tried, tried)
    one = order[np.repeat(low, tried) + within] // BANDS
    other = np.repeat(np.arange(len(sought)) // BANDS, tried)
    pairs = np.unique(one * len(theirs) + other)
    all_ = bool((high - low <= TRIED).all()) and len(pairs) <= PAIRS
    if len(pairs) > PAIRS:
        pairs = np.sort(np.random.default_rng(SEED).choice(pairs, PAIRS, replace=False))
    return pairs // len(theirs), pairs % len(theirs), all_


def _bands(digests: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A number for each band of each text, one after the other: (N * BANDS,)."""
    weights = np.random.default_rng(SEED).integers(0, 2**64, HASHES + BANDS, dtype=np.uint64)
    weighed = (digests.astype(np.uint64) * weights[:HASHES]).reshape(-1, BANDS, HASHES // BANDS).sum(2)
    bands: NDArray[np.uint64] = (weighed + weights[HASHES:]).ravel()
    return bands


class _Numbers(NamedTuple):
    numbers: NDArray[np.uint64]  # (M,) each once, those of other texts made different
    texts: NDArray[np.int64]  # (M,) whose they are


def _distinct(sets: Sets) -> _Numbers:
    texts = np.repeat(np.arange(len(sets)), np.diff(sets.starts))
    numbers, first = np.unique((sets.flat + texts.astype(np.uint64) * ODD[2]) * ODD[0], return_index=True)
    return _Numbers(numbers, texts[first])


def _taken(flat: NDArray[Any], starts: Starts, texts: NDArray[np.int64]) -> tuple[NDArray[Any], Starts]:
    """What some texts hold, end to end, and where each starts."""
    lengths = starts[texts + 1] - starts[texts]
    own = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    within = np.arange(own[-1]) - np.repeat(own[:-1], lengths)
    return flat[np.repeat(starts[texts], lengths) + within], own
