"""What is kept and when a stage ends, on scripted scores."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mtbert
import mtbert.experiment
from mtbert.results.evaluation import Scores
from mtbert.training.stages import Keeper


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.5, 0.6, 0.55, 0.7], [True, True, False, True]),
        ([0.5, 0.5, 0.5], [True, False, False]),  # strictly better, so a tie keeps the earlier
        ([-0.4, -0.3, -0.35], [True, True, False]),  # below zero counts too: the best begins at minus infinity
        ([0.5, math.nan, 0.6], [True, False, True]),
        ([math.nan, 0.1], [False, True]),
    ],
)
def test_a_score_is_kept_where_it_is_strictly_better_than_all_before(scores: list[float], kept: list[bool]) -> None:
    keeper = Keeper()
    assert [keeper.take(score) for score in scores] == kept


@pytest.mark.parametrize(
    ("patience", "scores", "satisfied"),
    [
        (1, [0.5, 0.6, 0.6], [False, False, True]),
        (2, [0.5, 0.4, 0.6, 0.6, 0.5], [False, False, False, False, True]),
        (3, [0.5, 0.4, 0.4], [False, False, False]),
        (None, [0.5] * 20, [False] * 20),
    ],
)
def test_a_stage_ends_after_patience_evaluations_without_a_better_one(
    patience: int | None, scores: list[float], satisfied: list[bool]
) -> None:
    keeper = Keeper(patience)
    found = []
    for score in scores:
        keeper.take(score)
        found.append(keeper.satisfied)
    assert found == satisfied


def scripted(monkeypatch: pytest.MonkeyPatch, script: list[tuple[float, float, float]]) -> None:
    """Evaluations that say mood, same and near, one after the other."""
    coming: Iterator[tuple[float, float, float]] = iter(script)

    def evaluate(model: Any, sets: Any) -> Scores:
        values = dict(zip(("mood", "same", "near"), next(coming), strict=True))
        return Scores({name: {"metric": value} for name, value in values.items()}, values)

    monkeypatch.setattr(mtbert.experiment, "evaluate", evaluate)


SCRIPT = [(0.30, 0.5, 0.6), (0.35, 0.5, 0.7), (0.20, 0.9, 0.8), (0.40, 0.4, 0.3)]


@pytest.mark.parametrize(("rule", "step"), [("overall", 9), ("mood", 12), ("same", 9), ("near", 9)])
def test_a_run_keeps_the_step_that_its_rule_likes_best(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, step: int
) -> None:
    scripted(monkeypatch, SCRIPT)
    small_recipe["stages"][0]["evaluate_every"] = 3
    run = mtbert.train(small_recipe | {"keep": rule}, out=tmp_path / "run")
    assert (run.scores["step"], run.scores["keep"]) == (step, rule)


def test_early_stopping_ends_a_stage_and_the_next_begins_from_the_kept_model(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [(0.5,) * 3, (0.4,) * 3, (0.4,) * 3, (0.3,) * 3, (0.6,) * 3])
    first = small_recipe["stages"][0] | {"evaluate_every": 2, "patience": 2}
    second = small_recipe["stages"][0] | {"steps": 4, "evaluate_every": 2, "train": "heads"}
    run = mtbert.train(small_recipe | {"stages": [first, second]}, out=tmp_path / "run")
    records = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    evaluated = [(one["stage"], one["step"], one["kept"]) for one in records if "scores" in one]
    # a stage is judged against the best of all before it
    assert evaluated == [(0, 2, True), (0, 4, False), (0, 6, False), (1, 2, False), (1, 4, True)]
    assert sum("lr" in one and one["stage"] == 0 for one in records) == 6
    assert (run.scores["stage"], run.scores["step"]) == (1, 4)
