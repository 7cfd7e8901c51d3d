"""Tests of paired differences: over seeds, over rows, for being different and for being alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mtbert.comparison.statistics.resampling import Floats

EXACT = 14  # pairs whose signs are flipped in all ways; more are flipped at random, 2**14 times


def sign_flip_test(differences: Floats) -> float:
    """p of a mean as far from 0 as this one, were the sign of each of the S paired differences a coin's: (S,) -> p.

    Two-sided, and exact up to 14 pairs: five pairs give at least 0.0625, six 0.031, nine 0.0039.
    """
    blocks = len(differences)
    if blocks <= EXACT:
        signs = 1.0 - 2 * (np.arange(2**blocks)[:, None] >> np.arange(blocks) & 1)  # (2**S, S)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(2**EXACT, blocks))
    # means of accuracies are often equal but for rounding, and equal ones are as far from 0 as this one
    rounding = 1e-9 * float(np.abs(differences).sum())
    as_far = np.abs(signs @ differences) >= abs(float(differences.sum())) - rounding
    return float(as_far.mean() if blocks <= EXACT else (as_far.sum() + 1) / (len(signs) + 1))


def mcnemar_test(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """p of two models that are right on other rows, were each such row as likely either's: (N,), (N,) -> p.

    Exact and two-sided (McNemar, 1947, https://doi.org/10.1007/BF02295996).
    """
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def bootstrap_test(on_samples: Floats) -> float:
    """p of a difference whose values on samples of the rows are these, two-sided: (B,) -> p."""
    draws = len(on_samples)
    tail = min(int((on_samples <= 0).sum()), int((on_samples >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (draws + 1))


def across_blocks(p_values: Sequence[float]) -> float:
    """One p for tests of the same rows in several blocks: twice their median, which holds however they depend.

    Source: DiCiccio et al., 2020, https://doi.org/10.1016/j.spl.2020.108865
    """
    return min(1.0, (2 if len(p_values) > 1 else 1) * float(np.median(p_values)))


def equivalence_test(differences: Floats, margin: float) -> float:
    """p of a mean difference that lies within -margin and margin, were the true one outside: the larger of two
    one-sided t tests (Schuirmann, 1987, https://doi.org/10.1007/BF01068419).
    """
    if np.ptp(differences) == 0:
        return float(abs(differences[0]) >= margin)
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


def better_on_a_new_block(differences: Floats) -> float | None:
    """The probability that the difference is above 0 in a block not yet seen, by the t distribution that predicts one
    more of S normal values; None for a single block.
    """
    blocks = len(differences)
    if blocks < 2:
        return None
    spread = differences.std(ddof=1) * np.sqrt(1 + 1 / blocks)
    mean = float(differences.mean())
    return float(stats.t.cdf(mean / spread, blocks - 1)) if spread > 0 else (np.sign(mean) + 1) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values, raised so that the chance of any false finding among them stays what it is for one.

    Source: Holm, 1979, https://www.jstor.org/stable/4615733
    """
    raised = [0.0] * len(p_values)
    so_far = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[index]))
        raised[index] = so_far
    return raised
