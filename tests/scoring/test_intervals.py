"""Bootstrap intervals, beside resampling as it is defined and the normal theory."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import mtbert.scoring.intervals
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.ordinal import Ordinal
from mtbert.data.kinds.regression import Regression
from mtbert.scoring.intervals import intervals

RESAMPLED = [
    "accuracy", "balanced_accuracy", "kappa", "macro_f1", "mcc", "mean_absolute_error", "off_by_one", "qwk", "rmse",
    "weighted_f1",
]  # fmt: skip
YES = Classification(name="yes", text="text", label="mood", classes=["no", "yes"], report=["f1", "mcc", "auc"])
MOOD = Classification(name="mood", text="text", label="mood", classes=["low", "mid", "high"])
NEAR = Regression(name="near", text=["a", "b"], label="score", range=(0, 5))


def classes(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that are right four times in five, and labels of which few are of the last class."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, rows, p=[0.6, 0.3, 0.1]).astype(float)
    return np.where(generator.random(rows) < 0.8, labels, generator.integers(0, 3, rows)), labels


def scores(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.uniform(0, 5, rows)
    return labels + generator.normal(0, 1, rows), labels


def test_classes_are_resampled_as_row_by_row() -> None:
    predictions, labels = classes(300)
    generator = np.random.default_rng(1)
    drawn = [generator.integers(0, 300, 300) for _ in range(2000)]
    by_hand = {
        "accuracy": [accuracy_score(labels[rows], predictions[rows]) for rows in drawn],
        "macro_f1": [f1_score(labels[rows], predictions[rows], average="macro") for rows in drawn],
    }
    found = intervals(MOOD, predictions, labels)
    for metric, values in by_hand.items():
        np.testing.assert_allclose(found[metric], np.quantile(values, [0.025, 0.975]), atol=0.015)


ALL = Ordinal(name="all", text="text", label="mood", classes=["low", "mid", "high"], report=[*RESAMPLED, "auc"])


@pytest.mark.parametrize("of", [3, 2])
def test_every_metric_of_classes_is_resampled_as_row_by_row(of: int) -> None:
    task = ALL if of == 3 else YES
    said, labels = classes(400)
    said, labels = np.minimum(said, of - 1), np.minimum(labels, of - 1)
    generator = np.random.default_rng(2)
    shares = generator.dirichlet(np.ones(of), 400) + 2 * np.eye(of)[said.astype(int)]
    predictions = np.column_stack([said, shares])
    drawn = [generator.integers(0, 400, 400) for _ in range(500)]
    by_hand = [task.metrics(predictions[rows], labels[rows]) for rows in drawn]  # by scikit-learn
    found = intervals(task, predictions, labels)
    assert {*RESAMPLED, "auc"} <= found.keys() or of == 2
    for metric, (low, high) in found.items():
        wanted = np.quantile([one[metric] for one in by_hand], [0.025, 0.975])
        np.testing.assert_allclose([low, high], wanted, atol=0.02 + 0.1 * (wanted[1] - wanted[0]), err_msg=metric)


def test_only_what_no_table_tells_is_asked_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*given: object) -> None:
        raise AssertionError

    monkeypatch.setattr(mtbert.scoring.intervals, "_by_asking", asked)
    said, labels = classes(50)
    quick = Classification(name="q", text="text", label="mood", classes=["low", "mid", "high"], report=["mcc", "auc"])
    intervals(quick, np.column_stack([said, np.eye(3)[said.astype(int)]]), labels)


def test_scores_are_as_wide_as_theory_has_them() -> None:
    """Fisher's z for a bivariate normal pair, with 1 / sqrt(N - 3) for its deviation."""
    generator = np.random.default_rng(0)
    labels = generator.normal(size=2000)
    predictions = 0.6 * labels + 0.8 * generator.normal(size=2000)
    found = intervals(NEAR, predictions, labels)
    z = np.arctanh(NEAR.metrics(predictions, labels)["pearson"])
    np.testing.assert_allclose(found["pearson"], np.tanh(z + np.array([-1.96, 1.96]) / np.sqrt(1997)), atol=0.006)
    assert found["spearman"].low < NEAR.metrics(predictions, labels)["spearman"] < found["spearman"].high


def test_the_intervals_of_very_many_scores_shrink_with_the_root_of_their_number() -> None:
    few, many = (intervals(NEAR, *scores(rows)) for rows in (10_000, 160_000))
    for metric in few:
        ratio = (few[metric].high - few[metric].low) / (many[metric].high - many[metric].low)
        assert ratio == pytest.approx(4, rel=0.15)


def test_the_same_rows_give_the_same_intervals() -> None:
    assert intervals(MOOD, *classes(100)) == intervals(MOOD, *classes(100))
    assert intervals(NEAR, *scores(100)) == intervals(NEAR, *scores(100))


def test_predictions_that_are_all_right_or_all_one_have_intervals_too() -> None:
    labels = np.arange(12.0) % 3
    assert intervals(MOOD, labels, labels)["accuracy"] == (1.0, 1.0)
    assert intervals(NEAR, np.full(12, 2.5), labels)["pearson"] == (0.0, 0.0)


def test_a_million_rows_take_little_memory() -> None:
    predictions, labels = classes(1_000_000)
    tracemalloc.start()
    began = time.process_time()
    intervals(MOOD, predictions, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20  # 16 MiB of rows, their codes and a sort
    assert time.process_time() - began < 20
