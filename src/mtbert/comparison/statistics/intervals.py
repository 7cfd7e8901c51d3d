"""How sure a mean difference is: over new seeds and new rows together, and over new seeds alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from mtbert.comparison.statistics.resampling import Floats


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def crossed_interval(differences: Floats, on_samples: Floats, generator: np.random.Generator) -> Interval:
    """The interval of a mean paired difference over new seeds and new rows, by the crossed bootstrap.

    `differences` are those of S blocks (S,), `on_samples` the same on B samples of the rows (B, S). Every draw takes
    seeds and rows anew. Such draws count the chance in single rows of single runs three times and the chance of seeds
    (S - 1) / S times (Owen, 2007, https://doi.org/10.1214/07-AOAS122); they are therefore stretched to the variance
    that their parts add up to, and to the t distribution with Satterthwaite's degrees of freedom, without which few
    seeds give intervals that are too short. One block has no seeds to draw from: its interval is over rows alone.
    """
    draws, blocks = on_samples.shape
    mean = float(differences.mean())
    chosen = generator.integers(blocks, size=(draws, blocks))
    drawn = np.take_along_axis(on_samples, chosen, axis=1).mean(1)
    variance, freedom = _variance(differences, on_samples)
    spread = drawn.std()
    stretch = np.sqrt(variance) / spread * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975) if spread > 0 else 0.0
    low, high = np.quantile(drawn - drawn.mean(), [0.025, 0.975]) * stretch
    return Interval(mean + float(low), mean + float(high))


def t_interval(differences: Floats) -> Interval | None:
    """The interval of a mean paired difference over new seeds, on these very rows; None for a single block."""
    if len(differences) < 2:
        return None
    margin = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return Interval(float(differences.mean() - margin), float(differences.mean() + margin))


def _variance(differences: Floats, on_samples: Floats) -> tuple[float, float]:
    """The variance of the mean difference over new seeds and new rows, and its degrees of freedom."""
    blocks = len(differences)
    rows = float(on_samples.mean(1).var())
    if blocks == 1:
        return rows, np.inf
    seeds = float(differences.var(ddof=1)) / blocks
    # single rows of single runs: in both terms, and once more in how blocks differ on samples of the rows
    both = max(float(on_samples.var(axis=1, ddof=1).mean()) / blocks - seeds, 0.0)
    variance = max(seeds + rows - both, seeds, rows)
    return variance, (blocks - 1) * (variance / seeds) ** 2 if seeds > 0 else np.inf
