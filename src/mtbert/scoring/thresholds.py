"""When a class is said, so that a metric is best: a threshold for two classes, an offset a class for more, and a
threshold a class where a row has any number of them.

A metric is taken of what many candidates say at once, from their tallies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.data.kinds.base import Task

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SEED = 20_220_505
STARTS = 100  # places, at most, where a search for offsets begins
SEEN = 90_000  # rows times classes that all beginnings look at together, at most, unless the first ones have more
ROUNDS = 10  # over all classes, at most, from each beginning
CELLS = 500_000  # candidates times classes, at most; of more candidates, those at even distances in rank
APART = 1e-9  # logarithms that are nearer to each other than this are one
EQUAL = 1e-12  # metrics that are nearer to each other than this are as good


class Tallies(NamedTuple):
    """What K candidates say of N rows that have one of C classes."""

    right: Floats  # (K, C), rows rightly said to be of each class
    said: Floats  # (K, C), rows said to be of each class
    there: Floats  # (C,), rows of each class; (K, C) where each candidate has rows of its own
    away: Floats  # (K,), how many classes the rows are away from theirs, all together
    squares: Floats  # (K,), the same of the squares
    near: Floats  # (K,), rows that are one class away at most


def metrics_of_thresholds(task: Task) -> list[str]:
    """The metrics of a task that thresholds or offsets can be fitted to; none of scores and of words."""
    measures: Collection[str] = MEASURES if task.exclusive else MEASURES_OF_LABELS if task.independent else ()
    return [name for name in task.all_metrics if name in measures]


def threshold_of(second: Floats, true: NDArray[np.bool_], metric: str) -> float:
    """From which probability of the second of two classes on it is best said, by a metric in MEASURES.

    `second` (N,) are its probabilities, `true` (N,) whether rows are of it. Every probability that occurs is tried, and
    one above all of them; of several that are as good, the one nearest to 0.5 is taken, and set halfway to the next
    probability below it.
    """
    order = np.argsort(-second, kind="stable")
    ends, places = _between(-second[order], -1.0, 0.0, 0.0, len(second) + 1)
    values = MEASURES[metric](_tallies(np.zeros(len(second), np.int64), 1, true[order].astype(np.int64), 2, ends))
    best = np.flatnonzero(values >= values.max() - EQUAL)
    return float(-places[best[np.abs(places[best] + 0.5).argmin()]])


def offsets_of(logs: Floats, labels: Floats, metric: str) -> Floats:
    """What to add to the logarithms of the classes' probabilities (N, C), so that the largest is best: (C,).

    One class after the other gets the best of all offsets that there are, those of the others left as they are, until
    none can be bettered. The search begins without offsets, with classes made equally likely and, where rows and
    classes are few, at places drawn at random, where classes are level for a row; the best of its ends is taken. Their
    mean is 0.

    Source: Och, 2003, section 5, https://aclanthology.org/P03-1021 (the same of the weights of a log-linear model)
    """
    found, best = np.zeros(logs.shape[1]), -np.inf
    for start in _starts(logs):
        offsets, value = _ascended(logs, labels.astype(np.int64), metric, start)
        if value > best + EQUAL:
            found, best = offsets, value
    centred: Floats = found - found.mean()
    return centred


def thresholds_of(probabilities: Floats, labels: Floats, metric: str) -> Floats:
    """Above which probability each of C classes is said, by a metric in MEASURES_OF_LABELS: (N, C), (N, C) -> (C,).

    Labels are 1, 0, or nan where nothing is known. One class after the other gets the best of all thresholds, as in
    `offsets_of`: for a mean over classes this is the best there is.
    """
    rows, classes = labels.shape
    generator = np.random.default_rng(SEED)
    found, best = np.full(classes, 0.5), -np.inf
    for start in range(max(1, min(STARTS, SEEN // labels.size))):
        thresholds = found if not start else probabilities[generator.integers(rows, size=classes), np.arange(classes)]
        thresholds, value = _raised(probabilities, labels, metric, thresholds.copy())
        if value > best + EQUAL:
            found, best = thresholds, value
    return found


def _raised(probabilities: Floats, labels: Floats, metric: str, thresholds: Floats) -> tuple[Floats, float]:
    """Thresholds that no change of a single one betters, and their metric."""
    value = -np.inf
    for _ in range(ROUNDS):
        before = value
        for one in range(len(thresholds)):
            places, tallies = _along_one_label(probabilities, labels, thresholds, one)
            values = MEASURES_OF_LABELS[metric](tallies)
            best = np.flatnonzero(values >= values.max() - EQUAL)
            if values.max() > value + EQUAL:
                value = float(values.max())
                thresholds[one] = places[best[np.abs(places[best] - 0.5).argmin()]]
        if value <= before + EQUAL:
            break
    return thresholds, value


class TalliesOfLabels(NamedTuple):
    """What K candidates say of N rows that have any number of C classes."""

    right: Floats  # (K, C), rows rightly said to have each class
    said: Floats  # (K, C), rows said to have it, where that is known
    there: Floats  # (C,), rows that have it
    whole: Floats  # (K,), the share of rows of which every known label is right


def _along_one_label(
    probabilities: Floats, labels: Floats, thresholds: Floats, one: int
) -> tuple[Floats, TalliesOfLabels]:
    """Every threshold of one class, and the tallies with it; the others' thresholds stay."""
    known, true = ~np.isnan(labels), labels == 1
    said = probabilities > thresholds
    others = (said == true) | ~known
    others[:, one] = True
    rest = others.all(1)
    order = np.argsort(-probabilities[:, one], kind="stable")
    ends, places = _between(-probabilities[order, one], -1.0, 0.0, 0.0, len(labels) + 1)

    def first(some: NDArray[np.bool_]) -> Floats:
        """How many of the rows that are said to have it are some: (K,)."""
        return np.concatenate([[0.0], np.cumsum(some[order])])[ends]

    here, mine = known[:, one], true[:, one]
    whole = [(part & known).sum(0, dtype=np.float64) for part in (said & true, said)]
    right, spoken = (np.repeat(part[None], len(ends), axis=0) for part in whole)
    right[:, one], spoken[:, one] = first(mine), first(here)
    said_right, left_right = rest & (mine | ~here), rest & ~mine  # where nothing is known, both are
    fine = first(said_right) + left_right.sum() - first(left_right)
    return -places, TalliesOfLabels(right, spoken, true.sum(0, dtype=np.float64), fine / len(labels))


