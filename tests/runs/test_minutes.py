"""Stages of so many minutes, on a clock that the tests turn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.recipe.minutes import in_minutes
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.reports.info import read as info
from mtbert.reports.verify import verify
from mtbert.runs.allowance import Allowance
from mtbert.runs.build import build
from mtbert.runs.checkpoint import Checkpoint
from mtbert.runs.folder import Run
from mtbert.runs.log import Evaluation, Settled, Step
from mtbert.runs.stage import StageUnderWay
from mtbert.training.pace import Pace
from mtbert.training.trainer import Trainer
from tests.support.cut_off import Kill, Killed, assert_same_run


class Machine:
    """A clock that only steps and evaluations move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float, evaluation: float = 0.0) -> None:
        self.now, self.step, self.evaluation = 1000.0, step, evaluation
        self.slower: tuple[float, float] | None = None  # from this second on a step takes so much longer
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        draw, scores = Trainer._draw, StageUnderWay._scores

        def timed_step(trainer: Trainer, progress: float) -> list[Batch]:
            changed = self.slower is not None and self.now - 1000 > self.slower[0]
            self.now += self.step * (self.slower[1] if changed and self.slower else 1)
            return draw(trainer, progress)

        def timed_scores(stage: StageUnderWay, model: Any) -> Any:
            self.now += self.evaluation
            return scores(stage, model)

        monkeypatch.setattr(Trainer, "_draw", timed_step)
        monkeypatch.setattr(StageUnderWay, "_scores", timed_scores)

    @property
    def spent(self) -> float:
        return self.now - 1000.0


def lasting(recipe: dict[str, Any], minutes: float, **stage: Any) -> dict[str, Any]:
    kept = {key: value for key, value in recipe["stages"][0].items() if key not in ("steps", "evaluate_every")}
    return recipe | {"stages": [kept | {"minutes": minutes, "evaluate_every": 1000} | stage]}


def last_factor(run: Run) -> float:
    steps = list(run.log.only(Step))
    return steps[-1].lr / max(step.lr for step in steps)


@pytest.mark.parametrize(("seconds", "step"), [(60, 1.0), (60, 0.4), (120, 2.0)])
def test_a_stage_takes_the_time_that_it_was_given(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, step: float
) -> None:
    machine = Machine(monkeypatch, step)
    run = mtbert.train(lasting(small_recipe, seconds / 60), out=tmp_path / "run")
    assert 0.95 * seconds <= machine.spent <= seconds
    assert info(run).finished
    assert last_factor(run) < 0.05


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_machine_whose_speed_changes_midway_ends_in_time_at_the_last_rate(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    machine = Machine(monkeypatch, step=0.5)
    machine.slower = (30.0, factor)
    run = mtbert.train(lasting(small_recipe, 1.0), out=tmp_path / "run")
    assert 54 <= machine.spent <= 66
    assert last_factor(run) < 0.1
    rates = [step.lr for step in run.log.only(Step)]
    top = rates.index(max(rates))
    assert all(later < earlier for earlier, later in zip(rates[top:], rates[top + 1 :], strict=False))


def test_evaluations_are_part_of_the_time(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, step=0.5, evaluation=4.0)
    run = mtbert.train(lasting(small_recipe, 1.0, evaluate_every=20), out=tmp_path / "run")
    assert 54 <= machine.spent <= 66
    assert len(list(run.log.only(Evaluation))) >= 3


def test_the_trial_leaves_no_trace(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, step=3.0)
    recipe = lasting(small_recipe, 0.5, regularizers=["bregman"], average={"name": "ema", "every": 1})
    run = mtbert.train(recipe, out=tmp_path / "run")
    first = next(run.log.only(Settled))
    settled = {line.step: line.steps for line in run.log.only(Settled)}
    assert (first.step, len(settled)) == (0, len(list(run.log.only(Settled))))
    trainer = build(read_recipe(lasting(small_recipe, 0.5, regularizers=["bregman"]))).stage(0).trainer
    for logged in run.log.only(Step):
        if trainer.step in settled:
            trainer.settle(settled[trainer.step])
        record = trainer.take_step()
        assert (logged.lr, logged.terms, logged.gradient_norm) == (record.lr, record.terms, record.gradient_norm)
    assert verify(run).equal


@pytest.mark.parametrize("after", [2, 9, 25])
def test_a_killed_run_has_the_steps_that_were_settled_and_the_time_that_was_left(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    machine = Machine(monkeypatch, step=1.0)
    recipe = lasting(small_recipe, 1.0)
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=after))
    machine.now += 3600  # nobody was there for an hour
    cut = mtbert.train(recipe, out=tmp_path / "cut", resume=True)
    assert 57 <= len(list(cut.log.only(Step))) <= 60
    saved = Checkpoint.read(cut)
    assert saved is not None
    assert saved.facts.step == saved.facts.steps


