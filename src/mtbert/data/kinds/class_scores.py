"""What a classifier does with each class: precision, recall, F1, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScore:
    """How one class is found."""

    name: str
    precision: float  # of the rows that are said to be of the class, the share that is
    recall: float  # of the rows of the class, the share that is found
    f1: float
    support: int  # rows of the class


@dataclass(frozen=True)
class ClassScores:
    """Every class of a task that labels or predictions name, and the confusion table where a row has one class."""

    classes: list[ClassScore]
    confusion: list[list[int]] | None  # [label][prediction] -> rows; None where a row may have several

    @property
    def unfound(self) -> list[str]:
        """The classes that have rows, none of which is found."""
        return [one.name for one in self.classes if one.support and not one.recall]

    @property
    def unasked(self) -> list[str]:
        """The classes that no row has."""
        return [one.name for one in self.classes if not one.support]


def class_scores(names: Sequence[str], predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> ClassScores:
    """Score every class, for predictions and labels (N,) that are places in `names`.

    Of many classes, those that neither a label nor a prediction names are left out.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # late, as in tasks.py

    seen = np.union1d(predictions, labels).astype(np.int64)
    chosen = np.arange(len(names)) if len(names) <= 20 else seen
    measured = precision_recall_fscore_support(labels, predictions, labels=chosen, zero_division=0)
    scores = [
        ClassScore(names[place], float(precision), float(recall), float(f1), int(support))
        for place, precision, recall, f1, support in zip(chosen, *measured, strict=True)
    ]
    return ClassScores(scores, confusion_matrix(labels, predictions, labels=chosen).tolist())
