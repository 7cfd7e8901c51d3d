"""Metrics by name, against scikit-learn and scipy, and how each of them counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from pydantic import ValidationError

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.labels import Ragged, joined
from mtbert.scoring.evaluation import Scores
from mtbert.scoring.intervals import intervals
from mtbert.scoring.zero_shot import best_threshold

SETTINGS: dict[str, dict[str, Any]] = {
    "classification": {"classes": ["a", "b", "c"]},
    "regression": {"range": (0, 4)},
    "ordinal": {"classes": [0, 1, 2, 3, 4]},
    "multilabel": {"classes": ["a", "b", "c"]},
    "tokens": {"classes": ["x", "y"], "scheme": "none"},
}


def task(kind: str, **keys: Any) -> Task:
    return KINDS[kind](**{"name": "t", "text": "text", "label": "label"} | SETTINGS[kind] | keys)


BINARY = {"classes": ["no", "yes"]}
ROWS = 60


def outputs(one: Task, generator: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(generator.normal(size=(ROWS, one.outputs))).float()


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_two_classes_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, ROWS).astype(float)
    logits = outputs(task("classification", **BINARY), generator)
    x, p = logits.argmax(1).numpy(), logits.double().softmax(1)[:, 1].numpy()
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, x),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(y, x),
        "f1": sklearn.metrics.f1_score(y, x),
        "macro_f1": sklearn.metrics.f1_score(y, x, average="macro"),
        "micro_f1": sklearn.metrics.f1_score(y, x, average="micro"),
        "weighted_f1": sklearn.metrics.f1_score(y, x, average="weighted"),
        "mcc": sklearn.metrics.matthews_corrcoef(y, x),
        "kappa": sklearn.metrics.cohen_kappa_score(y, x),
        "auc": sklearn.metrics.roc_auc_score(y, p),
        "average_precision": sklearn.metrics.average_precision_score(y, p),
    }
    one = task("classification", **BINARY, report=list(expected))
    assert set(expected) == set(one.all_metrics)
    assert one.metrics(one.measured(logits), y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_more_classes_and_of_ordered_ones_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for kind, classes in (("classification", 3), ("ordinal", 5)):
        one = task(kind, report=list(task(kind).all_metrics))
        y = generator.integers(0, classes, ROWS).astype(float)
        logits = outputs(one, generator)
        x, p = one.decode(logits), np.stack(list(one.probabilities(logits).values()), axis=1)
        there = np.eye(classes)[y.astype(int)]
        expected = {
            "accuracy": sklearn.metrics.accuracy_score(y, x),
            "macro_f1": sklearn.metrics.f1_score(y, x, average="macro", zero_division=0),
            "micro_f1": sklearn.metrics.f1_score(y, x, average="micro"),
            "weighted_f1": sklearn.metrics.f1_score(y, x, average="weighted", zero_division=0),
            "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(y, x),
            "mcc": sklearn.metrics.matthews_corrcoef(y, x),
            "kappa": sklearn.metrics.cohen_kappa_score(y, x),
            "auc": sklearn.metrics.roc_auc_score(y, p, multi_class="ovr", average="macro"),
            "average_precision": sklearn.metrics.average_precision_score(there, p, average="macro"),
        }
        if kind == "ordinal":
            expected |= {
                "qwk": sklearn.metrics.cohen_kappa_score(y, x, weights="quadratic"),
                "off_by_one": float(np.mean(np.abs(x - y) <= 1)),
                "mean_absolute_error": sklearn.metrics.mean_absolute_error(y, x),
                "rmse": sklearn.metrics.root_mean_squared_error(y, x),
                "spearman": scipy.stats.spearmanr(x, y).statistic,
                "kendall": scipy.stats.kendalltau(x, y).statistic,
            }
        assert set(expected) == set(one.all_metrics)
        assert one.metrics(one.measured(logits), y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_scores_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    y, x = generator.uniform(0, 4, ROWS), generator.uniform(-1, 5, ROWS)
    expected = {
        "pearson": scipy.stats.pearsonr(x, y).statistic,
        "spearman": scipy.stats.spearmanr(x, y).statistic,
        "kendall": scipy.stats.kendalltau(x, y).statistic,
        "r2": sklearn.metrics.r2_score(y, x),
        "rmse": sklearn.metrics.root_mean_squared_error(y, x),
        "mean_absolute_error": sklearn.metrics.mean_absolute_error(y, x),
    }
    one = task("regression", report=list(expected))
    assert set(expected) == set(one.all_metrics)
    assert one.metrics(x, y) == pytest.approx(expected, abs=1e-9)


def test_areas_of_several_labels_are_over_those_that_are_known() -> None:
    generator = np.random.default_rng(0)
    one = task("multilabel", report=["auc", "average_precision"])
    y, logits = generator.integers(0, 2, (ROWS, 3)).astype(float), outputs(one, generator)
    p = logits.double().sigmoid().numpy()
    found = one.metrics(one.measured(logits), y)
    assert found["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(y, p, average="macro"))
    assert found["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(y, p, average="macro"))
    assert found["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(y, p > 0.5, average="macro", zero_division=0))
    y[:40, 0] = np.nan
    by_label = [sklearn.metrics.roc_auc_score(y[40:, 0], p[40:, 0])]
    by_label += [sklearn.metrics.roc_auc_score(y[:, place], p[:, place]) for place in (1, 2)]
    assert one.metrics(one.measured(logits), y)["auc"] == pytest.approx(np.mean(by_label))


def test_an_area_leaves_out_classes_that_no_row_has() -> None:
    one = task("classification", report="auc")
    logits = outputs(one, np.random.default_rng(1))
    y = (np.arange(ROWS) % 2).astype(np.float64)  # nothing of the third class
    p = logits.double().softmax(1).numpy()
    assert one.metrics(one.measured(logits), y)["auc"] == pytest.approx(
        np.mean([sklearn.metrics.roc_auc_score(y == place, p[:, place]) for place in (0, 1)])
    )
    assert one.metrics(one.measured(logits), np.zeros(ROWS))["auc"] == 0.5


# ---- how they count


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_metric_of_every_kind_judges_with_an_interval_and_counts_one_where_all_is_right(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtbert.scoring.intervals.TIMES_ASKED", 12)
    generator = np.random.default_rng(2)
    for name in task(kind).all_metrics:
        one = task(kind, metric=name)
        if kind == "tokens":
            labels: Any = Ragged.of([[0, 1], [1], [0, 0, 1]] * 10)
        elif kind == "multilabel":
            labels = generator.integers(0, 2, (ROWS, 3)).astype(float)
        elif kind == "regression":
            labels = generator.uniform(0, 4, ROWS)
        else:
            labels = np.arange(ROWS) % float(len(one.class_names))
        perfect = one.metrics(labels, labels)
        assert next(iter(perfect)) == name
        assert one.normalised(perfect) == pytest.approx(1)
        constant = one.metrics(one.constantly(labels, labels), labels)
        assert math.isfinite(constant[name])
        assert one.normalised(constant) < 1
        assert one.score(constant) < one.score(perfect)  # more is better, of errors too
        half = joined([labels[: len(labels) // 2], one.constantly(labels, labels)[len(labels) // 2 :]])
        around = intervals(one, half, labels)[name]
        assert around.low < one.metrics(half, labels)[name] < around.high


def test_an_interval_of_an_area_holds_it_and_narrows_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtbert.scoring.intervals.TIMES_ASKED", 100)
    one = task("classification", **BINARY, metric="auc")
    generator = np.random.default_rng(5)
    widths = []
    for rows in (100, 1600):
        y = generator.integers(0, 2, rows).astype(float)
        logits = torch.from_numpy(np.stack([np.zeros(rows), y + generator.normal(size=rows)], axis=1)).float()
        measured = one.measured(logits)
        around, value = intervals(one, measured, y)["auc"], one.metrics(measured, y)["auc"]
        assert around.low < value < around.high
        widths.append(around.high - around.low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.35)  # by the square root of the rows


def test_errors_count_by_the_width_of_their_scale() -> None:
    x, y = np.array([0.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0])
    scored = task("regression", metric="mean_absolute_error")
    assert scored.normalised(scored.metrics(x, y)) == pytest.approx(1 - (1 / 3) / 4)
    levels = task("ordinal", metric="rmse")
    assert levels.normalised(levels.metrics(x, y)) == pytest.approx(1 - math.sqrt(1 / 3) / 4)


def test_correlations_are_halved_and_raised_and_shares_count_as_they_are() -> None:
    for name, value in (("mcc", 0.2), ("kappa", -1.0)):
        one = task("classification", metric=name)
        assert one.normalised({name: value}) == pytest.approx((value + 1) / 2)
    for name in ("auc", "macro_f1", "balanced_accuracy"):
        assert task("classification", metric=name).normalised({name: 0.3}) == 0.3
    assert task("regression", metric="r2").normalised({"r2": -0.5}) == -0.5


def test_what_models_are_kept_by_rises_where_an_error_falls() -> None:
    near, mood = task("regression", metric="rmse"), task("classification")
    scores = [
        Scores.of({"near": near, "mood": mood}, {"near": {"rmse": error, "pearson": 0.5}, "mood": {"accuracy": 0.5}})
        for error in (1.0, 0.5)
    ]
    for measure in ("near", "near.rmse", "overall", "mean"):
        assert scores[0].measures[measure] < scores[1].measures[measure]
    assert scores[1].measures["near.rmse"] == pytest.approx(1 - 0.5 / 4)
    assert scores[1].tasks["near"]["rmse"] == 0.5  # what is shown is the error itself


def test_a_constant_ranks_by_chance() -> None:
    y = np.array([0.0, 1, 1, 0, 1])
    one = task("classification", **BINARY, report=["auc", "average_precision"])
    found = one.metrics(one.constantly(y, y), y)
    assert (found["auc"], found["average_precision"]) == (0.5, pytest.approx(3 / 5))


def test_a_cosine_ranks_pairs_by_itself_and_says_by_its_threshold() -> None:
    cosines, y = np.array([0.1, 0.9, 0.8, 0.4, 0.7]), np.array([0.0, 1, 1, 0, 0])
    one = task("classification", **BINARY, report="auc")
    learned = best_threshold(cosines, y)
    said = np.where(cosines >= learned.cosine, learned.above, 1 - learned.above)
    found = one.metrics(one.beside(said, np.stack([-cosines, cosines], axis=1)), y)
    assert found["auc"] == sklearn.metrics.roc_auc_score(y, cosines)
    assert found["accuracy"] == sklearn.metrics.accuracy_score(y, said)


# ---- what is refused


def test_a_metric_that_a_kind_does_not_have_is_refused_with_those_there_are() -> None:
    for key in ("metric", "report"):
        with pytest.raises(ValidationError, match=r"unknown metric of kind multilabel: 'mcc' \(valid: macro_f1, micro"):
            task("multilabel", **{key: "mcc"})
        with pytest.raises(ValidationError, match="unknown metric of kind regression: 'accuracy'"):
            task("regression", **{key: "accuracy"})
        with pytest.raises(ValidationError, match="unknown metric of kind classification: 'f1'"):
            task("classification", **{key: "f1"})
        with pytest.raises(ValidationError, match="unknown metric of kind tokens: 'auc'"):
            task("tokens", **{key: "auc"})


@pytest.mark.usefixtures("counts_in_the_table")
def test_an_error_without_a_greatest_one_judges_nothing() -> None:
    keys = {"name": "t", "text": "text", "label": "label"}
    with pytest.raises(ValidationError, match="'mean_absolute_error' is an error without a greatest one: judge by one"):
        KINDS["counts"](**keys, metric="mean_absolute_error")
    assert KINDS["counts"](**keys).judged({"mean_absolute_error": 2.0}) == {"mean_absolute_error": -2.0}
