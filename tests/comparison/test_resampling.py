"""Metrics on rows that are drawn anew: the fast ones beside the tasks' own, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from mtbert.comparison.statistics import resampling
from mtbert.comparison.statistics.resampling import MEASURES, resampled
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.labels import Labels, Ragged, plain
from tests.data.test_kinds import of_words, several

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


@pytest.mark.parametrize(
    "task",
    [
        several(),
        several(metric="micro_f1"),
        several(metric="weighted_f1"),
        several(metric="all_right"),
        of_words(),
        of_words(metric="span_recall"),
        of_words(metric="accuracy"),
        of_words(metric="macro_f1"),
    ],
    ids=lambda task: f"{task.kind}, {task.main}",
)
def test_metrics_of_several_labels_and_of_words_are_the_tasks_own_on_the_rows_drawn(task: Task) -> None:
    generator = np.random.default_rng(3)
    lengths = generator.integers(1, 9, 30)
    labels: Labels = generator.integers(0, 2, (30, 3)).astype(float)
    predictions: list[Labels] = [generator.integers(0, 2, (30, 3)).astype(float) for _ in range(3)]
    if task.reads_words:
        labels = Ragged.cut(generator.integers(0, 5, lengths.sum()).astype(float), lengths)
        predictions = [Ragged.cut(generator.integers(0, 5, lengths.sum()).astype(float), lengths) for _ in range(2)]
        predictions.append(Ragged(np.where(np.arange(lengths.sum()) % 7, labels.flat, np.nan), labels.starts))
    else:
        plain(labels)[3, 1] = np.nan  # a gap
    found = resampled(task, predictions, labels, 20, np.random.default_rng(1))
    counts = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), 20)
    expected = [
        [task.metrics(one[rows], labels[rows])[task.main] for one in predictions]
        for rows in (np.repeat(np.arange(30), some) for some in counts)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(np.unique(found[:, 0])) > 3


def test_draws_do_not_depend_on_how_many_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, labels = given(MOOD)
    whole = resampled(MOOD, [*predictions], labels, 20, np.random.default_rng(1))
    monkeypatch.setattr(resampling, "CELLS", 90)  # three draws of 30 rows
    np.testing.assert_array_equal(resampled(MOOD, [*predictions], labels, 20, np.random.default_rng(1)), whole)
