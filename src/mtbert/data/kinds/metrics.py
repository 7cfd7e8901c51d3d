"""Metrics by name, of predictions and labels (N,) that are classes or scores, or of the probabilities of classes.

sklearn and scipy are imported late: together they take most of a second, before any training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Metric(NamedTuple):
    """A metric, and what its values mean."""

    take: Callable[[Floats, Floats], float]  # predictions (N,), or probabilities (N, C) where it `ranks`; labels (N,)
    # a share of 1; a correlation from -1 to 1, which counts as (r + 1) / 2; an error, which counts as
    # 1 - error / the width of the scale
    scale: Literal["share", "correlation", "error"] = "share"
    ranks: bool = False  # whether it sees the probabilities of the classes, not what is said

    def counted(self, value: float, width: float | None) -> float:
        """On the scale of `overall`, where 1 is perfect; `width` is that of the labels' scale."""
        if self.scale == "error":
            assert width is not None  # an error judges tasks that have a scale
            return 1 - value / width
        return (value + 1) / 2 if self.scale == "correlation" else value


def accuracy(predictions: Floats, labels: Floats) -> float:
    """The share of rows that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


def f1(average: str, predictions: Floats, labels: Floats) -> float:
    """F1 of the classes that labels or predictions name, averaged as sklearn does; 0 where it is undefined."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, average=average, zero_division=0))


def binary_f1(predictions: Floats, labels: Floats) -> float:
    """F1 of the second class, of two."""
    right = float(((predictions == 1) & (labels == 1)).sum())
    both = float((predictions == 1).sum() + (labels == 1).sum())
    return 2 * right / both if both else 0.0


def balanced_accuracy(predictions: Floats, labels: Floats) -> float:
    """The mean of the recalls of the classes that labels name."""
    return float(np.mean([(predictions[labels == one] == one).mean() for one in np.unique(labels)]))


def matthews(predictions: Floats, labels: Floats) -> float:
    """Matthews' correlation coefficient; 0 where predictions or labels do not vary."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def kappa(predictions: Floats, labels: Floats) -> float:
    """Cohen's kappa: agreement beyond chance; 0 where it is undefined.

    Source: Cohen, 1960, https://doi.org/10.1177/001316446002000104
    """
    from sklearn.metrics import cohen_kappa_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class
        found = float(cohen_kappa_score(labels, predictions))
    return float((predictions == labels).all()) if np.isnan(found) else found


def quadratic_kappa(predictions: Floats, labels: Floats) -> float:
    """Cohen's kappa with weights that grow with the square of the distance: 0 by chance, 1 for no mistake.

    Source: Cohen, 1968, https://doi.org/10.1037/h0026256
    """
    squares = (predictions**2).mean() + (labels**2).mean() - 2 * predictions.mean() * labels.mean()  # by chance
    if squares <= 1e-12:
        return float((predictions == labels).all())  # a single class on both sides
    return float(1 - ((predictions - labels) ** 2).mean() / squares)


def off_by_one(predictions: Floats, labels: Floats) -> float:
    """The share of rows whose class is right or a neighbour of the right one."""
    return float((np.abs(predictions - labels) <= 1).mean())


def mean_absolute_error(predictions: Floats, labels: Floats) -> float:
    """How far predictions are off on average, in classes or in the units of the scores."""
    return float(np.abs(predictions - labels).mean())


def root_mean_square_error(predictions: Floats, labels: Floats) -> float:
    """The root of the mean squared error, in the units of the scores."""
    return float(np.sqrt(np.mean((predictions - labels) ** 2)))


def correlation(name: str, predictions: Floats, labels: Floats) -> float:
    """Scipy's correlation of this name; 0 with what does not vary: a constant predictor has learned nothing."""
    import scipy.stats

    if not (_varies(predictions) and _varies(labels)):
        return 0.0
    return float(getattr(scipy.stats, name)(predictions, labels).statistic)


