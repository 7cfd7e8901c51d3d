"""What a design can see before anything is run, and what a search over several trials can be expected to reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

import numpy as np
from scipy import optimize, stats

ALPHA, POWER = 0.05, 0.8
USUAL_SPREAD = 0.003  # standard deviation of `overall` from seed to seed, measured in benchmarks/RESULTS.md


def power_of(difference: float, blocks: int, spread: float = USUAL_SPREAD) -> float:
    """The chance that a paired t test over so many blocks finds a difference, with a deviation of `spread` a run.

    Both runs of a pair vary, so that their difference has a deviation of spread * sqrt(2).
    """
    shift = difference / (spread * math.sqrt(2)) * math.sqrt(blocks)
    # of the right sign: the other tail holds next to nothing, and scipy has no number for it far out
    return float(stats.nct.sf(stats.t.ppf(1 - ALPHA / 2, blocks - 1), blocks - 1, shift))


def blocks_needed(difference: float, spread: float = USUAL_SPREAD) -> int:
    """The fewest blocks with which a difference is found in 80 % of all cases.

    >>> [blocks_needed(difference) for difference in (0.01, 0.006, 0.004, 0.003)]
    [4, 7, 11, 18]
    """
    return next(blocks for blocks in count(2) if power_of(difference, blocks, spread) >= POWER)


def smallest_seen(blocks: int, spread: float = USUAL_SPREAD) -> float | None:
    """The smallest difference that so many blocks find in 80 % of all cases; None for a single block."""
    if blocks < 2:
        return None
    enough = next(spread * 2.0**units for units in count(-8) if power_of(spread * 2.0**units, blocks, spread) >= POWER)
    return float(optimize.brentq(lambda size: power_of(size, blocks, spread) - POWER, enough / 2, enough))


def fewest_for_a_verdict(tests: int) -> int:
    """The fewest blocks with which the smallest p of a sign-flip test is below 0.05 after Holm's correction.

    >>> [fewest_for_a_verdict(tests) for tests in (1, 2, 6)]
    [6, 7, 8]
    """
    return next(blocks for blocks in count(1) if 2 ** (1 - blocks) * max(tests, 1) < ALPHA)


def expected_best(scores: Sequence[float], trials: int) -> float:
    """The score that the best of so many trials is expected to reach, the trials drawn from those that were made.

    Source: Dodge et al., 2019, https://doi.org/10.18653/v1/D19-1224
    """
    ordered = np.sort(scores)
    below = np.arange(len(ordered) + 1) / len(ordered)
    return float((ordered * np.diff(below**trials)).sum())