def test_a_resumed_stage_goes_on_as_if_nothing_had_been_between(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, step=1.0)
    recipe = lasting(small_recipe, 1.0) | {"save_every": None}
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    settled = [line.step for line in whole.log.only(Settled)]
    machine.now = 1000.0
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=settled[1]))
    assert_same_run(mtbert.train(recipe, out=tmp_path / "cut", resume=True), whole)


def test_minutes_of_the_command_are_divided_as_the_lengths_were(small_recipe: dict[str, Any]) -> None:
    stage = small_recipe["stages"][0]
    recipe = read_recipe(small_recipe | {"stages": [stage, stage | {"steps": 36}]})
    assert [one.minutes for one in in_minutes(recipe, 4).stages] == [1, 3]
    assert [one.steps for one in in_minutes(recipe, 4).stages] == [None, None]
    assert in_minutes(recipe, None) is recipe
    mixed = read_recipe(small_recipe | {"stages": [stage, stage | {"steps": None, "epochs": 1}]})
    with pytest.raises(Mistake, match="epochs and steps cannot share 4 minutes"):
        in_minutes(mixed, 4)
    with pytest.raises(Mistake, match="more than none"):
        in_minutes(recipe, 0)


def test_a_stage_for_each_task_divides_its_minutes(small_recipe: dict[str, Any]) -> None:
    recipe = read_recipe(lasting(small_recipe, 3.0, for_each_task=True))
    assert [(stage.tasks, stage.minutes) for _, stage in recipe.unrolled()] == [
        (("mood",), 1.0),
        (("same",), 1.0),
        (("near",), 1.0),
    ]


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"minutes": 5, "epochs": 2}, "`epochs` and `minutes` are given"),
        ({"minutes": 5, "steps": 2, "epochs": 1}, "`epochs` and `steps` and `minutes` are given"),
        ({"minutes": 0}, "greater than 0"),
        ({"minutes": "5:00"}, "minutes"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(small_recipe: dict[str, Any], stage: dict[str, Any], said: str) -> None:
    with pytest.raises(Mistake, match=r"stages\.0") as refusal:
        read_recipe(small_recipe | {"stages": [stage]})
    assert said in str(refusal.value)


def test_check_says_what_fits(small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, step=0.5)
    (stage,) = check(build(read_recipe(lasting(small_recipe, 2.0)))).stages
    assert 0.9 * 240 <= stage.steps <= 240
    assert sum(stage.batches.values()) == stage.steps
    assert stage.allowed == 2.0


def test_progress_is_even_and_whole_where_a_length_changes() -> None:
    pace = Pace(100)
    assert [pace.at(step) for step in (0, 25, 100)] == [0, 25 / 100, 1]
    slower = pace.settled(60, 50)
    assert [slower.at(50), slower.at(55), slower.at(60)] == [0.5, 0.75, 1.0]


def test_what_fits_is_what_division_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    allowance = Allowance(100.0, every=10)
    allowance.tried([9.0, 1.0, 1.0], evaluation=5.0)
    assert allowance.steps(0) == int((100 - 5) / (1 + 5 / 10))
    now[0] = 40.0
    allowance.evaluated(20.0)
    assert allowance.steps(10) == 10 + int((100 - 40 - 20) / (2 + 20 / 10))  # 20 seconds for 10 steps
    now[0] = 1000.0
    assert allowance.steps(11) == 12
