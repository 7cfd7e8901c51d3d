"""From what a person asks for to the plan of a comparison: budget, baselines, rates, splits, all settled beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtbert.comparison.baselines import baselines
from mtbert.comparison.budget import Budget, cost, within
from mtbert.comparison.methods import Content, Method, Parts, check_names, with_rates
from mtbert.comparison.plan import Plan, read_plan
from mtbert.comparison.splits import Splits, find_folds, find_splits, to_be_timed
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.reports.check import costs
from mtbert.runs.build import Experiment
from mtbert.runs.data import folded, read_whole
from mtbert.runs.train import prepare

PACE = "seconds_a_step"


@dataclass(frozen=True)
class Asked:
    """What a person asks for."""

    methods: Sequence[Method]
    blocks: int
    budget: Budget
    baselines: bool = False
    rates: Sequence[float] = ()
    margin: float = 0.01
    folds: int = 0  # of the training files, each of which reports once a seed; 0 for dev and test as they are

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise Mistake(f"--seeds {self.blocks}: a comparison has at least one")
        if not self.margin > 0:
            raise Mistake(f"--margin {self.margin:g}: a difference that would not matter is above 0")
        if any(not rate > 0 for rate in self.rates):
            raise Mistake("--rates: a learning rate is above 0")
        twice = [rate for rate, times in Counter(self.rates).items() if times > 1]
        if twice:
            raise Mistake(f"--rates: {twice[0]:g} is there twice")
        if len(self.methods) < 2 and not self.baselines:
            raise Mistake("a comparison has at least two recipes, or one and --baselines")


def declare(asked: Asked, folder: Path) -> Plan:
    """The plan for what was asked, every recipe within the budget. Nothing is written.

    Raises Mistake where the budget is too small, or the folder holds another comparison.
    """
    recipe = first_recipe(asked.methods)
    folds: list[dict[str, Splits]] = []
    if asked.folds:
        folds = find_folds(recipe, folder / "dev", asked.folds)
        found = folded(recipe, asked.folds)
        asked = replace(asked, methods=[_completed(method, found.tasks) for method in asked.methods])
        rows = {task: round(count * (asked.folds - 2) / asked.folds) for task, count in found.rows.items()}
        splits = folds[0]
    else:
        rows, splits = training_rows(recipe), find_splits(recipe, folder / "dev")
    paces = _paces(asked, folder)
    budget = _settled(asked.budget, recipe, rows)
    methods = [_within(method, rows, budget, paces.get(method.name, ())) for method in asked.methods]
    if asked.baselines:
        content = only(methods[0])
        methods += baselines(methods[0], content, rows)
    check_names(methods)
    methods = [with_rates(method, asked.rates) for method in methods]
    blocks = asked.blocks * max(asked.folds, 1)
    declared = {
        "mtbert": version("mtbert"),
        "compared_with": asked.methods[0].name,
        "methods": {method.name: only(method) for method in asked.methods},
        "blocks": blocks,
        "budget": str(budget),
        "baselines": asked.baselines,
        "rates": list(asked.rates),
        "margin": asked.margin,
        "rows": rows,
    }
    declared |= {"folds": asked.folds} if asked.folds else {}
    return Plan(methods, blocks, splits, asked.margin, declared | ({PACE: paces} if paces else {}), folds)


def first_recipe(methods: Sequence[Method]) -> Recipe:
    """The recipe of the first method, or the first of its candidates: its tasks are those of the comparison."""
    [content] = next(iter(methods[0].candidates.values())).values()
    return read_recipe(content)


def only(method: Method) -> Content:
    """The recipe of a method that is one."""
    [parts] = method.candidates.values()
    [content] = parts.values()
    return content


def _completed(method: Method, tasks: Mapping[str, Task]) -> Method:
    """The method whose tasks have the classes and ranges of all rows, not those of one fold."""

    def completed(content: Content) -> Content:
        found = {
            name: {**given, **tasks[name].model_dump(mode="json", include=set(tasks[name].from_data))}
            for name, given in content["tasks"].items()
        }
        return {**content, "tasks": found}

    return replace(
        method,
        candidates={
            label: {part: completed(content) for part, content in parts.items()}
            for label, parts in method.candidates.items()
        },
    )


def experiment_of(method: str, content: Content, folds: int = 0) -> Experiment:
    """What a method's recipe trains; raises Mistake, with the method's name, for whatever its parts or data lack."""
    try:
        return prepare(read_recipe(to_be_timed(content, folds)))
    except Mistake as mistake:
        raise Mistake(f"{method}: {mistake}") from None


def training_rows(recipe: Recipe) -> dict[str, int]:
    """Task -> how many training rows it has, `limit` left aside."""
    return {name: len(rows) for name, rows in read_whole(recipe, "train").items()}


def _settled(budget: Budget, recipe: Recipe, rows: Mapping[str, int]) -> Budget:
    """The budget with its amount: that of the first recipe where none was given."""
    if budget.amount is not None or budget.currency == "as written":
        return budget
    return replace(budget, amount=cost(recipe, rows, budget.currency))


def _within(method: Method, rows: Mapping[str, int], budget: Budget, paces: Sequence[float]) -> Method:
    def resized(parts: Parts) -> dict[str, Content]:
        return {part: within(content, rows, budget, method.name, paces) for part, content in parts.items()}

    return replace(method, candidates={label: resized(parts) for label, parts in method.candidates.items()})


def _paces(asked: Asked, folder: Path) -> dict[str, list[float]]:
    """Method -> seconds per step of each stage, if the budget is in seconds: measured once, then kept in the plan."""
    if asked.budget.currency != "seconds":
        return {}
    before: dict[str, Any] = read_plan(folder) or {}
    return before.get(PACE) or {
        method.name: [stage.seconds_per_step for stage in costs(experiment_of(method.name, only(method), asked.folds))]
        for method in asked.methods
    }
