"""How far the scores of a set would move with other rows of the same kind: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, plain
from mtbert.scoring.thresholds import ERRORS, MEASURES, Tallies

TIMES = 1000  # resamples
ROWS = 10_000  # drawn for one resample of scores; of more rows, these tell how far the whole would move
TIMES_ASKED, ASKED = 200, 2_000  # resamples, and rows in each, where a task has to be asked for its metric
BLOCK = 1 << 20  # numbers held at a time
SEED = 20_220_501


class Interval(NamedTuple):
    """Between these a metric lies in 95 of 100 resamples."""

    low: float
    high: float


def intervals(task: Task, predictions: Labels, labels: Labels) -> dict[str, Interval]:
    """The 95 % percentile interval of each metric, for predictions and labels of N rows, always the same for the same.

    Classes are resampled as a confusion table, which is exact and costs the same for any number of rows. Scores are
    resampled row by row; of more than ROWS rows, only so many are drawn at a time, and the deviations scaled by
    sqrt(ROWS / N) (the m-out-of-n bootstrap). So are areas under curves and every other metric, on ASKED rows at most.

    Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Bickel, Götze and van Zwet,
    Resampling fewer than n observations, Statistica Sinica 7, 1997.
    """
    whole = task.metrics(predictions, labels)
    quick: dict[str, NDArray[np.float64]] = {}
    if task.scored:
        quick = _of_scores(plain(task.said(predictions)), plain(labels))
    elif task.exclusive:
        quick = _of_classes(plain(task.said(predictions)), plain(labels), whole)
    drawn = ROWS if task.scored else len(labels)
    found = {
        metric: _interval(whole[metric], values, drawn / len(labels))
        for metric, values in quick.items()
        if metric in whole
    }
    if task.exclusive and "auc" in whole:
        found["auc"] = _interval(whole["auc"], _areas(task.sure(predictions), plain(labels)), ASKED / len(labels))
    if whole.keys() - found.keys():
        asked = _by_asking(task, predictions, labels)
        found |= {
            metric: _interval(whole[metric], values, ASKED / len(labels))
            for metric, values in asked.items()
            if metric not in found
        }
    return {metric: found[metric] for metric in whole}


def _by_asking(task: Task, predictions: Labels, labels: Labels) -> dict[str, NDArray[np.float64]]:
    """Metrics that only the task knows how to take, fewer times and on fewer rows."""
    generator = np.random.default_rng(SEED)
    drawn = [generator.integers(0, len(labels), min(len(labels), ASKED)) for _ in range(TIMES_ASKED)]
    found = [task.metrics(predictions[rows], labels[rows]) for rows in drawn]
    return {metric: np.array([one[metric] for one in found]) for metric in found[0]}


def _interval(whole: float, values: NDArray[np.float64], drawn: float) -> Interval:
    """Around the whole's metric, from its values on resamples of this share of the rows."""
    scale = np.sqrt(min(1.0, drawn))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(whole + scale * (float(low) - whole), whole + scale * (float(high) - whole))


def _of_classes(
    predictions: NDArray[np.float64], labels: NDArray[np.float64], metrics: Collection[str]
) -> dict[str, NDArray[np.float64]]:
    """Those of the metrics that can be taken of a confusion table."""
    from scipy.sparse import csr_array  # late, as in tasks.py

    predicted, true = predictions.astype(np.int64), labels.astype(np.int64)
    classes = max(2, int(max(predicted.max(), true.max())) + 1)  # F1 is of the second of two
    cells, counts = np.unique(true * classes + predicted, return_counts=True)
    rows, columns = np.divmod(cells, classes)
    shape, every = (len(cells), classes), np.arange(len(cells))
    of_row, of_column = (csr_array((np.ones(len(cells)), (every, place)), shape) for place in (rows, columns))
    right = csr_array(((rows == columns).astype(np.float64), (every, rows)), shape)
    away = np.abs(rows - columns).astype(np.float64)
    generator = np.random.default_rng(SEED)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics if name in MEASURES}
    for block in _blocks(len(cells) + 3 * classes):
        drawn = generator.multinomial(len(labels), counts / len(labels), size=block).astype(np.float64)
        tallies = Tallies(
            drawn @ right, drawn @ of_column, drawn @ of_row, drawn @ away, drawn @ away**2, drawn @ (away <= 1)
        )
        for name, values in found.items():
            values.append(MEASURES[name](tallies) * (-1 if name in ERRORS else 1))
    return {name: np.concatenate(values) for name, values in found.items()}


def _areas(shares: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """`metrics.area` of resamples, by ranks: shares (N, C), labels (N,)."""
    from scipy.stats import rankdata  # late, as in tasks.py

    drawn = np.random.default_rng(SEED).integers(0, len(labels), (TIMES_ASKED, min(len(labels), ASKED)))
    size, found = drawn.shape[1], []
    for place in [1] if shares.shape[1] == 2 else range(shares.shape[1]):
        there = labels[drawn] == place
        many = there.sum(1)
        above = (rankdata(shares[drawn, place], axis=1) * there).sum(1) - many * (many + 1) / 2
        some = (many > 0) & (many < size)  # a class that every row has, or none, is left out
        found.append(np.divide(above, many * (size - many), out=np.full(len(drawn), np.nan), where=some))
    counted = ~np.isnan(found)
    total = np.nansum(found, axis=0)
    areas: NDArray[np.float64] = np.divide(total, counted.sum(0), out=np.full(len(drawn), 0.5), where=counted.any(0))
    return areas


def _of_scores(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    from scipy.stats import rankdata  # late, as in tasks.py

    generator = np.random.default_rng(SEED)
    size = min(len(labels), ROWS)
    found: dict[str, list[NDArray[np.float64]]] = {"pearson": [], "spearman": [], "rmse": []}
    for block in _blocks(size):
        drawn = generator.integers(0, len(labels), (block, size))
        x, y = predictions[drawn], labels[drawn]
        found["pearson"].append(_correlations(x, y))
        found["spearman"].append(_correlations(rankdata(x, axis=1), rankdata(y, axis=1)))
        found["rmse"].append(np.sqrt(((x - y) ** 2).mean(1)))
    return {metric: np.concatenate(values) for metric, values in found.items()}


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation in each row, 0 where one of the two does not vary: (R, N), (R, N) -> (R,)."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    spread = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    both: NDArray[np.float64] = (x * y).sum(1)
    found: NDArray[np.float64] = np.divide(both, spread, out=np.zeros_like(both), where=spread > 1e-12)
    return found


def _blocks(width: int) -> Iterator[int]:
    """How many resamples to draw at a time, each `width` numbers wide."""
    most, left = max(1, BLOCK // width), TIMES
    while left:
        yield min(most, left)
        left -= min(most, left)


def spans(found: Mapping[str, Interval]) -> dict[str, list[float]]:
    """Intervals as JSON holds them."""
    return {metric: [interval.low, interval.high] for metric, interval in found.items()}
