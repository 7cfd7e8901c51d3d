"""Budgets: how they are written, what stages cost, and what is left of them when they are made shorter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtbert.comparison.baselines import APART, SUM, WEIGHTS, baselines
from mtbert.comparison.budget import Budget, lengths, spent, within
from mtbert.comparison.methods import content_of, plain, with_rates
from mtbert.data.samplers.table import SAMPLERS
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.cases import each

ROWS = {"mood": 40, "same": 40, "near": 40}
OPTIONS: dict[str, dict[str, Any]] = {"weighted": {"weights": {"mood": 2.0, "same": 1.0, "near": 1.0}}}


def with_stage(recipe: dict[str, Any], **stage: Any) -> dict[str, Any]:
    given = {"epochs": None, "steps": 30, "batch_size": 8} | stage
    return content_of(read_recipe(recipe | {"stages": [given]}))


def seen(content: dict[str, Any]) -> int:
    """The examples that training really draws."""
    total, experiment = 0, build(read_recipe(content))
    for index in range(len(experiment.recipe.unrolled())):
        trainer = experiment.stage(index).trainer
        for step in range(trainer.steps):
            trainer.step = step
            total += sum(len(batch) for batch in trainer._draw(step / trainer.steps))
    return total


def test_what_a_budget_may_be() -> None:
    assert Budget.parse("quick") == Budget("examples", 19_200)
    assert Budget.parse("full") == Budget("as written")
    assert Budget.parse("examples") == Budget("examples")
    assert Budget.parse("steps=1_000") == Budget("steps", 1000)
    assert Budget.parse("seconds=1.5") == Budget("seconds", 1.5)


@pytest.mark.parametrize("text", ["", "seconds", "examples=", "examples=-3", "steps=0", "tokens=3", "examples=1e3x"])
def test_what_a_budget_may_not_be(text: str) -> None:
    with pytest.raises(Mistake, match="--budget"):
        Budget.parse(text)


@each(sampler=SAMPLERS)
def test_a_length_is_what_training_draws(small_recipe: dict[str, Any], sampler: str) -> None:
    if sampler == "joint_rows":  # which is for tasks that read one file
        small_recipe["tasks"] = dict.fromkeys(ROWS, small_recipe["tasks"]["mood"])
    content = with_stage(small_recipe, sampler={"name": sampler, **OPTIONS.get(sampler, {})}, accumulate=2)
    [found] = lengths(read_recipe(content), ROWS)
    batch = 8 * 3 * 2
    assert abs(found.examples - seen(content)) <= batch  # the last batch of a pass counts as the mean of its batches
    assert sum(found.examples_by_task.values()) == pytest.approx(found.examples)


@each(currency=["examples", "steps"], amount=[300, 900], sampler=["proportional", "joint", "annealed"])
def test_every_stage_is_scaled_alike(small_recipe: dict[str, Any], currency: Any, amount: int, sampler: str) -> None:
    stages = [
        {"epochs": 2, "batch_size": 8, "sampler": sampler, "evaluate_every": 5},
        {"steps": 40, "batch_size": 4, "sampler": sampler},
    ]
    content = content_of(read_recipe(small_recipe | {"stages": stages}))
    before = lengths(read_recipe(content), ROWS)
    resized = within(content, ROWS, Budget(currency, amount), "it")
    after = lengths(read_recipe(resized), ROWS)
    step = before[0].examples / before[0].steps if currency == "examples" else 1
    assert abs(spent(after, currency) - amount) <= step
    assert after[0].steps / after[1].steps == pytest.approx(before[0].steps / before[1].steps, rel=0.15)
    assert resized["stages"][0]["evaluate_every"] == pytest.approx(5 * after[0].steps / before[0].steps, abs=0.6)
    assert resized["stages"][1]["evaluate_every"] is None


def test_seconds_are_steps_at_the_measured_rate(small_recipe: dict[str, Any]) -> None:
    content = content_of(read_recipe(small_recipe | {"stages": [{"steps": 40}, {"steps": 20}]}))
    resized = within(content, ROWS, Budget("seconds", 60), "it", rates=[1.0, 4.0])  # as written: 120 seconds
    assert [stage["steps"] for stage in resized["stages"]] == [20, 10]


def test_a_stage_for_each_task_keeps_their_shares(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["mood"]["limit"] = 8
    content = with_stage(small_recipe, epochs=4, steps=None, for_each_task=True)
    resized = within(content, ROWS, Budget("examples", 176), "it")  # as written: 352
    assert [length.steps for length in lengths(read_recipe(resized), ROWS)] == [2, 10, 10]


def test_every_recipe_as_it_is_written(small_recipe: dict[str, Any]) -> None:
    content = with_stage(small_recipe)
    assert within(content, ROWS, Budget("as written"), "it") == content


@pytest.mark.parametrize("sampler", ["sequential", "tail"])
def test_a_budget_too_small_for_an_epoch_is_refused_where_a_task_would_hardly_be_drawn(
    small_recipe: dict[str, Any], sampler: str
) -> None:
    content = with_stage(small_recipe, sampler=sampler, epochs=2, steps=None)
    rows = ROWS | {"same": 400}
    with pytest.raises(Mistake, match=f"too few for one epoch of sampler .{sampler}.*same|mood|near"):
        within(content, rows, Budget("steps", 5), "it")


def test_part_of_an_epoch_is_enough_for_samplers_that_mix_throughout(small_recipe: dict[str, Any]) -> None:
    content = with_stage(small_recipe, sampler="round_robin", epochs=2, steps=None)
    assert lengths(read_recipe(within(content, ROWS, Budget("steps", 6), "it")), ROWS)[0].steps == 6


# ---- baselines


def test_baselines_see_as_many_examples_as_the_first_recipe(small_recipe: dict[str, Any]) -> None:
    modules = [{"name": "adapter"}, {"name": "lora", "tasks": ["mood"]}]
    regularizers = [{"name": "smart", "tasks": ["same"]}]
    stages = [{"steps": 30, "batch_size": 8, "sampler": "joint", "combiner": "pcgrad", "regularizers": regularizers}]
    content = content_of(read_recipe(small_recipe | {"modules": modules, "stages": stages}))
    found = lengths(read_recipe(content), ROWS)
    made = {method.name: method for method in baselines(plain("it", content), content, ROWS)}

    apart = made[APART].candidates["all"]
    assert set(apart) == set(ROWS)
    for task, one in apart.items():
        recipe = read_recipe(one)
        assert list(recipe.tasks) == [task]
        assert recipe.keep == task
        assert spent(lengths(recipe, ROWS), "examples") == pytest.approx(found[0].examples_by_task[task], abs=8)
        assert [plan["name"] for plan in one["modules"]] == (["adapter", "lora"] if task == "mood" else ["adapter"])
        assert len(one["stages"][0]["regularizers"]) == (task == "same")

    summed = made[SUM].candidates["all"]["all"]
    assert (summed["modules"], summed["stages"][0]["regularizers"]) == ([], [])
    for candidate in (summed, *(parts["all"] for parts in made[WEIGHTS].candidates.values())):
        assert abs(spent(lengths(read_recipe(candidate), ROWS), "examples") - found[0].examples) <= 24
    weights = [
        tuple(task["weight"] for task in parts["all"]["tasks"].values()) for parts in made[WEIGHTS].candidates.values()
    ]
    assert weights == [(1, 1, 1), (3, 1, 1), (1, 3, 1), (1, 1, 3)]


def test_teachers_that_are_trained_first_are_part_of_a_budget(small_recipe: dict[str, Any]) -> None:
    alone = with_stage(small_recipe, steps=30, batch_size=8, sampler="joint")
    taught = with_stage(small_recipe, steps=30, batch_size=8, sampler="joint", distill={"teachers": 3})
    assert within(alone, ROWS, Budget("steps", 40), "alone")["stages"][0]["steps"] == 40
    resized = within(taught, ROWS, Budget("steps", 40), "taught")
    assert resized["stages"][0]["steps"] == 10  # and as many for each of the three
    made = {method.name: method for method in baselines(plain("it", resized), resized, ROWS)}
    summed = made[SUM].candidates["all"]["all"]
    assert summed["stages"][0]["distill"] is None
    assert spent(lengths(read_recipe(summed), ROWS), "examples") == 40 * 3 * 8


def test_the_a_a_check_is_the_first_recipe_under_other_seeds(small_recipe: dict[str, Any]) -> None:
    content = with_stage(small_recipe)
    first = plain("it", content)
    *_, again = baselines(first, content, ROWS)
    assert again.other_seeds
    assert again.candidates == first.candidates


def test_rates_are_tried_alike_by_all(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    stages = [{"steps": 3, "optimizer": {"lr": 1e-3}}, {"steps": 3, "optimizer": {"lr": 1e-4}}]
    method = plain("it", content_of(read_recipe(small_recipe | {"stages": stages})))
    tried = with_rates(method, [2e-3, 5e-4])
    assert {
        label: [stage["optimizer"]["lr"] for stage in parts["all"]["stages"]]
        for label, parts in tried.candidates.items()
    } == {"lr 0.002": [2e-3, pytest.approx(2e-4)], "lr 0.0005": [5e-4, pytest.approx(5e-5)]}
    assert with_rates(method, []) == method
