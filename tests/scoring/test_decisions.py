"""Decisions: against closed forms and search by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import torch

from mtbert.data.kinds.classification import Classification
from mtbert.data.labels import plain
from mtbert.errors import Mistake
from mtbert.scoring.decisions import (
    THRESHOLD_METRICS,
    Asked,
    Decision,
    brier,
    cross_validated,
    fit,
    rejection_of,
    temperature_of,
    threshold_of,
)

BINARY = Classification(name="same", text="text", label="label", classes=["no", "yes"])
FIVE = Classification(name="five", text="text", label="label", classes=5)

BY_SCIKIT = {
    "accuracy": sklearn.metrics.accuracy_score,
    "balanced_accuracy": sklearn.metrics.balanced_accuracy_score,
    "f1": lambda true, said: sklearn.metrics.f1_score(true, said, zero_division=0),
    "macro_f1": lambda true, said: sklearn.metrics.f1_score(true, said, average="macro", zero_division=0),
    "mcc": sklearn.metrics.matthews_corrcoef,
}


def drawn(task: Classification, rows: int, heat: float, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Outputs that are `heat` times as sure as they should be, and labels drawn from what they should be."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=(rows, task.outputs)) * 1.5
    shares = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    labels = np.array([generator.choice(task.outputs, p=share) for share in shares], dtype=float)
    return torch.from_numpy(true * heat).float(), labels


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_heat_that_was_put_in(heat: float) -> None:
    outputs, labels = drawn(FIVE, 20_000, heat)
    assert temperature_of(FIVE, outputs, labels) == pytest.approx(heat, rel=0.05)


def test_held_out_error_falls_where_the_model_is_too_sure() -> None:
    outputs, labels = drawn(FIVE, 2000, 3.0)
    held = cross_validated(FIVE, outputs, labels, Asked())
    assert held.error < held.error_before / 3
    assert held.brier < held.brier_before


@pytest.mark.parametrize("metric", THRESHOLD_METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_a_threshold_is_as_good_as_the_best_of_all(metric: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    second = np.round(generator.uniform(size=120), 2)  # many of them equal
    true = generator.uniform(size=120) < second**2
    found = threshold_of(second, true, metric)
    measure = BY_SCIKIT[metric]
    tried = [measure(true, second >= threshold) for threshold in [*np.unique(second), 1.01]]
    assert measure(true, second >= found) == pytest.approx(max(tried))


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.9])
def test_a_rejection_keeps_as_many_rows_as_it_can(precision: float) -> None:
    generator = np.random.default_rng(5)
    sure = np.round(generator.uniform(0.5, 1, 300), 2)
    right = generator.uniform(size=300) < sure
    able = [value for value in np.unique(sure) if right[sure >= value].mean() >= precision]
    assert rejection_of(sure, right, precision) == min(able)


def test_a_precision_out_of_reach_says_how_near_one_gets() -> None:
    with pytest.raises(Mistake, match=r"cannot be reached.*the best is 0\.5000"):
        rejection_of(np.array([0.9, 0.9, 0.8]), np.array([True, False, False]), 0.99)


def test_an_unknown_metric_shows_those_there_are() -> None:
    with pytest.raises(Mistake, match="valid: accuracy, balanced_accuracy, f1"):
        threshold_of(np.array([0.5]), np.array([True]), "f2")


def test_brier_is_scikit_learns() -> None:
    outputs, labels = drawn(BINARY, 300, 1.0)
    columns = outputs.double().softmax(-1).numpy()
    assert brier(columns, labels) == pytest.approx(2 * sklearn.metrics.brier_score_loss(labels, columns[:, 1]))


def test_what_is_decided_is_what_was_fitted() -> None:
    outputs, labels = drawn(BINARY, 500, 2.0)
    decision = fit(BINARY, outputs, labels, Asked("f1", 0.9))
    cooled, said, sure = decision.decide(BINARY, outputs)
    columns = (outputs.double() / decision.temperature).softmax(-1).numpy()
    assert torch.allclose(cooled, outputs / decision.temperature)
    assert decision.threshold is not None
    assert sure is not None
    assert plain(said).tolist() == (columns[:, 1] >= decision.threshold).astype(float).tolist()
    assert (plain(said) == labels)[sure].mean() >= 0.9
    assert Decision().decide(BINARY, outputs).outputs is outputs
