"""A task's main metric on rows that are drawn anew: what a bootstrap over rows needs, for many models at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, plain

Floats = NDArray[np.float64]
CELLS = 4_000_000  # of a table of draws that are held at a time


def resampled(
    task: Task, predictions: Sequence[Labels], labels: Labels, draws: int, generator: np.random.Generator
) -> Floats:
    """What R models are judged by on `draws` samples of the N rows, the same for all: (draws, R).

    It is the task's main metric, or, of an error, as that counts in `overall`.
    """
    rows = len(labels)
    measure = _measure(task, predictions, labels)
    chunk = max(1, CELLS // rows)
    even = np.full(rows, 1 / rows)
    return np.concatenate(
        [measure(generator.multinomial(rows, even, min(chunk, draws - start))) for start in range(0, draws, chunk)]
    )


def accuracies(predictions: Floats, labels: Floats, counts: NDArray[np.int64]) -> Floats:
    """The share of rows that are right, each row as often as it was drawn: (R, N), (N,), (B, N) -> (B, R)."""
    right = (predictions == labels).astype(np.float64)
    shares: Floats = counts.astype(np.float64) @ right.T / len(labels)
    return shares


def correlations(predictions: Floats, labels: Floats, counts: NDArray[np.int64]) -> Floats:
    """Pearson's r, each row as often as it was drawn, 0 where it is undefined: (R, N), (N,), (B, N) -> (B, R)."""
    weights = counts / len(labels)
    x, y = predictions - predictions.mean(1, keepdims=True), labels - labels.mean()
    mean_x, mean_y = weights @ x.T, weights @ y  # (B, R), (B,)
    covariance = weights @ (x * y).T - mean_x * mean_y[:, None]
    varied = (weights @ (x * x).T - mean_x**2) * (weights @ (y * y) - mean_y**2)[:, None]
    defined = varied > 1e-24
    found: Floats = np.where(defined, covariance / np.sqrt(np.where(defined, varied, 1.0)), 0.0)
    return found


def quadratic_kappas(predictions: Floats, labels: Floats, counts: NDArray[np.int64]) -> Floats:
    """Quadratic weighted kappa, each row as often as it was drawn: (R, N), (N,), (B, N) -> (B, R)."""
    weights = counts / len(labels)
    x, y = predictions.T, labels
    by_chance = weights @ x**2 + (weights @ y**2)[:, None] - 2 * (weights @ x) * (weights @ y)[:, None]
    apart = weights @ (x - y[:, None]) ** 2
    varied = by_chance > 1e-12
    found: Floats = np.where(varied, 1 - apart / np.where(varied, by_chance, 1.0), apart == 0)
    return found


MEASURES: dict[str, Callable[[Floats, Floats, NDArray[np.int64]], Floats]] = {
    "accuracy": accuracies,
    "pearson": correlations,
    "qwk": quadratic_kappas,
}


def _measure(task: Task, predictions: Sequence[Labels], labels: Labels) -> Callable[[NDArray[np.int64]], Floats]:
    """The main metric of all models where each row counts as often as it was drawn: (B, N) -> (B, R)."""
    if task.main in MEASURES and (task.scored or task.exclusive):
        said = np.stack([plain(task.said(one)) for one in predictions])
        return partial(MEASURES[task.main], said, plain(labels))
    tallies = [tally for one in predictions if (tally := task.tallies(task.said(one), labels)) is not None]
    if len(tallies) == len(predictions):
        return partial(_by_tallies, task, np.stack(tallies))
    return partial(_one_by_one, task, predictions, labels)


def _by_tallies(task: Task, tallies: Floats, counts: NDArray[np.int64]) -> Floats:
    """A metric of sums over rows: (R, N, K), (B, N) -> (B, R)."""
    models, rows, kinds = tallies.shape
    sums = counts.astype(np.float64) @ tallies.transpose(1, 0, 2).reshape(rows, models * kinds)
    return task.of_tallies(sums.reshape(len(counts), models, kinds))


def _one_by_one(task: Task, predictions: Sequence[Labels], labels: Labels, counts: NDArray[np.int64]) -> Floats:
    """Any other metric, by asking the task anew for every sample and model."""
    rows = [np.repeat(np.arange(len(labels)), some) for some in counts]
    return np.array([[task.score(task.metrics(one[chosen], labels[chosen])) for one in predictions] for chosen in rows])
