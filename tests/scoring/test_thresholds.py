"""Thresholds and offsets: against the metrics that people know and all decisions that there are on small data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.multilabel import Multilabel
from mtbert.data.kinds.ordinal import Ordinal
from mtbert.data.kinds.regression import Regression
from mtbert.scoring.thresholds import MEASURES, metrics_of_thresholds, offsets_of, threshold_of, thresholds_of

TWO = Classification(name="two", text="text", label="label", classes=["no", "yes"])
THREE = Ordinal(name="three", text="text", label="label", classes=["low", "mid", "high"])


ANY = Multilabel(name="any", text="text", label="label", classes=["a", "b"])


def test_metrics_of_every_kind_with_classes_are_there() -> None:
    """All but those of ranks, which tallies do not say; none for scores."""
    assert set(metrics_of_thresholds(TWO)) == set(TWO.all_metrics) - {"auc", "average_precision"}
    assert set(metrics_of_thresholds(THREE)) == set(THREE.all_metrics) - {
        "spearman",
        "kendall",
        "auc",
        "average_precision",
    }
    assert set(MEASURES) == set(metrics_of_thresholds(TWO)) | set(metrics_of_thresholds(THREE))
    assert set(metrics_of_thresholds(ANY)) == set(ANY.all_metrics) - {"auc", "average_precision"}
    assert metrics_of_thresholds(Regression(name="far", text="text", label="label", range=[0, 5])) == []


def taken(task: Task, metric: str, said: np.ndarray, labels: np.ndarray) -> float:
    """The task's own metric, which is scikit-learn's or a formula; an error with its sign turned."""
    own = task.all_metrics[metric]
    return own.take(said.astype(float), labels) * (-1 if own.scale == "error" else 1)


@pytest.mark.parametrize("metric", metrics_of_thresholds(TWO))
@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_is_as_good_as_the_best_of_all(metric: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    second = np.round(generator.uniform(size=120), 2)  # many of them equal
    true = generator.uniform(size=120) < second**2
    found = threshold_of(second, true, metric)
    tried = [taken(TWO, metric, second >= one, true.astype(float)) for one in [*np.unique(second), 1.01]]
    assert taken(TWO, metric, second >= found, true.astype(float)) == pytest.approx(max(tried))


def all_decisions(logs: np.ndarray) -> np.ndarray:
    """Every way in which offsets can decide N rows of three classes: (ways, N).

    What is said changes where two classes are level for a row, on three lines a row in the plane of the second and the
    third class's offsets. Every region between the lines has a corner where two of them cross, and is met by a small
    step from it.
    """
    second, third, between = (logs[:, 0] - logs[:, 1]), (logs[:, 0] - logs[:, 2]), (logs[:, 2] - logs[:, 1])
    corners = [
        *product(second, third),
        *((x, x - e) for x, e in product(second, between)),
        *((y + e, y) for y, e in product(third, between)),
    ]
    steps = [(1e-6 * np.cos(turn), 1e-6 * np.sin(turn)) for turn in np.arange(12) * np.pi / 6 + 0.1]
    places = np.array([[0.0, x + dx, y + dy] for x, y in corners for dx, dy in steps])
    return np.unique((logs[None] + places[:, None]).argmax(-1), axis=0)


@pytest.mark.parametrize("metric", metrics_of_thresholds(THREE))
@pytest.mark.parametrize("seed", range(2))
def test_offsets_are_as_good_as_the_best_of_all_decisions(metric: str, seed: int) -> None:
    generator = np.random.default_rng(100 + seed)
    labels = generator.choice(3, size=11, p=[0.6, 0.3, 0.1]).astype(float)
    logs = generator.normal(size=(11, 3)) + np.eye(3)[labels.astype(int)] * 0.7 + np.log([0.6, 0.3, 0.1])
    found = offsets_of(logs, labels, metric)
    tried = [taken(THREE, metric, said, labels) for said in all_decisions(logs)]
    assert len(tried) > 50
    assert taken(THREE, metric, (logs + found).argmax(1), labels) == pytest.approx(max(tried))
    assert found.mean() == pytest.approx(0)


def test_offsets_undo_what_classes_were_given_at_random() -> None:
    """Shifted by constants, probabilities are as good as before: the shift comes out."""
    generator = np.random.default_rng(3)
    logs = generator.normal(size=(3000, 4)) * 3
    labels = logs.argmax(1).astype(float)
    shift = np.array([1.0, -2.0, 0.5, 0.5])
    assert offsets_of(logs + shift, labels, "accuracy") == pytest.approx(-shift, abs=0.1)


def test_where_rows_are_many_some_candidates_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    logs = generator.normal(size=(2000, 3))
    labels = (logs + generator.normal(size=logs.shape) + [0.0, 0.5, -0.5]).argmax(1).astype(float)
    whole = taken(THREE, "macro_f1", (logs + offsets_of(logs, labels, "macro_f1")).argmax(1), labels)
    monkeypatch.setattr("mtbert.scoring.thresholds.CELLS", 300)
    some = taken(THREE, "macro_f1", (logs + offsets_of(logs, labels, "macro_f1")).argmax(1), labels)
    assert some == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize("metric", metrics_of_thresholds(ANY))
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_of_labels_are_as_good_as_the_best_of_all_pairs(metric: str, seed: int) -> None:
    """Some labels are not known, and some probabilities are equal."""
    generator = np.random.default_rng(200 + seed)
    probabilities = np.round(generator.uniform(size=(18, 2)), 1)
    labels = (generator.uniform(size=(18, 2)) < probabilities**2).astype(float)
    labels[generator.uniform(size=(18, 2)) < 0.15] = np.nan
    take = ANY.all_metrics[metric].take
    pairs = product(np.arange(-0.05, 1.06, 0.1), repeat=2)
    tried = [take((probabilities > pair).astype(float), labels) for pair in pairs]
    found = thresholds_of(probabilities, labels, metric)
    assert take((probabilities > found).astype(float), labels) == pytest.approx(max(tried))
    assert ((found >= 0) & (found <= 1)).all()
