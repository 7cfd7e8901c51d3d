"""The labels of N rows, and predictions in their units: one number a row, several, or one for each word of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

STARTS = ".starts"  # a point, which stands in no name of a task

Rows = NDArray[np.int64] | NDArray[np.bool_] | slice


@dataclass(frozen=True, eq=False)
class Ragged:
    """Numbers of N rows end to end, as many in each row as there are, and where each row starts.

    >>> words = Ragged.of([[0, 2], [], [1]])
    >>> len(words), [row.tolist() for row in words[np.array([2, 0])]]
    (3, [[1.0], [0.0, 2.0]])
    """

    flat: NDArray[np.float64]
    starts: NDArray[np.int64]  # (N + 1,), the last of which is the end of the last row

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> Self:
        """From the numbers of each row."""
        parts = [np.asarray(row, dtype=np.float64) for row in rows]
        return cls.cut(np.concatenate([np.empty(0), *parts]), np.array([len(part) for part in parts], np.int64))

    @classmethod
    def cut(cls, flat: NDArray[np.float64], lengths: NDArray[np.int64]) -> Self:
        """From numbers end to end, and how many of them each row has."""
        return cls(flat, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, rows: Rows) -> Self:
        """Some of the rows, in the order in which they are named."""
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths[chosen]
        ends = np.cumsum(lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
        return self.cut(self.flat[within + np.repeat(self.starts[chosen], lengths)], lengths)

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        for start, end in zip(self.starts, self.starts[1:], strict=False):
            yield self.flat[start:end]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many numbers each row has: (N,)."""
        return np.diff(self.starts)

    def padded(self, fill: float) -> NDArray[np.float64]:
        """(N, W), the longest row W long: after the end of a row stands `fill`."""
        lengths = self.lengths
        table = np.full((len(self), int(lengths.max(initial=0))), fill)
        table[np.arange(table.shape[1]) < lengths[:, None]] = self.flat
        return table


# (N,), a class or a score, or (N, C), one number for each of C labels, nan where a label is missing; or one a word
Labels = NDArray[np.float64] | Ragged


def same(one: Labels, other: Labels) -> NDArray[np.bool_]:
    """Which rows have the same labels in both; a missing label is the same as a missing one: (N,).

    >>> same(np.array([[0, np.nan], [0, 1]]), np.array([[0, np.nan], [0, np.nan]])).tolist()
    [True, False]
    """
    if isinstance(one, Ragged) or isinstance(other, Ragged):
        assert isinstance(one, Ragged)  # both are of one task
        assert isinstance(other, Ragged)
        width = max(one.lengths.max(initial=0), other.lengths.max(initial=0))
        one, other = (_widened(side.padded(-1.0), int(width)) for side in (one, other))
    alike = (one == other) | (np.isnan(one) & np.isnan(other))
    return np.asarray(alike if alike.ndim == 1 else alike.all(1), dtype=np.bool_)


def joined(parts: Sequence[Labels]) -> Labels:
    """The labels of several sets of rows of one task, one set after the other."""
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return Ragged.cut(
            np.concatenate([part.flat for part in ragged]), np.concatenate([part.lengths for part in ragged])
        )
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def as_arrays(name: str, labels: Labels) -> dict[str, NDArray[np.generic]]:
    """The arrays that hold the labels, by names that begin with this one, to be hashed or written."""
    return {name: labels.flat, name + STARTS: labels.starts} if isinstance(labels, Ragged) else {name: labels}


def from_arrays(arrays: Mapping[str, Any]) -> dict[str, Labels]:
    """Name -> the labels that `as_arrays` took apart under this name."""
    return {
        name: Ragged(arrays[name], arrays[name + STARTS]) if name + STARTS in arrays else arrays[name]
        for name in arrays
        if not name.endswith(STARTS)
    }


def plain(labels: Labels) -> NDArray[np.float64]:
    """The labels of a task that has as many in each row: (N,) or (N, C)."""
    assert not isinstance(labels, Ragged)
    return labels


def _widened(table: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.pad(table, ((0, 0), (0, width - table.shape[1])), constant_values=-1.0)
