"""Numbers that are equal where two texts, or the tokens of two texts, are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtbert.data.tokens import Tokens

BLOCK = 1 << 19  # tokens or bytes looked at together, which bounds the memory
APART = np.uint64(0x9E3779B97F4A7C15)  # odd, so that nothing is lost where it multiplies

Prints = NDArray[np.uint64]


def of_texts(column: pa.ChunkedArray) -> Prints:
    """Of N texts, by their bytes: (N,)."""
    return _joined(_of_chunk(chunk) for chunk in column.chunks)


def of_tokens(tokens: Tokens) -> Prints:
    """Of the tokens of N texts: (N,)."""
    return of_sequences(tokens.flat, tokens.starts)


def of_rows(columns: Sequence[Prints]) -> Prints:
    """Of rows that have a text in each column, in this order: (N,)."""
    return reduce(lambda one, other: one * APART + other, columns)


def of_sequences(flat: NDArray[np.integer[Any]], starts: NDArray[np.int64]) -> Prints:
    """Of N sequences of numbers end to end, N + 1 starts: equal where they are, and all but never elsewhere: (N,).

    Multilinear hashing with random weights, modulo 2^64.

    Source: Lemire and Kaser, 2014, https://arxiv.org/abs/1202.4961
    """
    weights = np.random.default_rng(0).integers(0, 2**64, int(np.diff(starts).max(initial=0)), dtype=np.uint64)
    parts = []
    for first, last in blocks(starts):
        held, own = flat[starts[first] : starts[last]], starts[first : last + 1] - starts[first]
        places = np.arange(len(held)) - np.repeat(own[:-1], np.diff(own))
        parts.append(sums((held.astype(np.uint64) + np.uint64(1)) * weights[places], own))
    return _joined(parts)


def stand_in(prints: Prints, others: Prints) -> NDArray[np.bool_]:
    """Which of them stand among others: (N,)."""
    return first_places(prints, others) >= 0


def first_places(prints: Prints, among: Prints) -> NDArray[np.int64]:
    """Where each stands first among others, -1 where it does not: (N,). Only the former are sorted."""
    distinct, place = np.unique(prints, return_inverse=True)
    first = np.full(len(distinct), -1)
    for start in reversed(range(0, len(among) if len(distinct) else 0, BLOCK)):
        some = among[start : start + BLOCK][::-1]
        at = np.searchsorted(distinct, some).clip(max=len(distinct) - 1)
        hits = np.flatnonzero(distinct[at] == some)
        first[at[hits]] = start + len(some) - 1 - hits  # of several rows the first is written last
    found: NDArray[np.int64] = first[place]
    return found


def repeated(prints: Prints) -> NDArray[np.int64]:
    """The rows whose number another row has too, in order; nothing but them is held beside a sorted copy."""
    ranked = np.sort(prints)
    twice = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
    del ranked
    if not len(twice):
        return np.empty(0, np.int64)
    parts = []
    for start in range(0, len(prints), BLOCK):
        some = prints[start : start + BLOCK]
        at = np.searchsorted(twice, some).clip(max=len(twice) - 1)
        parts.append(start + np.flatnonzero(twice[at] == some))
    return np.concatenate(parts)


def first_rows(prints: Prints) -> NDArray[np.int64]:
    """For each row the first that has its number: (N,)."""
    rows, first = repeated(prints), np.arange(len(prints))
    _, earliest, group = np.unique(prints[rows], return_index=True, return_inverse=True)
    first[rows] = rows[earliest[group]]
    return first


def first_of_each(prints: Prints) -> NDArray[np.int64]:
    """The row in which each different one stands first, in the order of the rows."""
    return np.flatnonzero(first_rows(prints) == np.arange(len(prints)))


def blocks(starts: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """From which to before which sequence there are BLOCK numbers together, or one sequence that is longer."""
    first, texts = 0, len(starts) - 1
    while first < texts:
        last = int(np.searchsorted(starts, starts[first] + BLOCK, side="right")) - 1
        last = max(first + 1, min(last, texts))
        yield first, last
        first = last


def sums(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """The sum of each sequence's values; integers wrap around, which the difference of two sums undoes: (N,)."""
    ends = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values, dtype=values.dtype)])
    summed: NDArray[Any] = np.diff(ends[starts])
    return summed


def _of_chunk(texts: pa.Array) -> Prints:
    large = pc.cast(texts, pa.large_string())
    _, offsets, contents = large.buffers()
    starts = np.frombuffer(offsets or bytes(8), np.int64)[large.offset : large.offset + len(large) + 1]
    return of_sequences(np.frombuffer(contents or b"", np.uint8), starts)


def _joined(parts: Iterable[Prints]) -> Prints:
    return np.concatenate([np.empty(0, np.uint64), *parts])
