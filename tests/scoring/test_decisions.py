"""Decisions: against closed forms and search by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
import torch

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.multilabel import Multilabel
from mtbert.data.labels import plain
from mtbert.errors import Mistake
from mtbert.scoring.decisions import (
    Asked,
    Decision,
    brier,
    cross_validated,
    fit,
    rejection_of,
    temperature_of,
)

BINARY = Classification(name="same", text="text", label="label", classes=["no", "yes"])
FIVE = Classification(name="five", text="text", label="label", classes=5)


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


def test_offsets_are_added_to_the_logarithms_of_what_is_cooled() -> None:
    outputs, labels = drawn(FIVE, 500, 2.0)
    decision = fit(FIVE, outputs, labels, Asked("macro_f1"))
    assert decision.threshold is None
    assert decision.offsets is not None
    assert list(decision.offsets) == list(FIVE.class_names)
    logs = (outputs.double() / decision.temperature).log_softmax(-1).numpy()
    expected = (logs + list(decision.offsets.values())).argmax(1)
    assert plain(decision.decide(FIVE, outputs).predictions).tolist() == expected.tolist()
    assert not decision.says_the_likeliest


def test_held_out_metric_is_scikit_learns_of_what_four_fifths_suggest() -> None:
    """Where one class is rare and the outputs never say it, offsets find it on rows that they were not fitted on."""
    generator = np.random.default_rng(2)
    labels = generator.choice(3, size=1200, p=[0.7, 0.25, 0.05]).astype(float)
    true = np.log([0.7, 0.25, 0.05]) + 1.5 * np.eye(3)[labels.astype(int)] + generator.normal(size=(1200, 3)) * 0.5
    three = Classification(name="three", text="text", label="label", classes=3)
    held = cross_validated(three, torch.from_numpy(true), labels, Asked("macro_f1"))
    before = sklearn.metrics.f1_score(labels, true.argmax(1), average="macro", zero_division=0)
    assert held.metric_before == pytest.approx(before)
    assert held.metric is not None
    assert held.metric > before + 0.05


def test_labels_of_which_any_number_is_there_are_judged_one_by_one() -> None:
    """Twice as sure as it should be: the temperature comes out, errors and Brier score are those of all known labels,
    and thresholds find what is rarely likelier than a half.
    """
    task = Multilabel(name="any", text="text", label="label", classes=["a", "b", "c"])
    generator = np.random.default_rng(6)
    true = generator.normal(size=(3000, 3)) - [0.0, 1.0, 2.0]
    labels = (generator.uniform(size=true.shape) < 1 / (1 + np.exp(-true))).astype(float)
    labels[generator.uniform(size=true.shape) < 0.1] = np.nan
    outputs = torch.from_numpy(2 * true)
    decision = fit(task, outputs, labels, Asked("macro_f1"))
    assert decision.temperature == pytest.approx(2.0, rel=0.1)
    assert decision.thresholds is not None
    assert list(decision.thresholds) == ["a", "b", "c"]
    columns = outputs.sigmoid().numpy()
    cooled = (outputs / decision.temperature).sigmoid().numpy()
    expected = cooled > list(decision.thresholds.values())
    assert (plain(decision.decide(task, outputs).predictions) == expected).all()
    held, known = cross_validated(task, outputs, labels, Asked("macro_f1")), ~np.isnan(labels)
    assert held.brier_before == pytest.approx(2 * sklearn.metrics.brier_score_loss(labels[known], columns[known]))
    assert held.error < held.error_before / 2
    assert held.metric is not None
    assert held.metric_before is not None
    assert held.metric > held.metric_before + 0.02
