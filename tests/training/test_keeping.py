"""What is kept and when a stage ends, on scripted scores."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mtbert
import mtbert.runs.stage
from mtbert.errors import Mistake
from mtbert.runs.log import Evaluation, Step
from mtbert.scoring.evaluation import Scores
from mtbert.training.keeping import KEEP_RULES, Keeper, KeepRule
from tests.support.cut_off import Kill, Killed


def measured(*scores: float) -> dict[str, float]:
    """The measures of an evaluation that scored mood, same and near so."""
    return dict(zip(("mood", "same", "near"), scores, strict=True)) | {"overall": sum(scores) / 3, "mean": 0.0}


def rule(
    name: str, kept: dict[str, float] | None = None, tasks: tuple[str, ...] = ("mood",), **options: Any
) -> KeepRule:
    return KEEP_RULES[name](kept, kept, tasks, "overall", **KEEP_RULES.complete(name, options))


def decisions(of: KeepRule, script: list[tuple[float, float, float]]) -> list[bool]:
    return [of.take(measured(*scores)) for scores in script]


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
def test_best_keeps_what_is_strictly_better_than_all_before(scores: list[float], kept: list[bool]) -> None:
    assert decisions(rule("best"), [(score,) * 3 for score in scores]) == kept


def test_best_judges_by_the_measure_it_is_given() -> None:
    script = [(0.5, 0.1, 0.1), (0.6, 0.0, 0.0), (0.1, 0.9, 0.9)]
    assert decisions(rule("best", by="mood"), script) == [True, True, False]
    assert decisions(rule("best"), script) == [True, False, True]


def test_best_begins_from_what_an_earlier_stage_kept() -> None:
    assert decisions(rule("best", measured(0.5, 0.5, 0.5)), [(0.4,) * 3, (0.5,) * 3, (0.6,) * 3]) == [
        False,
        False,
        True,
    ]


def test_any_task_keeps_a_worse_model_that_is_the_best_on_one_task() -> None:
    script = [(0.5, 0.5, 0.5), (0.6, 0.1, 0.1), (0.55, 0.4, 0.4), (0.1, 0.1, 0.51), (0.1, 0.1, math.nan)]
    assert decisions(rule("any_task"), script) == [True, True, False, True, False]


def test_last_keeps_every_model() -> None:
    assert decisions(rule("last"), [(0.5,) * 3, (0.1,) * 3, (math.nan,) * 3]) == [True, True, True]


def test_threshold_wants_its_own_task_better_and_the_others_above_their_floors() -> None:
    begins = measured(0.5, 0.8, -0.125)
    script = [
        (0.6, 0.7201, -0.1374),  # just above the floors: 0.8 - 0.08 and -0.125 - 0.0125
        (0.7, 0.71, -0.1),  # same falls through
        (0.7, 0.8, -0.14),  # near falls through its negative floor
        (0.6, 0.9, 0.9),  # mood not better than the model kept first
        (0.61, 0.75, 0.0),
    ]
    assert decisions(rule("threshold", begins), script) == [True, False, False, False, True]


def test_threshold_floors_stay_at_the_baseline_while_the_kept_model_moves() -> None:
    one = KEEP_RULES["threshold"](measured(0.6, 0.7, 0.7), measured(0.5, 0.8, 0.7), ["same"], "overall", share=0.5)
    assert one.take(measured(0.25, 0.71, 0.35))  # half of mood's 0.5 in the baseline, not of 0.6
    assert not one.take(measured(0.24, 0.9, 0.9))


def test_the_literal_threshold_asks_more_of_a_negative_baseline_than_it_had() -> None:
    begins = measured(0.5, 0.8, -0.125)
    script = [(0.6, 0.7201, -0.125), (0.6, 0.7201, -0.1126), (0.6, 0.7201, -0.1124), (0.7, 0.7199, 0.5)]
    assert decisions(rule("threshold", begins, literal=True), script) == [False, False, True, False]


def test_threshold_needs_a_stage_before_it() -> None:
    with pytest.raises(Mistake, match="'threshold' compares with an earlier stage"):
        rule("threshold")


@pytest.mark.parametrize("name", KEEP_RULES)
def test_a_rule_goes_on_from_its_facts(name: str) -> None:
    generator = random.Random(3)
    script = [(generator.random(), generator.random(), generator.random()) for _ in range(12)]
    begins = measured(0.3, 0.3, 0.3)
    whole = rule(name, begins)
    expected = decisions(whole, script)
    first, second = rule(name, begins), rule(name, begins)
    before = decisions(first, script[:6])
    second.load(json.loads(json.dumps(first.facts())))
    assert before + decisions(second, script[6:]) == expected
    assert second.facts() == whole.facts()


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
    keeper = Keeper(rule("best"), patience)
    found = []
    for score in scores:
        keeper.take(measured(score, score, score))
        found.append(keeper.satisfied)
    assert found == satisfied


def scripted(monkeypatch: pytest.MonkeyPatch, script: list[tuple[float, float, float]]) -> None:
    """Evaluations that say mood, same and near, one after the other."""
    coming: Iterator[tuple[float, float, float]] = iter(script)

    def evaluate(model: Any, sets: Any, world: Any) -> Scores:
        values = dict(zip(("mood", "same", "near"), next(coming), strict=True))
        return Scores({name: {"metric": value} for name, value in values.items()}, values)

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)


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
    evaluated = [(one.stage, one.step, one.kept) for one in run.log.only(Evaluation)]
    # a stage is judged against the best of all before it
    assert evaluated == [(0, 2, True), (0, 4, False), (0, 6, False), (1, 2, False), (1, 4, True)]
    assert sum(one.stage == 0 for one in run.log.only(Step)) == 6
    assert (run.scores["stage"], run.scores["step"]) == (1, 4)


def weights(run: Path, part: str) -> dict[str, Tensor]:
    """The model of a checkpoint's last state."""
    state = load_file(run / part / "state.safetensors")
    return {name: tensor for name, tensor in state.items() if name.startswith(("model.", "trainer.optimizer."))}


