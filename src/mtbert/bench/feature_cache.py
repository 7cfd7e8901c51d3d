"""A frozen encoder: features computed once, against encoding every text anew in every epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtbert.cost import seconds
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build


@dataclass(frozen=True)
class FrozenBench:
    """What `mtbert bench frozen` measured: seconds of training, evaluations not counted."""

    cached: float  # the one encoding included
    encoded: float  # in every epoch
    ratio: float
    epochs: int
    steps: int
    threads: int


def bench_frozen(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str], data: str | Path | None, epochs: int
) -> FrozenBench:
    """Train the heads of the recipe's first stage for so many epochs, both ways."""
    stage = {"train": "heads", "regularizers": "[]", "steps": "null", "epochs": epochs}
    fixed = [*overrides, *(f"stages.0.{key}={value}" for key, value in stage.items())]
    cached, encoded = (
        build(read_recipe(recipe, [*fixed, f"stages.0.cache_features={said}"], data)).stage(0).trainer
        for said in ("true", "false")
    )
    spent = [seconds(lambda trainer=trainer: deque(trainer, maxlen=0)) for trainer in (cached, encoded)]  # type: ignore[misc]
    return FrozenBench(spent[0], spent[1], spent[1] / spent[0], epochs, cached.steps, torch.get_num_threads())
