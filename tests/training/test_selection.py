"""Which parameters a stage trains, each part from its table."""

from __future__ import annotations

from typing import Any

import pytest

from mtbert.errors import Mistake
from mtbert.experiment import build
from mtbert.model.multitask import MultiTask
from mtbert.recipe import read_recipe
from mtbert.training.selection import SELECTORS, select


@pytest.fixture
def model(small_recipe: dict[str, Any]) -> MultiTask:
    return build(read_recipe(small_recipe | {"modules": ["lhuc"]})).model


@pytest.mark.parametrize("part", SELECTORS)
def test_a_part_learns_and_all_else_is_frozen(model: MultiTask, part: str) -> None:
    learning = set(select(model, [part]))
    assert learning
    assert {name for name, p in model.named_parameters() if p.requires_grad} == learning


@pytest.mark.parametrize("part", SELECTORS)
def test_a_part_chosen_earlier_is_forgotten(model: MultiTask, part: str) -> None:
    first = select(model, [part])
    select(model, ["heads"])
    select(model, ["all"])
    assert select(model, [part]) == first


@pytest.mark.parametrize("part", SELECTORS)
def test_parts_together_are_their_union(model: MultiTask, part: str) -> None:
    union = set(select(model, [part])) | set(select(model, ["heads"]))
    assert set(select(model, [part, "heads"])) == union


def test_all_is_every_parameter(model: MultiTask) -> None:
    assert select(model, ["all"]) == [name for name, _ in model.named_parameters()]


def test_heads_are_two_tensors_a_linear_head(model: MultiTask) -> None:
    expected = {f"heads.{task}.output.{leaf}" for task in ("mood", "same", "near") for leaf in ("weight", "bias")}
    assert set(select(model, ["heads"])) == expected


def test_heads_modules_and_encoder_share_no_parameter(model: MultiTask) -> None:
    heads, modules = set(select(model, ["heads"])), set(select(model, ["modules"]))
    encoder = {name for name, _ in model.named_parameters() if name.startswith("encoder.")}
    assert not heads & modules
    assert heads | modules | encoder == set(select(model, ["all"]))
    assert sum(p.numel() for _, p in model.named_parameters() if p.requires_grad) == sum(
        p.numel() for p in model.parameters()
    )


def test_an_unknown_part_is_named_with_the_nearest(model: MultiTask) -> None:
    with pytest.raises(Mistake, match=r"unknown part to train 'head'; did you mean 'heads'"):
        select(model, ["head"])


def test_a_stage_that_would_train_nothing_is_refused(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"][0]["train"] = "modules"
    with pytest.raises(Mistake, match=r"stages\.0\.train.*nothing to train"):
        build(read_recipe(small_recipe)).stage(0)