def _starts(logs: Floats) -> Iterator[Floats]:
    rows, classes = logs.shape
    yield np.zeros(classes)
    yield -np.log(np.exp(logs).mean(0))
    generator = np.random.default_rng(SEED)
    for _ in range(min(STARTS, SEEN // logs.size) - 2):
        level = generator.integers(rows, size=classes)  # for each class a row to which it is as likely as the first one
        yield logs[level, 0] - logs[level, np.arange(classes)]


def _ascended(logs: Floats, labels: Integers, metric: str, start: Floats) -> tuple[Floats, float]:
    """Offsets that no change of a single one betters, and their metric."""
    offsets, value = start.copy(), -np.inf
    for _ in range(ROUNDS):
        before = value
        for one in range(len(offsets)):
            place, reached = _best_along(logs + offsets, one, labels, metric)
            if reached > value + EQUAL:
                value, offsets[one] = reached, offsets[one] + place
        if value <= before + EQUAL:
            break
    return offsets, value


def _best_along(logs: Floats, one: int, labels: Integers, metric: str) -> tuple[float, float]:
    """What to add to one class's logarithms, so that the metric is best, and the metric then."""
    others = logs.copy()
    others[:, one] = -np.inf
    rivals = others.argmax(1)
    points = others[np.arange(len(logs)), rivals] - logs[:, one]  # from here on a row is said to be of the class
    order = np.argsort(points, kind="stable")
    ends, places = _between(points[order], points.min() - 2, points.max() + 2, APART, CELLS // logs.shape[1])
    values = MEASURES[metric](_tallies(rivals[order], one, labels[order], logs.shape[1], ends))
    best = np.flatnonzero(values >= values.max() - EQUAL)
    chosen = best[np.abs(places[best]).argmin()]
    return float(places[chosen]), float(values[chosen])


def _between(points: Floats, low: float, high: float, apart: float, most: int) -> tuple[Integers, Floats]:
    """Candidates between points (N,) in ascending order and the two ends: how many points lie below each, and where
    it is.
    """
    last = np.append(np.diff(points) > apart, True)
    ends = np.concatenate([[0], np.flatnonzero(last) + 1])
    places = (np.concatenate([[low], points[last]]) + np.concatenate([points[ends[:-1]], [high]])) / 2
    if len(ends) > most:
        chosen = np.unique(np.linspace(0, len(ends) - 1, most).round().astype(np.int64))
        ends, places = ends[chosen], places[chosen]
    return ends, places


def _tallies(rivals: Integers, one: int, labels: Integers, classes: int, ends: Integers) -> Tallies:
    """The tallies where the first of N rows are said to be of class `one`, as many as `ends` (K,) say, and the others
    of their rivals (N,).
    """

    steps = np.searchsorted(ends, np.arange(len(labels)), side="right")  # which candidate is the first to change a row
    hits, wins = rivals == labels, labels == one

    def lost(some: NDArray[np.bool_]) -> Floats:
        """What the rivals had of some rows and have no more: (K, C)."""
        places = (steps * classes + rivals)[some]
        return np.bincount(places, minlength=len(ends) * classes).reshape(-1, classes).cumsum(0).astype(np.float64)

    def changing(before: Floats, after: Floats) -> Floats:
        total: Floats = before.sum() + np.bincount(steps, weights=after - before, minlength=len(ends)).cumsum()
        return total

    said = np.bincount(rivals, minlength=classes) - lost(np.ones(len(labels), dtype=bool))
    right = np.bincount(rivals[hits], minlength=classes) - lost(hits)
    said[:, one] += ends
    right[:, one] += np.concatenate([[0], np.cumsum(wins)])[ends]
    before, after = np.abs(rivals - labels).astype(np.float64), np.abs(one - labels).astype(np.float64)
    return Tallies(
        right,
        said,
        np.bincount(labels, minlength=classes).astype(np.float64),
        changing(before, after),
        changing(before**2, after**2),
        changing((before <= 1).astype(np.float64), (after <= 1).astype(np.float64)),
    )


def _share(part: Floats, whole: Floats) -> Floats:
    """0 where the whole is nothing."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)


def _accuracy(it: Tallies) -> Floats:
    found: Floats = it.right.sum(-1) / it.there.sum(-1)
    return found


def _f1(it: Tallies) -> Floats:
    """Of each class: (K, C)."""
    return _share(2 * it.right, it.said + it.there)


def _macro_f1(it: Tallies) -> Floats:
    named = (it.said + it.there > 0).sum(-1)
    found: Floats = _f1(it).sum(-1) / named
    return found


def _weighted_f1(it: Tallies) -> Floats:
    found: Floats = (_f1(it) * it.there).sum(-1) / it.there.sum(-1)
    return found


def _balanced_accuracy(it: Tallies) -> Floats:
    found: Floats = _share(it.right, it.there).sum(-1) / (it.there > 0).sum(-1)
    return found


def _mcc(it: Tallies) -> Floats:
    """Source: Gorodkin, 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006"""
    rows = it.there.sum(-1)
    together = it.right.sum(-1) * rows - (it.said * it.there).sum(-1)
    spread = (rows**2 - (it.said**2).sum(-1)) * (rows**2 - (it.there**2).sum(-1))
    found: Floats = np.divide(together, np.sqrt(np.maximum(spread, 0)), out=np.zeros_like(together), where=spread > 0)
    return found


def _kappa(it: Tallies) -> Floats:
    rows = it.there.sum(-1)
    chance = (it.said * it.there).sum(-1) / rows**2
    hit = _accuracy(it)
    found: Floats = np.divide(hit - chance, 1 - chance, out=(hit == 1).astype(np.float64), where=chance < 1)
    return found


def _quadratic_kappa(it: Tallies) -> Floats:
    places, rows = np.arange(it.there.shape[-1]), it.there.sum(-1)
    said, there = it.said / rows[..., None], it.there / rows[..., None]
    chance = said @ places**2 + there @ places**2 - 2 * (said @ places) * (there @ places)
    far = it.squares / rows
    found: Floats = 1 - np.divide(far, chance, out=(far > 0).astype(np.float64), where=chance > EQUAL)
    return found


def _off_by_one(it: Tallies) -> Floats:
    found: Floats = it.near / it.there.sum(-1)
    return found


def _mean_absolute_error(it: Tallies) -> Floats:
    """Below 0, so that more is better."""
    found: Floats = -it.away / it.there.sum(-1)
    return found


def _macro_f1_of_labels(it: TalliesOfLabels) -> Floats:
    found: Floats = _share(2 * it.right, it.said + it.there).mean(-1)
    return found


def _micro_f1_of_labels(it: TalliesOfLabels) -> Floats:
    return _share(2 * it.right.sum(-1), it.said.sum(-1) + it.there.sum())


def _weighted_f1_of_labels(it: TalliesOfLabels) -> Floats:
    found: Floats = (_share(2 * it.right, it.said + it.there) * it.there).sum(-1) / max(it.there.sum(), 1)
    return found


# a metric of kinds with any number of classes -> the same of tallies (K,)
MEASURES_OF_LABELS: Mapping[str, Callable[[TalliesOfLabels], Floats]] = {
    "all_right": lambda it: it.whole,
    "macro_f1": _macro_f1_of_labels,
    "micro_f1": _micro_f1_of_labels,
    "weighted_f1": _weighted_f1_of_labels,
}


def _root_mean_square_error(it: Tallies) -> Floats:
    """Below 0, so that more is better."""
    found: Floats = -np.sqrt(it.squares / it.there.sum(-1))
    return found


# a metric of kinds with one of several classes -> the same of tallies (K,), where more is better
MEASURES: Mapping[str, Callable[[Tallies], Floats]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": lambda it: _f1(it)[:, 1],
    "kappa": _kappa,
    "macro_f1": _macro_f1,
    "mcc": _mcc,
    "mean_absolute_error": _mean_absolute_error,
    "micro_f1": _accuracy,  # where a row has one class and is said to have one
    "off_by_one": _off_by_one,
    "qwk": _quadratic_kappa,
    "rmse": _root_mean_square_error,
    "weighted_f1": _weighted_f1,
}
ERRORS = {"mean_absolute_error", "rmse"}  # measures that are the metric with its sign changed
