"""Every regularizer from its table on a tiny model; the Gaussian one against its expectation on a linear map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.experiment import Experiment, build
from mtbert.recipe import read_recipe
from mtbert.training.objective import Objective
from mtbert.training.regularizers.table import REGULARIZERS, CleanPass, Gaussian, Regularizer
from mtbert.training.weighting import Fixed

W = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])


class LinearMap(nn.Module):
    """f(E) = W E: a model with the door that a regularizer uses."""

    def resume(self, x: Tensor, batch: Batch, start: int = 0) -> Tensor:
        return x[:, 0] @ W.T


def nothing(size: int) -> Batch:
    tokens = torch.zeros(size, 1, dtype=torch.long)
    return Batch("any", tokens, tokens, tokens == 0, None, np.arange(size), 1)


def make(name: str) -> Regularizer:
    return REGULARIZERS[name](**REGULARIZERS.complete(name, {}))


@pytest.fixture
def tiny(small_recipe: dict[str, Any]) -> Experiment:
    small_recipe["encoder"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    for task in small_recipe["tasks"].values():
        task["dropout"] = 0.0
    return build(read_recipe(small_recipe))


def clean_pass(experiment: Experiment, batch: Batch) -> CleanPass:
    embeddings = experiment.model.embed(batch)
    return CleanPass(embeddings, experiment.model.resume(embeddings, batch))


def test_gaussian_has_the_expectation_of_a_linear_map() -> None:
    size = 200_000
    torch.manual_seed(1)
    embeddings = torch.randn(size, 1, 3)
    model = LinearMap()
    clean = CleanPass(embeddings, model.resume(embeddings, nothing(size)))
    penalty = Gaussian(weight=10.0, sigma=0.05).penalty(model, nothing(size), clean, 0.0).item()  # type: ignore[arg-type]
    # variance of |W n|^2 for Gaussian n is 2 * tr((W W^T)^2) = 74, and the mean is over 2 outputs
    standard_error = 10.0 * 0.05**2 * math.sqrt(74 / 4 / size)
    assert abs(penalty - 0.0875) < 3 * standard_error


@pytest.mark.parametrize("task", ["mood", "same", "near"])
def test_gaussian_without_noise_and_dropout_is_exactly_zero(tiny: Experiment, task: str) -> None:
    batch = tiny.sets["train"][task].batch(range(6))
    tiny.model.train()
    assert Gaussian(sigma=0.0).penalty(tiny.model, batch, clean_pass(tiny, batch), 0.0).item() == 0.0


def test_gaussian_grows_with_the_square_of_its_noise_and_linearly_with_its_weight() -> None:
    embeddings = torch.randn(50, 1, 3)
    clean = CleanPass(embeddings, LinearMap().resume(embeddings, nothing(50)))
    found = []
    for weight, sigma in ((1.0, 0.1), (3.0, 0.1), (1.0, 0.2)):
        torch.manual_seed(7)
        found.append(Gaussian(weight=weight, sigma=sigma).penalty(LinearMap(), nothing(50), clean, 0.0).item())  # type: ignore[arg-type]
    assert found[1] == pytest.approx(3 * found[0], rel=1e-4)
    assert found[2] == pytest.approx(4 * found[0], rel=1e-4)


@pytest.mark.parametrize("task", ["mood", "same", "near"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_a_finite_scalar_and_never_negative(tiny: Experiment, name: str, task: str) -> None:
    tiny.model.train()
    for seed in range(5):
        torch.manual_seed(seed)
        batch = tiny.sets["train"][task].batch(range(seed, seed + 6))
        penalty = make(name).penalty(tiny.model, batch, clean_pass(tiny, batch), 0.0)
        assert penalty.shape == ()
        assert 0 <= penalty.item() < math.inf


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_teaches_the_encoder(tiny: Experiment, name: str) -> None:
    batch = tiny.sets["train"]["mood"].batch(range(6))
    tiny.model.train()
    make(name).penalty(tiny.model, batch, clean_pass(tiny, batch), 0.0).backward()
    reached = [p.grad for _, p in tiny.model.encoder.layers.named_parameters() if p.grad is not None]
    assert reached
    assert all(torch.isfinite(gradient).all() for gradient in reached)
    assert any(gradient.abs().max() > 0 for gradient in reached)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_added_to_the_loss_under_its_own_name(tiny: Experiment, name: str) -> None:
    batch = tiny.sets["train"]["mood"].batch(range(6))
    loss = Objective(tiny.model, {name: make(name)}, Fixed(tiny.recipe.tasks, []))(batch, 0.0)
    assert set(loss.terms) == {"loss", name}
    assert loss.total.item() == pytest.approx(loss.terms["loss"] + loss.terms[name], rel=1e-6)
