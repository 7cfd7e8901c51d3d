"""Intervals of paired differences: how often they hold the truth, on simulated tables of seeds and rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mtbert.comparison.statistics.intervals import crossed_interval, t_interval

ROWS, TABLES, DRAWS = 150, 1000, 500


def tables(blocks: int, seeds: float, rows: float, single: float) -> np.ndarray:
    """Differences by table, block and row, whose mean is 0: seeds vary, rows vary, and single rows of single runs."""
    generator = np.random.default_rng(blocks)
    by_block = seeds * generator.standard_normal((TABLES, blocks, 1))
    by_row = rows * generator.standard_normal((TABLES, 1, ROWS))
    return by_block + by_row + single * generator.standard_normal((TABLES, blocks, ROWS))


@pytest.mark.parametrize(
    ("seeds", "rows", "single"),
    [(0.03, 0.0, 0.3), (0.01, 0.2, 0.3), (0.03, 0.3, 0.1)],
    ids=["seeds vary most", "single rows vary most", "rows vary most"],
)
def test_the_crossed_bootstrap_covers_the_truth_in_95_of_100(seeds: float, rows: float, single: float) -> None:
    generator = np.random.default_rng(0)
    counts = generator.multinomial(ROWS, np.full(ROWS, 1 / ROWS), DRAWS) / ROWS
    simulated = tables(8, seeds, rows, single)
    on_samples = (counts @ simulated.reshape(-1, ROWS).T).reshape(DRAWS, TABLES, 8)
    found = [crossed_interval(table.mean(1), on_samples[:, index], generator) for index, table in enumerate(simulated)]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.93 <= covered <= 0.97


def test_a_single_block_has_an_interval_over_rows_alone() -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(0.1, 1.0, 400)
    counts = generator.multinomial(400, np.full(400, 1 / 400), 4000) / 400
    low, high = crossed_interval(rows.mean(keepdims=True), (counts @ rows)[:, None], generator)
    margin = 1.96 * rows.std() / 20  # the normal theory of a mean
    assert low == pytest.approx(rows.mean() - margin, abs=0.01)
    assert high == pytest.approx(rows.mean() + margin, abs=0.01)


def test_methods_that_do_not_differ_have_an_interval_of_no_width() -> None:
    assert crossed_interval(np.zeros(4), np.zeros((50, 4)), np.random.default_rng(0)) == (0.0, 0.0)


def test_the_t_interval_is_scipys_and_a_single_block_has_none() -> None:
    differences = np.array([0.01, 0.03, -0.002, 0.014, 0.02])
    assert t_interval(differences) == pytest.approx(tuple(stats.ttest_1samp(differences, 0).confidence_interval(0.95)))
    assert t_interval(differences[:1]) is None
