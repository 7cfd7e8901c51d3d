"""What each method costs: its step as a multiple of the plain one, in alternation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.experiment import build
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe import read_recipe
from mtbert.training.gradients import COMBINERS
from mtbert.training.regularizers.table import REGULARIZERS


def bench_methods(recipe: str | Path | Mapping[str, Any], data: str | Path | None, steps: int) -> dict[str, float]:
    """'family name' -> median over steps of (seconds with the method / seconds of the plain step beside it).

    Methods that do not fit the recipe's tasks are left out.
    """
    plain = build(read_recipe(recipe, data=data)).stage(0).trainer
    plain.take_step()  # warm up
    costs = {}
    for name, overrides in _variants():
        try:
            other = build(read_recipe(recipe, overrides, data)).stage(0).trainer
        except Mistake:
            continue  # it does not fit the recipe's tasks, as a layer for pairs encoded apart: there is no cost to tell
        other.take_step()
        ratios = []
        for _ in range(steps):
            # the same batches on both sides: equal seeds, equal positions
            plain.step = other.step
            for task, stream in other.streams.items():
                plain.streams[task].position = stream.position
            beside = plain.take_step().seconds
            ratios.append(other.take_step().seconds / beside)
        costs[name] = statistics.median(ratios)
    return costs


def _variants() -> Iterator[tuple[str, list[str]]]:
    """Every method that changes a step, and the override that adds it to a recipe."""
    for name in TASK_MODULES:
        yield f"task module {name}", [f"modules=[{name}]"]
    for name in REGULARIZERS:
        yield f"regularizer {name}", [f"stages.0.regularizers=[{name}]"]
    for name in COMBINERS:
        yield f"combiner {name}", [f"stages.0.combiner={name}"]
