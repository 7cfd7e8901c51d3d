"""What a vocabulary makes of texts: how much of them it does not know, and which texts it cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtbert.data.tokens import Tokens

BLOCK = 100_000  # texts looked at together, which bounds the memory


class Coverage(NamedTuple):
    """How well a vocabulary covers the texts of a split."""

    unknown: float  # share of the tokens that are the unknown one
    alike: int  # texts, each counted once, whose tokens are those of another text
    blurred: int  # those among them that hold an unknown token: the others differ in case, accents or spaces


def coverage(columns: Sequence[pa.ChunkedArray], tokens: Sequence[Tokens], unknown: int | None) -> Coverage:
    """How well the vocabulary covers the texts (N) of each column, given their tokens and the unknown token's id."""
    total = missing = alike = blurred = 0
    for texts, made in zip(columns, tokens, strict=True):
        prints = _prints(made, unknown)
        distinct = _first_of_each(texts)
        _, group, size = np.unique(prints.hashes[distinct], return_inverse=True, return_counts=True)
        shared = size[group] > 1
        total += len(made.flat)
        missing += int(prints.unknown.sum())
        alike += int(shared.sum())
        blurred += int((shared & (prints.unknown[distinct] > 0)).sum())
    return Coverage(missing / max(total, 1), alike, blurred)


class _Prints(NamedTuple):
    hashes: NDArray[np.uint64]  # (N,) equal where the tokens of two texts are, and all but never elsewhere
    unknown: NDArray[np.int64]  # (N,) unknown tokens of each text


def _prints(tokens: Tokens, unknown: int | None) -> _Prints:
    """Multilinear hashing with random weights, modulo 2^64 (Lemire and Kaser, 2014, arXiv:1202.4961)."""
    weights = np.random.default_rng(0).integers(0, 2**64, int(tokens.lengths.max(initial=0)) + 1, dtype=np.uint64)
    hashes, unknowns = np.empty(len(tokens), np.uint64), np.empty(len(tokens), np.int64)
    for first in range(0, len(tokens), BLOCK):
        rows = slice(first, first + BLOCK)
        starts = tokens.starts[first : first + BLOCK + 1]
        flat = np.asarray(tokens.flat[starts[0] : starts[-1]])
        lengths = np.diff(starts)
        places = np.arange(len(flat)) - np.repeat(starts[:-1] - starts[0], lengths)
        hashes[rows] = _sums((flat.astype(np.uint64) + np.uint64(1)) * weights[places], starts)
        unknowns[rows] = _sums((flat == (-1 if unknown is None else unknown)).astype(np.int64), starts)
    return _Prints(hashes, unknowns)


def _sums(values: NDArray[np.generic], starts: NDArray[np.int64]) -> NDArray[np.generic]:
    """The sum of each text's values; integers wrap around, which the difference of two sums undoes."""
    ends = np.concatenate([np.zeros(1, values.dtype), np.cumsum(values, dtype=values.dtype)])
    summed: NDArray[np.generic] = np.diff(ends[starts - starts[0]])
    return summed


def _first_of_each(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """The row in which each different text stands first."""
    codes = pc.cast(texts, pa.large_string()).dictionary_encode().combine_chunks().indices.to_numpy()
    return np.unique(codes, return_index=True)[1]
