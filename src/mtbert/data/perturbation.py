"""Typos and changed case in texts: what a model should survive."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pyarrow as pa

from mtbert.data.tables import Rows

LETTERS_A_TYPO = 20  # letters of a text for each of its typos, and at least one
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
    """The rows with typos and changed case in their texts; labels and ids are as they were.

    What becomes of a text depends on the text and the seed alone, not on where it stands. A tokenizer that lowercases
    never sees a change of case.
    """
    columns = []
    for column in rows.texts:
        texts = [with_changed_case(with_typos(text, rng), rng) for text, rng in _with_generators(column, seed)]
        columns.append(pa.chunked_array([pa.array(texts, pa.string())]))
    return replace(rows, texts=tuple(columns))


def with_typos(text: str, rng: Random) -> str:
    """One typo in 20 letters, in words of three letters or more, and never of a first letter alone.

    Each is one of: two neighbours swapped, a letter dropped, a letter doubled, the key beside it.
    """
    words = re.finditer(r"[^\W\d_]{3,}", text)
    letters = [place for word in words for place in range(word.start() + 1, word.end())]
    if not letters:
        return text
    count = max(1, round(sum(map(str.isalpha, text)) / LETTERS_A_TYPO))
    # from the end, so that places before a typo stay where they are
    for place in sorted(rng.sample(letters, min(count, len(letters))), reverse=True):
        text = rng.choice(TYPOS)(text, place, rng)
    return text


def with_changed_case(text: str, rng: Random) -> str:
    """One word in ten, by chance, in capitals, or with the case of its first letter turned."""
    change: tuple[Callable[[str], str], ...] = (str.upper, lambda word: word[0].swapcase() + word[1:])
    return re.sub(
        r"[^\W\d_]+", lambda word: rng.choice(change)(word[0]) if rng.random() < CASE_SHARE else word[0], text
    )


def _with_generators(column: pa.ChunkedArray, seed: int) -> list[tuple[str, Random]]:
    return [(text, Random(f"{seed}\n{text}")) for text in column.to_pylist()]


def _swap(text: str, place: int, rng: Random) -> str:
    """With the letter before it; doubled letters, which that leaves alone, lose one."""
    if text[place - 1] == text[place]:
        return _drop(text, place, rng)
    return text[: place - 1] + text[place] + text[place - 1] + text[place + 1 :]


def _drop(text: str, place: int, rng: Random) -> str:
    return text[:place] + text[place + 1 :]


def _double(text: str, place: int, rng: Random) -> str:
    return text[:place] + text[place] + text[place:]


def _mistype(text: str, place: int, rng: Random) -> str:
    """The key beside it, in its case; letters that an English keyboard lacks are doubled."""
    keys = NEIGHBOURS.get(text[place].lower())
    if keys is None:
        return _double(text, place, rng)
    key = rng.choice(keys)
    return text[:place] + (key.upper() if text[place].isupper() else key) + text[place + 1 :]


TYPOS = (_swap, _drop, _double, _mistype)
