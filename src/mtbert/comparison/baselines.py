"""The baselines that stand in every honest table, made from its first recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtbert.comparison.budget import Budget, cost, lengths, within
from mtbert.comparison.methods import WHOLE, Content, Method
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe

CONSTANT = "constant predictor"
APART = "one model a task"
SUM = "uniform sum"
WEIGHTS = "fixed weights"
AGAIN = "A/A"
RAISED = 3.0  # a task's weight in the sweep, where the others have 1


def baselines(first: Method, content: Content, rows: Mapping[str, int]) -> list[Method]:
    """All of them, each with as many examples as the first method, whose recipe within the budget is `content`.

    The constant predictor is not among them: it needs no run and stands in every table.
    """
    recipe = read_recipe(content)
    equal = Budget("examples", cost(recipe, rows, "examples"))
    summed = within(_summed(content), rows, equal, SUM)
    return [
        Method(APART, {WHOLE: _apart(content, rows, recipe)}, baseline=True),
        Method(SUM, {WHOLE: {WHOLE: summed}}, baseline=True),
        Method(WEIGHTS, {label: {WHOLE: one} for label, one in _weighted(summed).items()}, baseline=True),
        Method(f"{AGAIN}: {first.name} again", first.candidates, baseline=True, other_seeds=True),
    ]


def _apart(content: Content, rows: Mapping[str, int], recipe: Recipe) -> dict[str, Content]:
    """One model a task, each with as many examples as the recipe spends on its task."""
    found, models = lengths(recipe, rows), 1 + recipe.own_teachers
    return {
        task: within(
            _alone(content, task),
            rows,
            Budget("examples", models * sum(length.examples_by_task.get(task, 0.0) for length in found)),
            f"{APART}, {task}",
        )
        for task in content["tasks"]
    }


def _alone(content: Content, task: str) -> Content:
    """The recipe with one of its tasks: the modules, penalties and stages that serve it, and nothing to share."""
    stages = [
        {
            **stage,
            "tasks": [task],
            "for_each_task": False,
            "sampler": "proportional",
            "combiner": "sum",
            "weighting": "fixed",
            "regularizers": _serving(stage["regularizers"], task),
            "batch_size": _of(task, stage["batch_size"], 0),
            "reduction": _of(task, stage["reduction"], "mean"),
            "keep": "best",
            "observe": [],
        }
        for stage in content["stages"]
        if task in (stage["tasks"] or content["tasks"])
    ]
    return {
        **content,
        "tasks": {task: content["tasks"][task]},
        "modules": _serving(content["modules"], task),
        "stages": stages,
        "keep": task,
    }


def _serving(methods: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
    return [
        {**one, "tasks": [task]} | ({"weight": weight} if weight is not None else {})
        for one in methods
        for weight in [_of(task, one.get("weight"), 0)]
        if one["tasks"] is None or task in one["tasks"]
    ]


def _of(task: str, given: Any, otherwise: Any) -> Any:
    """What is given for a task, where something is given by task; a value that changes has a name."""
    return given.get(task, otherwise) if isinstance(given, Mapping) and "name" not in given else given


def _summed(content: Content) -> Content:
    """Every step the sum of all tasks' losses, in batches that together are as large as the recipe's.

    With the length, the rates and the schedule of the recipe's first stage; no modules, penalties or teachers, and so
    no texts without labels.
    """
    tasks, stage = content["tasks"], content["stages"][0]
    plain: dict[str, Any] = {
        "tasks": None,
        "for_each_task": False,
        "train": "all",
        "sampler": "joint",
        "combiner": "sum",
        "weighting": "fixed",
        "regularizers": [],
        "observe": [],
        "keep": "best",
        "distill": None,
        "batch_size": _shared(stage["batch_size"], list(tasks)),
    }
    return {
        **content,
        "modules": [],
        "tasks": {name: {**task, "weight": 1.0, "unlabelled": None} for name, task in tasks.items()},
        "stages": [{**stage, **plain}],
    }


def _weighted(content: Content) -> dict[str, Content]:
    """The sum with equal weights, and with each task's raised in turn."""

    def raised(chosen: str) -> Content:
        tasks = {name: {**task, "weight": RAISED if name == chosen else 1.0} for name, task in content["tasks"].items()}
        return {**content, "tasks": tasks}

    return {"equal weights": content} | {f"{task} x {RAISED:g}": raised(task) for task in content["tasks"]}


def _shared(size: int | Mapping[str, int], tasks: Sequence[str]) -> int | dict[str, int]:
    """Batch sizes with which a batch of every task is together as large as one batch was."""
    if isinstance(size, Mapping):
        return {task: max(1, round(size.get(task, 0) / len(tasks))) for task in tasks}
    return max(1, round(size / len(tasks)))
