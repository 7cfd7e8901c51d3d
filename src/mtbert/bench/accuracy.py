"""What the fast paths cost in accuracy: the same recipe and seed, trained by them and by their plain twins."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtbert.bench.twins import plain_twins
from mtbert.cost import seconds
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import build
from mtbert.scoring.evaluation import evaluate


@dataclass(frozen=True)
class PlainBench:
    """What `mtbert bench plain` measured: overall dev scores at the end of the recipe's first stage, seed by seed."""

    seeds: tuple[int, ...]
    fast: tuple[float, ...]
    plain: tuple[float, ...]
    largest_difference: float
    mean_difference: float  # fast - plain
    plain_deviation: float  # of the plain runs among themselves: what the seed alone does
    fast_seconds: float  # of training
    plain_seconds: float
    threads: int


def bench_plain(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str], data: str | Path | None, seeds: Sequence[int]
) -> PlainBench:
    """Train every seed both ways.

    Dropout masks and batches are drawn differently, so that single seeds differ by chance; compare with
    `plain_deviation`.
    """
    recipes = [read_recipe(recipe, [*overrides, f"seed={seed}"], data) for seed in seeds]
    fast, plain = ([_train(one, as_plain) for one in recipes] for as_plain in (False, True))
    scores = [[score for score, _ in way] for way in (fast, plain)]
    differences = [mine - other for mine, other in zip(*scores, strict=True)]
    return PlainBench(
        tuple(seeds),
        tuple(scores[0]),
        tuple(scores[1]),
        max(map(abs, differences)),
        statistics.mean(differences),
        statistics.stdev(scores[1]) if len(seeds) > 1 else 0.0,
        sum(spent for _, spent in fast),
        sum(spent for _, spent in plain),
        torch.get_num_threads(),
    )


def _train(recipe: Recipe, as_plain: bool) -> tuple[float, float]:
    """The overall dev score after the first stage, and the seconds of its training."""
    experiment = build(recipe)
    trainer, dev, *_ = experiment.stage(0)
    with plain_twins(experiment, trainer) if as_plain else nullcontext():
        spent = seconds(lambda: deque(trainer, maxlen=0))
    return evaluate(trainer.objective.model, dev).overall, spent
