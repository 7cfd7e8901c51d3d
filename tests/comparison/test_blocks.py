"""Blocks: a seed fixes the order of the data, whatever random numbers a method draws for itself."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch

from mtbert.comparison.plan import seed_of
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.table import WEIGHTINGS
from tests.support.cases import each

METHODS = (
    [{"combiner": name} for name in COMBINERS]
    + [{"regularizers": [{"name": name}]} for name in REGULARIZERS]
    + [{"weighting": name} for name in WEIGHTINGS]
)


def trained(recipe: dict[str, Any], seed: int, steps: int = 4, **stage: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """A hash of the batches of the first steps, texts and all, and the heads that training began with."""
    given = {"steps": 20, "batch_size": 8, "sampler": "joint", "optimizer": {"lr": 1e-4}} | stage
    experiment = build(read_recipe(recipe | {"seed": seed, "stages": [given]}))
    heads = {name: p.detach().clone() for name, p in experiment.model.heads.named_parameters()}
    trainer, digest = experiment.stage(0).trainer, hashlib.sha256()
    for _ in range(steps):
        trainer.take_step()
        for batch in trainer._batches:
            digest.update(f"{batch.task}: {batch.rows.tolist()}".encode())
            digest.update(batch.tokens.numpy().tobytes())
    return digest.hexdigest(), heads


@pytest.fixture
def plain(small_recipe: dict[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    return trained(small_recipe, seed_of(1))


@each(method=METHODS)
def test_every_method_sees_the_batches_and_heads_of_its_block(
    small_recipe: dict[str, Any], plain: tuple[str, dict[str, torch.Tensor]], method: dict[str, Any]
) -> None:
    batches, heads = trained(small_recipe, seed_of(1), **method)
    assert batches == plain[0]
    assert all(torch.equal(heads[name], p) for name, p in plain[1].items())


def test_blocks_differ_in_batches_and_heads(
    small_recipe: dict[str, Any], plain: tuple[str, dict[str, torch.Tensor]]
) -> None:
    found = [trained(small_recipe, seed_of(block, other)) for block, other in ((2, False), (1, True))]
    assert len({plain[0], *(batches for batches, _ in found)}) == 3
    for _, heads in found:
        assert not any(torch.equal(heads[name], p) for name, p in plain[1].items() if p.dim() > 1)


def test_no_stage_of_a_block_has_the_seed_of_another_block() -> None:
    stages = range(50)
    seeds = [seed_of(block, other) + stage for block in range(40) for other in (False, True) for stage in stages]
    assert len(set(seeds)) == len(seeds)
