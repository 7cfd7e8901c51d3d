"""What can be seen of a task's predictions beside its labels: facts, drawn by whoever shows them.

A kind of task says in `Task.views` which of these it offers; a page draws each by its class and asks no kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]  # (C, C) [label][prediction] -> rows
    ordered: bool = False  # whether the classes are known to stand in an order
    title: str = ""

    @property
    def wrong(self) -> int:
        """Rows off the diagonal."""
        return int(self.counts.sum() - np.trace(self.counts))

    @property
    def off_by_one(self) -> int:
        """Of the wrong rows, those one class away."""
        return int(np.trace(self.counts, 1) + np.trace(self.counts, -1))

    @classmethod
    def of(cls, names: tuple[str, ...], predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> Confusion:
        """Counted from predictions and labels (N,) that are places in `names`."""
        places = labels.astype(np.int64) * len(names) + predictions.astype(np.int64)
        counts = np.bincount(places, minlength=len(names) ** 2).reshape(len(names), len(names))
        return cls(names, counts)


@dataclass(frozen=True)
class Scatter:
    """Scores that were predicted beside those that are true."""

    predicted: NDArray[np.float64]  # (N,)
    true: NDArray[np.float64]  # (N,)
    ends: tuple[float, float]  # of the scale
    title: str = ""


@dataclass(frozen=True)
class Reliability:
    """How sure the model was of what it said, and whether that was right."""

    sure: NDArray[np.float64]  # (M,) probability of what was said
    right: NDArray[np.bool_]  # (M,)
    title: str = ""


View = Confusion | Scatter | Reliability
