"""How far the scores of a set would move with other rows of the same kind: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, plain

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
    sqrt(ROWS / N) (the m-out-of-n bootstrap). So is every other metric, on ASKED rows at most.

    Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Bickel, Götze and van Zwet,
    Resampling fewer than n observations, Statistica Sinica 7, 1997.
    """
    whole = task.metrics(predictions, labels)
    quick: dict[str, NDArray[np.float64]] = {}
    if task.scored or task.exclusive:
        quick = (_of_scores if task.scored else _of_classes)(plain(task.said(predictions)), plain(labels))
    drawn = ROWS if task.scored else len(labels)
    found = {
        metric: _interval(whole[metric], values, drawn / len(labels))
        for metric, values in quick.items()
        if metric in whole
    }
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


def _of_classes(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    from scipy.sparse import csr_array  # late, as in tasks.py

    names, codes = np.unique(np.concatenate([predictions, labels]), return_inverse=True)
    predicted, true = codes[: len(labels)], codes[len(labels) :]
    cells, counts = np.unique(true * len(names) + predicted, return_counts=True)
    rows, columns = np.divmod(cells, len(names))
    shape, every = (len(cells), len(names)), np.arange(len(cells))
    of_row, of_column = (csr_array((np.ones(len(cells)), (every, place)), shape) for place in (rows, columns))
    found = csr_array(((rows == columns).astype(np.float64), (every, rows)), shape)
    generator = np.random.default_rng(SEED)
    accuracy, macro = [], []
    for block in _blocks(len(cells) + 3 * len(names)):
        drawn = generator.multinomial(len(labels), counts / len(labels), size=block).astype(np.float64)
        hits, support, guessed = drawn @ found, drawn @ of_row, drawn @ of_column
        accuracy.append(hits.sum(1) / len(labels))
        there = support + guessed > 0  # a class that a resample lacks has no F1 in it
        f1 = np.divide(2 * hits, support + guessed, out=np.zeros_like(hits), where=there)
        macro.append(f1.sum(1) / there.sum(1))
    return {"accuracy": np.concatenate(accuracy), "macro_f1": np.concatenate(macro)}


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