def r2(predictions: Floats, labels: Floats) -> float:
    """The share of the variance that is explained; 0 where labels do not vary."""
    spread = float(((labels - labels.mean()) ** 2).sum())
    return 1 - float(((labels - predictions) ** 2).sum()) / spread if spread > 0 else 0.0


def area(shares: Floats, labels: Floats) -> float:
    """The area under the ROC curve of the second class, of two; of more classes the mean over each against the rest.

    0.5 is by chance. Classes that every row has, or none, are left out; 0.5 where none is left.

    Source: Hanley and McNeil, 1982, https://doi.org/10.1148/radiology.143.1.7063747
    """
    from sklearn.metrics import roc_auc_score

    return _mean_over_classes(roc_auc_score, shares, labels, 0.5)


def average_precision(shares: Floats, labels: Floats) -> float:
    """The precision over all thresholds, weighed by the recall that each adds: of the second class, of two; of more
    classes the mean over each against the rest. Classes that every row has, or none, are left out.
    """
    from sklearn.metrics import average_precision_score

    return _mean_over_classes(average_precision_score, shares, labels, 0.0)


def area_of_labels(shares: Floats, labels: Floats) -> float:
    """The mean over several labels (N, C) of the area under each one's ROC curve, where it is known."""
    from sklearn.metrics import roc_auc_score

    return _mean_over_labels(roc_auc_score, shares, labels, 0.5)


def average_precision_of_labels(shares: Floats, labels: Floats) -> float:
    """The mean over several labels (N, C) of each one's average precision, where it is known."""
    from sklearn.metrics import average_precision_score

    return _mean_over_labels(average_precision_score, shares, labels, 0.0)


CLASSES: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy),
    "macro_f1": Metric(partial(f1, "macro")),
    "micro_f1": Metric(partial(f1, "micro")),
    "weighted_f1": Metric(partial(f1, "weighted")),
    "balanced_accuracy": Metric(balanced_accuracy),
    "mcc": Metric(matthews, "correlation"),
    "kappa": Metric(kappa, "correlation"),
}
BINARY: Mapping[str, Metric] = {"f1": Metric(binary_f1)}
RANKED: Mapping[str, Metric] = {
    "auc": Metric(area, ranks=True),
    "average_precision": Metric(average_precision, ranks=True),
}
ORDERED: Mapping[str, Metric] = {
    "qwk": Metric(quadratic_kappa, "correlation"),
    "accuracy": Metric(accuracy),
    "off_by_one": Metric(off_by_one),
    "mean_absolute_error": Metric(mean_absolute_error, "error"),
    **{name: metric for name, metric in CLASSES.items() if name != "accuracy"},
    "spearman": Metric(partial(correlation, "spearmanr"), "correlation"),
    "kendall": Metric(partial(correlation, "kendalltau"), "correlation"),
    "rmse": Metric(root_mean_square_error, "error"),
    **RANKED,
}
SCORES: Mapping[str, Metric] = {
    "pearson": Metric(partial(correlation, "pearsonr"), "correlation"),
    "spearman": Metric(partial(correlation, "spearmanr"), "correlation"),
    "rmse": Metric(root_mean_square_error, "error"),
    "kendall": Metric(partial(correlation, "kendalltau"), "correlation"),
    "r2": Metric(r2),
    "mean_absolute_error": Metric(mean_absolute_error, "error"),
}


def _mean_over_classes(of_one: Callable[[Any, Any], float], shares: Floats, labels: Floats, none: float) -> float:
    places = [1] if shares.shape[1] == 2 else range(shares.shape[1])
    there = np.stack([labels == place for place in places], axis=1).astype(np.float64)
    return _mean_over_labels(of_one, shares[:, list(places)], there, none)


def _mean_over_labels(of_one: Callable[[Any, Any], float], shares: Floats, labels: Floats, none: float) -> float:
    found = []
    for share, there in zip(shares.T, labels.T, strict=True):
        known = ~np.isnan(there)
        if 0 < there[known].sum() < known.sum():
            found.append(of_one(there[known], share[known]))
    return float(np.mean(found)) if found else none


def _varies(values: Any) -> bool:
    """Whether values differ by more than their rounding."""
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())
