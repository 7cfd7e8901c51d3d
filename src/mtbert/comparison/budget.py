"""The budget of every run, in a declared currency, and how a recipe's stages are made as long as it allows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from mtbert.data.samplers.base import Sampler
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe, Stage
from mtbert.runs.build import stage_length, stage_sampler
from mtbert.runs.data import unlabelled_rows

QUICK = 600 * 32  # examples


@dataclass(frozen=True)
class Budget:
    """So much of a currency for every run; no amount is that of the first recipe as it is written."""

    currency: Literal["examples", "steps", "seconds", "as written"]
    amount: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `quick`, `full`, `examples`, `steps`, or one of examples, steps and seconds with `=M`."""
        if text in ("quick", "full"):
            return cls("examples", QUICK) if text == "quick" else cls("as written")
        found = re.fullmatch(r"(examples|steps|seconds)(?:=([0-9][0-9_,]*(?:\.[0-9]+)?))?", text)
        if found is None or (found[1] == "seconds" and found[2] is None):
            raise Mistake(
                f"--budget {text}: give quick, full, examples, steps, examples=M, steps=M or seconds=M "
                f"(quick is {QUICK:,} examples, full every recipe as it is written)"
            )
        amount = None if found[2] is None else float(re.sub("[_,]", "", found[2]))
        if amount is not None and amount <= 0:
            raise Mistake(f"--budget {text}: a budget is more than nothing")
        currency: Any = found[1]
        return cls(currency, amount)

    def __str__(self) -> str:
        if self.currency == "as written":
            return "every recipe as it is written: the runs are not of equal length"
        return f"{self.amount:,.0f} {self.currency} a run" if self.amount else f"{self.currency} of the first recipe"


class TooShort(Mistake):
    """A budget that is less than one epoch of a sampler which needs a whole one to draw every task."""


@dataclass(frozen=True)
class Length:
    """How long one stage is."""

    steps: int
    epoch: int  # steps of one epoch of its sampler
    examples: float  # that its steps are expected to see; a pass's last batch counts as the mean of its batches
    examples_by_task: Mapping[str, float]
    shares: Mapping[str, float]  # task -> its share of the batches
    epoch_shares: Mapping[str, float]  # the same in a whole epoch, where the stage is shorter than one


def lengths(recipe: Recipe, rows: Mapping[str, int]) -> list[Length]:
    """The lengths of the stages as they are run; `rows` holds how many training rows with labels each task has."""
    unlabelled = unlabelled_rows(recipe)
    with recipe.lines():
        return [
            _length(recipe, stage, rows, unlabelled, recipe.seed + number)
            for number, (_, stage) in enumerate(recipe.unrolled())
        ]


def cost(recipe: Recipe, rows: Mapping[str, int], currency: str) -> float:
    """What a recipe costs, with the teachers that it has trained first, in examples or steps."""
    return (1 + recipe.own_teachers) * spent(lengths(recipe, rows), currency)


def spent(found: Sequence[Length], currency: str, rates: Sequence[float] = ()) -> float:
    """What stages of these lengths cost, teachers left aside; `rates` are seconds a step, stage by stage."""
    if currency == "seconds":
        return sum(length.steps * rate for length, rate in zip(found, rates, strict=True))
    return sum(length.examples if currency == "examples" else length.steps for length in found)


def within(
    content: Mapping[str, Any], rows: Mapping[str, int], budget: Budget, name: str, rates: Sequence[float] = ()
) -> dict[str, Any]:
    """A recipe's content with every stage made longer or shorter by one factor, so that the whole costs the budget.

    Teachers that the recipe has trained first are part of the whole, each as long as the model that learns from them.
    Raises TooShort where that makes a stage too short for one epoch of its sampler, so that a task gets less than half
    the share of the batches that a whole epoch would give it.
    """
    if budget.currency == "as written" or budget.amount is None:
        return dict(content)
    recipe = read_recipe(content)
    written, amount = lengths(recipe, rows), budget.amount / (1 + recipe.own_teachers)
    factor = amount / spent(written, budget.currency, rates)
    resized = _resized(content, recipe, written, factor)
    # draws near the end of a stage may differ from those that were left out: once more, by what came of it
    factor *= amount / spent(lengths(read_recipe(resized), rows), budget.currency, rates)
    resized = _resized(content, recipe, written, factor)
    _check(read_recipe(resized), rows, written, budget, name)
    return resized


def _length(recipe: Recipe, stage: Stage, rows: Mapping[str, int], unlabelled: Mapping[str, int], seed: int) -> Length:
    tasks = stage.tasks or tuple(recipe.tasks)
    sampler = stage_sampler(recipe, stage, {task: rows[task] for task in tasks}, unlabelled, seed)
    if stage.minutes is not None:
        raise Mistake("a stage that is `minutes` long has no length before it runs; give it `steps` or `epochs`")
    steps, epoch = stage_length(stage, sampler)
    drawn = _drawn(sampler, steps, stage.accumulate)
    size = {task: sampler.examples[task] / sampler.batches[task] for task in tasks}
    by_task = {task: drawn[task] * size[task] for task in tasks}
    whole = drawn if steps >= epoch else _drawn(sampler, epoch, stage.accumulate)
    shares, epoch_shares = ({task: some[task] / some.total() for task in tasks} for some in (drawn, whole))
    return Length(steps, epoch, sum(by_task.values()), by_task, shares, epoch_shares)


def _drawn(sampler: Sampler, steps: int, accumulate: int) -> Counter[str]:
    """Task -> how many of its batches so many steps draw."""
    return Counter(
        task for draw in range(steps * accumulate) for task in sampler.draw(draw, draw // accumulate / steps)
    )


def _resized(content: Mapping[str, Any], recipe: Recipe, written: Sequence[Length], factor: float) -> dict[str, Any]:
    entries = [entry for entry, _ in recipe.unrolled()]
    stages = []
    for number, (given, stage) in enumerate(zip(content["stages"], recipe.stages, strict=True)):
        if stage.for_each_task and stage.epochs is not None:
            size: dict[str, Any] = {"epochs": stage.epochs * factor}
        else:
            size = {"steps": max(1, round(written[entries.index(number)].steps * factor)), "epochs": None}
        every = stage.evaluate_every and max(1, round(stage.evaluate_every * factor))
        stages.append({**given, **size, "evaluate_every": every})
    return {**content, "stages": stages}


def _check(recipe: Recipe, rows: Mapping[str, int], written: Sequence[Length], budget: Budget, name: str) -> None:
    found = zip(lengths(recipe, rows), written, recipe.unrolled(), strict=True)
    for length, before, (entry, stage) in found:
        for task, share in length.epoch_shares.items():
            if length.steps < before.steps and length.shares[task] < share / 2:
                raise TooShort(
                    f"{name}, stage {entry}: {budget} are {length.steps:,} steps here, too few for one epoch of "
                    f"sampler '{stage.sampler.name}' ({length.epoch:,} steps): {task} would hardly be drawn; "
                    "give a larger --budget, or fewer rows with tasks.TASK.limit=N"
                )
