"""What each method costs: its step as a multiple of the plain one, in alternation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.trainer import Trainer
from mtbert.training.weightings.table import WEIGHTINGS


def bench_methods(recipe: str | Path | Mapping[str, Any], data: str | Path | None, steps: int) -> dict[str, float]:
    """'family name' -> median over steps of (seconds with the method / seconds of the plain step beside it).

    Methods that do not fit the recipe's tasks are left out.
    """
    costs = {}
    for common, variants in _variants().items():
        plain = build(read_recipe(recipe, common, data)).stage(0).trainer
        plain.take_step()  # warm up
        for name, overrides in variants.items():
            try:
                other = build(read_recipe(recipe, [*common, *overrides], data)).stage(0).trainer
            except Mistake:
                continue  # it does not fit the recipe's tasks, as a layer for pairs encoded apart: there is no cost
            other.take_step()
            costs[name] = _cost(plain, other, steps)
    return costs


def _cost(plain: Trainer, other: Trainer, steps: int) -> float:
    ratios = []
    for _ in range(steps):
        # the same batches on both sides: equal seeds, equal positions
        plain.step = other.step
        for task, stream in other.streams.items():
            plain.streams[task].position = stream.position
        beside = plain.take_step().seconds
        ratios.append(other.take_step().seconds / beside)
    return statistics.median(ratios)


def _variants() -> dict[tuple[str, ...], dict[str, list[str]]]:
    """What a plain step is -> every method that changes such a step, and the overrides that add it to a recipe."""
    modules = {f"task module {name}": [f"modules=[{name}]"] for name in TASK_MODULES}
    frozen = {
        f"{name}, encoder frozen": [*overrides, "stages.0.train=[heads, modules]"]
        for name, overrides in modules.items()
    }
    regularizers = {f"regularizer {name}": [f"stages.0.regularizers=[{name}]"] for name in REGULARIZERS}
    regularizers |= {
        f"regularizer {name}, dropout {dropout}": [f"stages.0.regularizers=[{{name: {name}, dropout: {dropout}}}]"]
        for name in REGULARIZERS
        if "dropout" in REGULARIZERS.options(name)
        for dropout in ("off", "same_mask", "independent")
    }
    weightings = {f"loss weighting {name}": [f"stages.0.weighting={name}"] for name in WEIGHTINGS}
    combiners = {f"combiner {name}": [f"stages.0.combiner={name}"] for name in COMBINERS}
    exact = "precision=float32"  # small noise is compared in float32 in any case, so all is
    # combiners and weightings are beside the plain sum of the same tasks
    return {(exact,): modules | frozen | regularizers, (exact, "stages.0.sampler=joint"): combiners | weightings}