def two_stages(small_recipe: dict[str, Any], **second: Any) -> dict[str, Any]:
    first = small_recipe["stages"][0] | {"steps": 2, "evaluate_every": 2}
    return small_recipe | {"stages": [first, first | {"steps": 4} | second]}


def test_a_stage_whose_results_are_rejected_leaves_weights_and_optimizer_as_they_were(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = two_stages(small_recipe, keep="threshold", tasks="mood")
    scripted(monkeypatch, [(0.5,) * 3, (0.6, 0.2, 0.2), (0.6, 0.2, 0.2)])
    both = mtbert.train(recipe, out=tmp_path / "both")
    scripted(monkeypatch, [(0.5,) * 3])
    alone = mtbert.train(recipe | {"stages": recipe["stages"][:1]}, out=tmp_path / "alone")
    after, before = weights(both.folder, "last"), weights(alone.folder, "last")
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("model."))
    # the stage's own optimizer is back where it began: before its first step
    assert not [name for name in after if ".means." in name]
    assert (both.scores["stage"], both.scores["step"]) == (0, 2)


def test_after_a_rejected_result_training_goes_on_from_the_accepted_one(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = two_stages(small_recipe, keep="threshold", tasks="mood")
    scripted(monkeypatch, [(0.5,) * 3, (0.6, 0.5, 0.5), (0.7, 0.2, 0.2)])  # the last one costs the others too much
    run = mtbert.train(recipe, out=tmp_path / "run")
    assert (run.scores["stage"], run.scores["step"]) == (1, 2)
    kept, last = load_file(run.folder / "best" / "tasks.safetensors"), weights(run.folder, "last")
    assert all(torch.equal(tensor, last[f"model.{name}"]) for name, tensor in kept.items())


def test_a_resumed_stage_holds_on_to_its_baseline(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = two_stages(small_recipe, keep={"name": "threshold", "share": 0.9}, tasks="mood")
    scripted(monkeypatch, [(0.5,) * 3, (0.6, 0.46, 0.46)])
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "run", listener=Kill(5))
    scripted(monkeypatch, [(0.7, 0.42, 0.42)])  # 0.9 of what the cut stage kept, but not of the 0.5 it began from
    run = mtbert.train(recipe, out=tmp_path / "run", resume=True)
    assert (run.scores["stage"], run.scores["step"]) == (1, 2)


def test_for_each_task_is_one_stage_a_task_against_one_baseline(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = two_stages(small_recipe, steps=2, keep={"name": "threshold", "share": 0.8}, for_each_task=True)
    # floors are 0.4 throughout, although the first of the three stages took same and near down to 0.45
    scripted(monkeypatch, [(0.5,) * 3, (0.6, 0.45, 0.45), (0.41, 0.5, 0.41), (0.39, 0.5, 0.9)])
    run = mtbert.train(recipe, out=tmp_path / "run")
    assert [one.kept for one in run.log.only(Evaluation)] == [True, True, True, False]
    tasks = [list(one.terms) for one in run.log.only(Step) if one.stage > 0]
    assert tasks == [["mood"], ["mood"], ["same"], ["same"], ["near"], ["near"]]


def test_a_threshold_in_the_first_stage_is_refused(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    small_recipe["stages"][0]["keep"] = "threshold"
    with pytest.raises(Mistake, match=r"stages\.0\.keep.*'threshold' compares with an earlier stage"):
        mtbert.train(small_recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
