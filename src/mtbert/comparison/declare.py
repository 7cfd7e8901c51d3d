"""From what a person asks for to the plan of a comparison: budget, baselines, rates, splits, all settled beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtbert.comparison.baselines import baselines
from mtbert.comparison.budget import Budget, lengths, spent, within
from mtbert.comparison.methods import Content, Method, Parts, check_names, with_rates
from mtbert.comparison.plan import Plan, read_plan
from mtbert.comparison.splits import find_splits
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.reports.check import costs
from mtbert.runs.build import build
from mtbert.runs.data import shared_tables

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

    def __post_init__(self) -> None:
        if self.blocks < 1:
            raise Mistake(f"--seeds {self.blocks}: a comparison has at least one")
        if not self.margin > 0:
            raise Mistake(f"--margin {self.margin:g}: a difference that would not matter is above 0")
        if any(not rate > 0 for rate in self.rates):
            raise Mistake("--rates: a learning rate is above 0")
        if len(self.methods) < 2 and not self.baselines:
            raise Mistake("a comparison has at least two recipes, or one and --baselines")


def declare(asked: Asked, folder: Path) -> Plan:
    """The plan for what was asked, every recipe within the budget. Nothing is written.

    Raises Mistake where the budget is too small, or the folder holds another comparison.
    """
    recipe = first_recipe(asked.methods)
    rows = training_rows(recipe)
    splits = find_splits(recipe, folder / "dev")
    paces = _paces(asked, folder)
    budget = _settled(asked.budget, recipe, rows)
    methods = [_within(method, rows, budget, paces.get(method.name, ())) for method in asked.methods]
    if asked.baselines:
        content = only(methods[0])
        methods += baselines(methods[0], content, rows, lengths(read_recipe(content), rows))
    check_names(methods)
    methods = [with_rates(method, asked.rates) for method in methods]
    declared = {
        "mtbert": version("mtbert"),
        "compared_with": asked.methods[0].name,
        "methods": {method.name: only(method) for method in asked.methods},
        "blocks": asked.blocks,
        "budget": str(budget),
        "baselines": asked.baselines,
        "rates": list(asked.rates),
        "margin": asked.margin,
        "rows": rows,
    }
    return Plan(methods, asked.blocks, splits, asked.margin, declared | ({PACE: paces} if paces else {}))


def first_recipe(methods: Sequence[Method]) -> Recipe:
    """The recipe of the first method, whose tasks are those of the comparison."""
    return read_recipe(only(methods[0]))


def only(method: Method) -> Content:
    """The recipe of a method that is one."""
    [parts] = method.candidates.values()
    [content] = parts.values()
    return content


def training_rows(recipe: Recipe) -> dict[str, int]:
    """Task -> how many training rows it has."""
    apart = shared_tables(recipe)
    return {
        name: apart[name]["train"].num_rows if name in apart else len(read_rows(task, recipe.source(name, "train")))
        for name, task in recipe.tasks.items()
    }


def _settled(budget: Budget, recipe: Recipe, rows: Mapping[str, int]) -> Budget:
    """The budget with its amount: that of the first recipe where none was given."""
    if budget.amount is not None or budget.currency == "as written":
        return budget
    return replace(budget, amount=spent(lengths(recipe, rows), budget.currency))


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
        method.name: [stage.seconds_per_step for stage in costs(build(read_recipe(only(method))))]
        for method in asked.methods
    }
