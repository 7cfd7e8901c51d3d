"""Gaussian noise, layer-wise noise stability, R-Drop and L2-SP against what they are by definition."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mtbert.errors import Mistake
from mtbert.runs.build import Experiment
from mtbert.training.objective import Objective
from mtbert.training.regularizers.l2_to_pretrained import L2ToPretrained
from mtbert.training.regularizers.noise import Gaussian, NoiseStability
from mtbert.training.regularizers.r_drop import RDrop
from mtbert.training.weightings.fixed import Fixed
from tests.support.penalised import ALL_KINDS, copied, gradients, linear_passes, make, passes_of, shake

W = [[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]  # |W|_F^2 = 7, tr((W W^T)^2) = 37
SIZE = 200_000


# ---- noise on the embeddings


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
def test_gaussian_has_the_expectation_of_a_linear_map(dropout: Any) -> None:
    torch.manual_seed(1)
    passes = linear_passes(W, torch.randn(SIZE, 1, 3))
    penalty = Gaussian(weight=10.0, sigma=0.05, dropout=dropout)(passes, 0.0).item()
    # variance of |W n|^2 for Gaussian n is 2 * 37, and the mean is over 2 outputs
    standard_error = 10.0 * 0.05**2 * math.sqrt(74 / 4 / SIZE)
    assert abs(penalty - 0.0875) < 3 * standard_error


def test_gaussian_grows_with_the_square_of_its_noise_and_linearly_with_its_weight() -> None:
    passes, found = linear_passes(W, torch.randn(50, 1, 3)), []
    for weight, sigma in ((1.0, 0.1), (3.0, 0.1), (1.0, 0.2)):
        torch.manual_seed(7)
        found.append(Gaussian(weight=weight, sigma=sigma)(passes, 0.0).item())
    assert found[1] == pytest.approx(3 * found[0], rel=1e-4)
    assert found[2] == pytest.approx(4 * found[0], rel=1e-4)


# ---- noise stability


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
def test_noise_stability_of_a_linear_layer_is_its_squared_norm(dropout: Any) -> None:
    torch.manual_seed(1)
    passes = linear_passes(W, torch.randn(SIZE // 2, 2, 3))
    penalty = NoiseStability(relative=False, sigma=0.05, dropout=dropout)(passes, 0.0).item()
    # sigma^2 |W|_F^2 a position, here as a mean over the 2 features that the layer gives
    assert abs(penalty - 0.05**2 * 7 / 2) < 3 * 0.05**2 * math.sqrt(74 / 4 / SIZE)


def test_relative_noise_is_as_large_as_its_token_is() -> None:
    torch.manual_seed(1)
    embeddings = torch.full((SIZE // 2, 2, 3), 2.0)
    embeddings[:, 1] = 4.0  # squares 4 and 16: 10 in the mean
    penalty = NoiseStability(sigma=0.05)(linear_passes(W, embeddings), 0.0).item()
    assert penalty == pytest.approx(10 * 0.05**2 * 7 / 2, rel=0.02)


def test_noise_stability_ignores_padding() -> None:
    torch.manual_seed(1)
    embeddings = torch.ones(SIZE // 2, 2, 3)
    embeddings[:, 1] = 1e4
    mask = torch.tensor([[True, False]]).expand(SIZE // 2, 2)
    penalty = NoiseStability(sigma=0.05)(linear_passes(W, embeddings, mask=mask), 0.0).item()
    assert penalty == pytest.approx(0.05**2 * 7 / 2, rel=0.02)


@pytest.mark.parametrize(("layer", "weights"), [(0, None), (1, None), (0, [0.5, 3.0]), (1, [0.25])])
@pytest.mark.parametrize("task", ALL_KINDS)
def test_noise_stability_sums_over_the_layers_above_the_noise(
    plain: Experiment, task: str, layer: int, weights: list[float] | None
) -> None:
    model = plain.model
    passes = passes_of(plain, task)
    torch.manual_seed(3)
    found = NoiseStability(relative=False, layer=layer, sigma=0.1, layer_weights=weights)(passes, 0.0).item()

    torch.manual_seed(3)
    x = passes.clean.states[layer]
    noisy = x + 0.1 * torch.randn_like(x)
    expected = 0.0
    for index in range(layer, 2):
        noisy = model.encoder.layers[index](noisy, index, passes.batch, model.modules_by_task.of(task))
        moved = (noisy - passes.clean.states[index + 1]).square().mean(-1)
        expected += (weights[index - layer] if weights else 1) * moved[passes.batch.mask].mean().item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_noise_stability_leaves_the_layers_below_the_noise_to_the_clean_pass(plain: Experiment) -> None:
    NoiseStability(layer=1, stop_clean=True)(passes_of(plain, "mood"), 0.0).backward()
    assert any("layers.1." in name for name in gradients(plain.model))
    assert not any(name.startswith("heads") and g.abs().max() > 0 for name, g in gradients(plain.model).items())


@pytest.mark.parametrize("layer", [2, 7])
def test_noise_cannot_enter_a_layer_that_is_not_there(plain: Experiment, layer: int) -> None:
    make("noise_stability", layer=1).check(plain.model)
    said = rf"noise cannot enter layer {layer}: this encoder has 2, from 0 \(the embeddings\) to 1"
    with pytest.raises(Mistake, match=said):
        Objective(plain.model, {"noise_stability": make("noise_stability", layer=layer)}, Fixed(plain.recipe.tasks, []))


def test_every_layer_above_the_noise_has_one_weight(plain: Experiment) -> None:
    make("noise_stability", layer=1, layer_weights=[2.0]).check(plain.model)
    with pytest.raises(Mistake, match=r"layer_weights \[2.0\]: 2 layers are above the noise, so it takes 2 weights"):
        make("noise_stability", layer_weights=[2.0]).check(plain.model)


# ---- R-Drop


@pytest.mark.parametrize("task", ALL_KINDS)
def test_r_drop_is_half_the_divergence_of_two_passes(dropping: Experiment, task: str) -> None:
    torch.manual_seed(3)
    penalty = RDrop()(passes_of(dropping, task), 0.0).item()
    torch.manual_seed(3)
    batch = dropping.sets["train"][task].batch(range(6))
    first, second = dropping.model(batch), dropping.model(batch)
    assert not torch.equal(first, second)
    assert penalty == pytest.approx(dropping.model.tasks[task].divergence(first, second).mean().item() / 2, rel=1e-6)


@pytest.mark.parametrize("task", ALL_KINDS)
def test_r_drop_without_dropout_is_exactly_zero(plain: Experiment, task: str) -> None:
    assert RDrop()(passes_of(plain, task), 0.0).item() == 0.0


# ---- L2-SP


def test_l2_is_half_the_squared_distance_from_the_start(plain: Experiment) -> None:
    one = L2ToPretrained(weight=0.5)
    one.start(plain.model)
    assert one(passes_of(plain, "mood"), 0.0).item() == 0.0
    start = copied(dict(plain.model.named_parameters()))
    shake(plain.model)
    one(passes_of(plain, "mood"), 0.0).backward()
    moved = {name: p.detach() - start[name] for name, p in plain.model.named_parameters() if name.startswith("encoder")}
    found = gradients(plain.model)
    assert found.keys() == moved.keys()  # heads, which had no pretrained start, are free
    for name, difference in moved.items():
        torch.testing.assert_close(found[name], 0.5 * difference)
    squares = sum(difference.double().square().sum().item() for difference in moved.values())
    assert one(passes_of(plain, "mood"), 0.0).item() == pytest.approx(0.5 * squares / 2, rel=1e-5)


def test_l2_holds_what_learns_and_needs_something_that_does(plain: Experiment) -> None:
    plain.model.encoder.word_embedding.requires_grad_(False)
    one = L2ToPretrained()
    one.start(plain.model)
    assert "word_embedding.weight" not in one.origin
    plain.model.encoder.requires_grad_(False)
    with pytest.raises(Mistake, match="l2_to_pretrained holds the encoder, of which nothing learns"):
        one.check(plain.model)
