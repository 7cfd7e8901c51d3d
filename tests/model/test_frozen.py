"""A frozen encoder's features, computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.model.frozen import FrozenExamples, FrozenModel
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.scoring.evaluation import outputs_of


@pytest.fixture
def experiment(small_recipe: dict[str, Any]) -> Experiment:
    return build(read_recipe(small_recipe, ["stages.0.train=heads"]))


@pytest.mark.parametrize("task", ["mood", "same", "near"])
def test_cached_features_give_the_outputs_of_the_whole_model(experiment: Experiment, task: str) -> None:
    examples = experiment.sets["dev"][task]
    whole = outputs_of(experiment.model, examples)
    cached = outputs_of(FrozenModel(experiment.model), FrozenExamples(examples, experiment.model))
    torch.testing.assert_close(cached, whole, rtol=1e-5, atol=1e-6)


def test_features_are_encoded_once_however_many_batches_are_drawn(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    embed = experiment.model.embed

    def counted(batch: Batch) -> Tensor:
        encoded.extend(batch.rows)
        return embed(batch)

    monkeypatch.setattr(experiment.model, "embed", counted)
    stage = experiment.stage(0)
    for _ in range(30):
        stage.trainer.take_step()
    counts = {task: len(examples) for task, examples in experiment.sets["train"].items()}
    assert len(encoded) == sum(counts[task] for task in stage.trainer.streams)


def test_a_stage_that_trains_more_than_heads_is_not_cached(small_recipe: dict[str, Any]) -> None:
    for override in ("stages.0.train=all", "stages.0.cache_features=false"):
        overrides = ["stages.0.train=heads", override]
        experiment = build(read_recipe(small_recipe, overrides))
        assert experiment.stage(0).trainer.objective.model is experiment.model


def test_an_encoder_left_in_training_mode_encodes_differently_every_time(experiment: Experiment) -> None:
    model, examples = experiment.model.train(), experiment.sets["train"]["mood"]
    batch = examples.batch(np.arange(8))
    assert not torch.equal(model.encoder.embed(batch), model.encoder.embed(batch))
    cached = FrozenExamples(examples, model)
    first, again = (cached.batch(np.arange(8)).features for _ in range(2))
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)
    assert model.training


def test_a_batch_of_features_has_no_tokens_and_moves_with_its_features(experiment: Experiment) -> None:
    batch = FrozenExamples(experiment.sets["train"]["near"], experiment.model).batch(np.arange(8))
    assert batch.tokens.shape == batch.segments.shape == batch.mask.shape == (8, 0)
    assert batch.features is not None
    assert batch.features.shape == (8, next(experiment.model.heads["near"].parameters()).shape[-1])
    moved = batch.to(torch.device("meta")).features
    assert moved is not None
    assert moved.device.type == "meta"


def test_training_on_cached_features_is_training_on_what_is_encoded_every_time(small_recipe: dict[str, Any]) -> None:
    small_recipe["encoder"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    for task in small_recipe["tasks"].values():
        task["dropout"] = 0.0
    # one batch a pass: features are not bucketed by length, so smaller batches would be other ones
    small_recipe["stages"] = [{"steps": 9, "batch_size": 40, "train": "heads", "optimizer": {"lr": 0.05}}]
    before = build(read_recipe(small_recipe)).model.heads.state_dict()
    heads = []
    for cached in (True, False):
        experiment = build(read_recipe(small_recipe, [f"stages.0.cache_features={str(cached).lower()}"]))
        for record in experiment.stage(0).trainer:
            assert record.examples == 40
        heads.append(experiment.model.heads.state_dict())
    for name, mine in heads[0].items():
        torch.testing.assert_close(mine, heads[1][name], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(mine, before[name], atol=0.01)
