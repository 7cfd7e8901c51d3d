"""A listener may end training; what is left goes on to the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mtbert
import mtbert.runs.stage
from mtbert.model.multitask import MultiTask
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener, Listeners
from mtbert.runs.log import Evaluation, Note, Step
from mtbert.scoring.evaluation import Scores
from mtbert.training.trainer import Record
from tests.support.cut_off import assert_same_run


class StopAfter(Listener):
    """Has had enough after so many steps, over all stages."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, record: Record) -> None:
        self.left -= 1

    def reason_to_stop(self) -> str | None:
        return "the window closes" if self.left <= 0 else None


@pytest.fixture(autouse=True)
def _scores_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that depend on the weights alone, high as often as low, so that some models are kept and some undone."""

    def evaluate(model: MultiTask, sets: dict[str, Any], world: Any) -> Scores:
        score = sum(p.double().abs().sum().item() for p in model.parameters()) * 1000 % 1
        return Scores({task: {"accuracy": score} for task in sets}, dict.fromkeys(sets, score))

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)


@pytest.fixture
def recipe(small_recipe: dict[str, Any]) -> dict[str, Any]:
    """A stage that goes back to the model accepted last, after one that keeps what is best, both with a teacher."""
    first = small_recipe["stages"][0] | {"steps": 5, "evaluate_every": 5, "regularizers": ["bregman"]}
    second = first | {"keep": {"name": "threshold", "share": 0.1}, "tasks": ["mood"], "steps": 12, "evaluate_every": 3}
    return small_recipe | {"stages": [first, second]}


def test_training_stopped_after_any_step_goes_on_to_the_same_run(recipe: dict[str, Any], tmp_path: Path) -> None:
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    assert {line.kept for line in whole.log.only(Evaluation) if line.stage == 1} == {True, False}  # it goes back once
    for steps in (1, 4, 5, 6, 8, 9, 10, 12, 13, 16):
        folder = tmp_path / str(steps)
        stopped = mtbert.train(recipe, out=folder, listener=StopAfter(steps))
        assert stopped.stopped == "the window closes"
        assert len(list(stopped.log.only(Step))) == steps or steps == 5  # the fifth ends the first stage
        assert_same_run(mtbert.train(recipe, out=folder, resume=True), whole)
        assert Run(folder).stopped is None


def test_training_that_has_ended_is_not_stopped(recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(recipe, out=tmp_path / "run", listener=StopAfter(17))
    assert run.stopped is None
    assert not list(run.log.only(Note))


def test_several_listeners_all_hear_and_the_first_reason_counts(recipe: dict[str, Any], tmp_path: Path) -> None:
    heard: list[str] = []

    class Heard(Listener):
        def begin(self, stage: int, steps: int, done: int) -> None:
            heard.append(f"begin {stage} {steps} {done}")

        def scores(self, scores: Any, kept: bool) -> None:
            heard.append(f"scores {kept}")

    run = mtbert.train(recipe, out=tmp_path / "run", listener=Listeners([Heard(), StopAfter(4), StopAfter(3)]))
    assert run.stopped == "the window closes"
    assert heard == ["begin 0 5 0"]
