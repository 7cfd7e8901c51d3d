"""A recipe that is to last for so many minutes, however long it was written."""

from __future__ import annotations

import math

from mtbert.errors import Mistake
from mtbert.recipe.schema import LENGTHS, Recipe


def in_minutes(recipe: Recipe, minutes: float | None) -> Recipe:
    """The recipe whose stages last for so many minutes together, divided as their lengths are; as it is for None.

    Teachers that it has trained first take part of them, each as much as the model that learns from them.

    Raises Mistake for no time at all, and where the lengths of several stages cannot be compared.
    """
    if minutes is None:
        return recipe
    if not 0 < minutes < math.inf:
        raise Mistake(f"minutes: a training takes more than none, not {minutes:g}")
    units = {next(key for key in LENGTHS if getattr(stage, key) is not None) for stage in recipe.stages}
    if len(units) > 1:
        said = " and ".join(sorted(units))
        raise Mistake(
            f"minutes: stages whose lengths are in {said} cannot share {minutes:g} minutes; give each its own"
        )
    (unit,) = units
    lengths = [getattr(stage, unit) for stage in recipe.stages]
    minutes /= 1 + recipe.own_teachers
    stages = tuple(
        stage.model_copy(update={"epochs": None, "steps": None, "minutes": minutes * length / sum(lengths)})
        for stage, length in zip(recipe.stages, lengths, strict=True)
    )
    return recipe.model_copy(update={"stages": stages})
