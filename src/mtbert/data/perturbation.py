"""Typos and changed case in texts, to measure how well a model withstands them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random

import pyarrow as pa
import pyarrow.compute

from mtbert.data.tables import Rows

LETTERS_PER_TYPO = 20  # a text gets one typo for this many letters, and at least one
BETWEEN_WORDS = "\x1f"  # the unit separator, which is no letter and stands in no word
CASE_SHARE = 0.1  # of the words

ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# the keys to the left and right, and on an English keyboard those above and below
NEIGHBOURS = {
    key: "".join(
        row[place]
        for row in ROWS_OF_KEYS[max(height - 1, 0) : height + 2]
        for place in (across - 1, across, across + 1)
        if 0 <= place < len(row) and row[place] != key
    )
    for height, keys in enumerate(ROWS_OF_KEYS)
    for across, key in enumerate(keys)
}


def perturbed(rows: Rows, seed: int) -> Rows:
    """Rows whose texts have typos and changed case; labels and ids stay the same.

    How a text is changed depends on the text and the seed alone, not on its row. A tokenizer that lowercases its input
    does not see the changes of case.
    """
    if rows.words is not None:
        (changed,) = _changed([pa.compute.binary_join(rows.words, BETWEEN_WORDS)], seed)
        words = pa.compute.split_pattern(changed, BETWEEN_WORDS).cast(rows.words.type)
        return replace(rows, texts=(pa.compute.binary_join(words, " ").cast(pa.string()),), words=words)
    return replace(rows, texts=tuple(_changed(rows.texts, seed)))


def _changed(columns: Iterable[pa.ChunkedArray], seed: int) -> Iterator[pa.ChunkedArray]:
    for column in columns:
        texts = [with_changed_case(with_typos(text, rng), rng) for text, rng in _with_generators(column, seed)]
        yield pa.chunked_array([pa.array(texts, pa.string())])


def with_typos(text: str, rng: Random) -> str:
    """A text with one typo per 20 letters, only in words of three letters or more and never on their first letter.

    A typo swaps a letter with the letter before it, drops it, doubles it, or replaces it by a neighbouring key.
    """
    words = re.finditer(r"[^\W\d_]{3,}", text)
    letters = [place for word in words for place in range(word.start() + 1, word.end())]
    if not letters:
        return text
    count = max(1, round(sum(map(str.isalpha, text)) / LETTERS_PER_TYPO))
    # from the end, so that places before a typo stay where they are
    for place in sorted(rng.sample(letters, min(count, len(letters))), reverse=True):
        text = rng.choice(TYPOS)(text, place, rng)
    return text


def with_changed_case(text: str, rng: Random) -> str:
    """A text with about one word in ten in capitals or with the case of its first letter swapped."""
    change: tuple[Callable[[str], str], ...] = (str.upper, lambda word: word[0].swapcase() + word[1:])
    return re.sub(
        r"[^\W\d_]+", lambda word: rng.choice(change)(word[0]) if rng.random() < CASE_SHARE else word[0], text
    )


def _with_generators(column: pa.ChunkedArray, seed: int) -> list[tuple[str, Random]]:
    """Each text with a random generator that is seeded by the text itself and the seed."""
    return [(text, Random(f"{seed}\n{text}")) for text in column.to_pylist()]


def _swap(text: str, place: int, rng: Random) -> str:
    """Swap a letter with the letter before it; if the two are equal, drop it instead, so that the text changes."""
    if text[place - 1] == text[place]:
        return _drop(text, place, rng)
    return text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]


def _drop(text: str, place: int, rng: Random) -> str:
    return text[:place] + text[place + 1 :]


def _double(text: str, place: int, rng: Random) -> str:
    return text[:place] + text[place] + text[place:]


def _mistype(text: str, place: int, rng: Random) -> str:
    """Replace a letter by a neighbouring key in the same case, or double it if an English keyboard does not have it."""
    keys = NEIGHBOURS.get(text[place].lower())
    if keys is None:
        return _double(text, place, rng)
    key = rng.choice(keys)
    return text[:place] + (key.upper() if text[place].isupper() else key) + text[place + 1 :]


TYPOS = (_swap, _drop, _double, _mistype)
