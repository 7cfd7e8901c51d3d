"""Metrics on rows that are drawn anew: the fast ones beside the tasks' own, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from mtbert.comparison.statistics import resampling
from mtbert.comparison.statistics.resampling import MEASURES, resampled
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression

MOOD = Classification(name="mood", text="text", label="label", classes=3)
NEAR = Regression(name="near", text="text", label="label", range=(0, 5))


def given(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of four models, the last of them constant, and labels, on 30 rows."""
    generator = np.random.default_rng(3)
    draw = (lambda shape: generator.integers(0, 3, shape).astype(float)) if task is MOOD else generator.random
    predictions = draw((4, 30))
    predictions[3] = predictions[3, 0]
    return predictions, draw(30)


@pytest.mark.parametrize("task", [MOOD, NEAR], ids=lambda task: task.main)
def test_the_fast_metrics_are_the_tasks_own_on_the_rows_drawn(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = given(task)
    fast = resampled(task, [*predictions], labels, 20, np.random.default_rng(1))
    monkeypatch.delitem(MEASURES, task.main)
    plain = resampled(task, [*predictions], labels, 20, np.random.default_rng(1))
    assert fast.shape == (20, 4)
    np.testing.assert_allclose(fast, plain, atol=1e-12)
    assert len(np.unique(fast[:, 0])) > 3


def test_draws_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = given(MOOD)
    whole = resampled(MOOD, [*predictions], labels, 20, np.random.default_rng(1))
    monkeypatch.setattr(resampling, "CELLS", 90)  # three draws of 30 rows
    np.testing.assert_array_equal(resampled(MOOD, [*predictions], labels, 20, np.random.default_rng(1)), whole)
