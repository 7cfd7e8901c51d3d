"""What SMART's ascents climb, against finite differences in float64 by formulas written out here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.model.encoder import compute_again
from mtbert.model.multitask import MultiTask
from mtbert.runs.build import Experiment
from mtbert.training.regularizers.passes import Comparison, Dropout, Passes
from mtbert.training.regularizers.smart import Smart, SmartMtdnn, surrogate_gradient
from mtbert.training.regularizers.smart_weight import POSITIONS, SEGMENTS, WORDS, SmartWeight, _Tables
from tests.support.penalised import ALL_KINDS, batch_of, experiment, linear_passes, make, passes_of

SIGMA = 1e-5  # the published one
SEEDS = range(8)
FAR = 1e4  # a step so long that a perturbation is its direction


# outputs that are no softmax over all of them: mt-dnn has no such tasks
NO_SOFTMAX = ["stars", "cumulative", "topics", "names"]


def distributions(task: str, outputs: Tensor) -> Tensor:
    """What the outputs say is likely: (B, classes), or one of these for each label or word, (B, N, classes)."""
    if task == "topics":  # a coin for each label
        return torch.stack([outputs.sigmoid(), 1 - outputs.sigmoid()], -1)
    if task == "names":  # a softmax for each word, behind its mark
        return outputs[..., 1:].softmax(-1)
    if task in ("stars", "cumulative"):  # that the class is k at least: for CORN on condition that it is k - 1 at least
        above = outputs.sigmoid().cumprod(-1) if task == "stars" else outputs.sigmoid()
        one, none = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([one, above], -1) - torch.cat([above, none], -1)
    return outputs.softmax(-1)


def symmetric(task: str, outputs: Tensor, clean: Tensor) -> Tensor:
    """The divergence of the task's kind, summed over the batch: over labels and over words it is a mean."""
    if outputs.shape[-1] == 1:
        return (outputs - clean).square().sum()
    p, q = distributions(task, outputs), distributions(task, clean)
    each = (p * (p / q).log() + q * (q / p).log()).sum(-1)
    if task == "names":
        words = clean[..., 0] > 0
        return (each * words / words.sum(-1, keepdim=True)).sum()
    return each.mean(-1).sum() if task == "topics" else each.sum()


def of_the_release(task: str, outputs: Tensor, clean: Tensor) -> Tensor:
    """stable_kl of the mt-dnn release, where y is held still and so are the logarithms.

    It is made for a softmax over all outputs. For kinds that the release does not have we climb their divergence.
    """
    if outputs.shape[-1] == 1 or task in NO_SOFTMAX:
        return symmetric(task, outputs, clean)
    p, y = outputs.softmax(-1), clean.softmax(-1)
    rp, ry = (-(1 / (x.detach() + 1e-6) - 1 + 1e-6).log() for x in (p, y))
    return (p * (rp - ry) * 2).sum()


def gradient(
    model: MultiTask, comparison: Comparison, noise: Tensor, measure: Callable[[str, Tensor, Tensor], Tensor]
) -> Tensor:
    """By the noise on the embeddings, a finite pass away in float64: (S, L, D)."""
    wide, batch, clean = copy.deepcopy(model).double(), comparison.passes.batch, comparison.clean
    if comparison.dropout == "off":
        wide.eval()
    tried = noise.double().requires_grad_()
    outputs = []
    for x in (clean.states[0].detach().double(), clean.states[0].detach().double() + tried):
        with torch.random.fork_rng():
            torch.set_rng_state(clean.random[0].cpu)  # masks are bits: the same in every precision
            outputs.append(wide.resume(x, batch))
    return torch.autograd.grad(measure(batch.task, outputs[1], outputs[0].detach()), tried)[0]


def cosines(x: Tensor, y: Tensor, examples: int) -> Tensor:
    """Of each example: (S, L, D), (S, L, D) -> (B,)."""
    x, y = (one.double().view(-1, examples, *one.shape[1:]).transpose(0, 1).flatten(1) for one in (x, y))
    return (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))


def climbed(comparison: Comparison, norm: Any = "l2", seed: int = 7) -> tuple[Tensor, Tensor]:
    """The first noise, and the direction that Smart takes from there."""
    torch.manual_seed(seed)
    noise = SIGMA * torch.randn_like(comparison.clean.states[0]) * comparison.passes.batch.mask[:, :, None]
    torch.manual_seed(seed)
    return noise, Smart(radius=FAR, step_size=FAR, norm=norm).perturbation(comparison)


@pytest.fixture
def plain(small_recipe: dict[str, Any]) -> Experiment:
    return experiment(small_recipe)


@pytest.fixture
def dropping(small_recipe: dict[str, Any]) -> Experiment:
    return experiment(small_recipe, dropout=0.2)


# ---- small noise


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
@pytest.mark.parametrize("norm", ["inf", "l2"])
@pytest.mark.parametrize("task", ALL_KINDS)
def test_every_example_climbs_the_gradient_that_float64_finds(
    plain: Experiment, task: str, norm: Any, dropout: Dropout
) -> None:
    for seed in SEEDS:
        comparison = passes_of(plain, task, range(seed, seed + 6)).under(dropout, SIGMA)
        noise, found = climbed(comparison, norm, seed)
        expected = gradient(plain.model, comparison, noise, symmetric)
        assert cosines(found, expected, 6).min() >= 0.99
        order = {"inf": torch.inf, "l2": 2}[norm]
        sizes = found.view(-1, 6, *found.shape[1:]).transpose(0, 1).flatten(1).norm(order, dim=1)
        torch.testing.assert_close(sizes, torch.full((6,), FAR))  # none is left where it was


@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_direction_is_that_of_the_masks_which_both_passes_share(dropping: Experiment, task: str) -> None:
    comparison = passes_of(dropping, task).under("same_mask", SIGMA)
    noise, found = climbed(comparison)
    assert cosines(found, gradient(dropping.model, comparison, noise, symmetric), 6).min() >= 0.99


@pytest.mark.parametrize("task", ALL_KINDS)
def test_every_table_climbs_the_gradient_that_float64_finds(plain: Experiment, task: str) -> None:
    for seed in SEEDS:
        passes = passes_of(plain, task, range(seed, seed + 6))
        comparison, tables = passes.under("off", SIGMA), _Tables(plain.model, passes.batch)
        torch.manual_seed(seed)
        noise = {name: SIGMA * torch.randn_like(rows) for name, rows in tables.rows.items()}
        torch.manual_seed(seed)
        found = SmartWeight(radius=FAR, step_size=FAR).perturbation(comparison, tables)

        wide = copy.deepcopy(plain.model).double().eval()
        clean = wide(passes.batch).detach()
        used = {
            WORDS: passes.batch.tokens.unique(),
            POSITIONS: torch.arange(passes.batch.tokens.shape[1]),
            SEGMENTS: torch.arange(2),
        }
        weights = {name: wide.encoder.get_parameter(name) for name in noise}
        with torch.no_grad():
            for name, weight in weights.items():
                weight[used[name]] += noise[name].double()
        slopes = torch.autograd.grad(symmetric(task, wide(passes.batch), clean), list(weights.values()))
        for (name, one), slope in zip(found.items(), slopes, strict=True):
            assert torch.cosine_similarity(one.double().flatten(), slope[used[name]].flatten() * 1e9, dim=0) >= 0.99


@pytest.mark.parametrize("task", ALL_KINDS)
def test_every_example_climbs_the_gradient_of_the_releases_surrogate(plain: Experiment, task: str) -> None:
    for seed in SEEDS:
        comparison = passes_of(plain, task, range(seed, seed + 6)).under("independent", SIGMA)
        torch.manual_seed(seed)
        noise = SIGMA * torch.randn_like(comparison.clean.states[0])
        torch.manual_seed(seed)
        found = SmartMtdnn(step_size=1e20, epsilon=1e-30).perturbation(comparison)
        expected = gradient(plain.model, comparison, noise, of_the_release)
        largest = expected.abs().amax(-1, keepdim=True)
        expected = (expected / largest).where(largest > 0, 0.0)
        seen = comparison.passes.batch.mask[:, :, None]
        assert cosines(found * seen, expected * seen, 6).min() >= 0.99


def test_the_surrogates_gradient_is_as_large_as_float64_finds_it() -> None:
    classes = Classification(name="classes", text="text", label="label", classes=3)
    score = Regression(name="score", text="text", label="label", range=(0, 1))
    for task, z in ((classes, [[0.5, 1.0, -1.0], [4.0, -3.0, 0.0]]), (score, [[0.3], [0.9]])):
        clean = torch.tensor(z, dtype=torch.float64)
        tangent = 1e-6 * torch.randn(clean.shape, dtype=torch.float64)
        moved = (clean + tangent).requires_grad_()
        (expected,) = torch.autograd.grad(of_the_release(task.name, moved, clean), moved)
        found = surrogate_gradient(task, clean.float(), tangent.float())
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-11)


@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_direction_does_not_depend_on_how_the_clean_pass_was_made(plain: Experiment, task: str) -> None:
    _, expected = climbed(passes_of(plain, task).under("same_mask", SIGMA))
    with torch.autocast("cpu", torch.bfloat16):
        _, halved = climbed(passes_of(plain, task).under("same_mask", SIGMA))
    plain.model.encoder.run = compute_again
    _, recomputed = climbed(passes_of(plain, task).under("same_mask", SIGMA))
    for name in (WORDS, POSITIONS, SEGMENTS, "embedding_norm.weight", "embedding_norm.bias"):
        plain.model.encoder.get_parameter(name).requires_grad_(False)
    _, frozen = climbed(passes_of(plain, task).under("same_mask", SIGMA))
    for found, least in ((halved, 0.98), (recomputed, 1 - 1e-6), (frozen, 1 - 1e-6)):
        assert cosines(found, expected, 6).min() >= least


def test_all_texts_are_climbed_alike_however_long(small_recipe: dict[str, Any]) -> None:
    small_recipe["encoder"] |= {"positions": 128}
    long = experiment(small_recipe)
    batch = batch_of(long, "mood")
    tokens = torch.randint(5, 12, (6, 100))
    passes = Passes(
        long.model,
        type(batch)("mood", tokens, torch.zeros_like(tokens), tokens > 0, None, batch.rows, 1),
    )
    comparison = passes.under("off", SIGMA)
    noise, found = climbed(comparison)
    assert cosines(found, gradient(long.model, comparison, noise, symmetric), 6).min() >= 0.99


@pytest.mark.parametrize("weights", [[[1.0, -2.0, 0.5]], [[1.0, -2.0, 0.5], [2.0, 1.0, 0.0]]], ids=["score", "classes"])
def test_an_example_whose_outputs_rounding_holds_still_climbs_along_its_noise(
    monkeypatch: pytest.MonkeyPatch, weights: list[list[float]]
) -> None:
    embeddings = torch.ones(64, 2, 3)
    passes = linear_passes(weights, embeddings)
    # near 100 float32 goes in steps of 7.6e-6, which noise of 3.5e-4 does not reach through weights of 1e-4
    monkeypatch.setattr(passes.model, "resume", lambda x, batch, start: 100 + 1e-4 * x[:, 0])
    comparison = passes.under("off", SIGMA)
    noise, found = climbed(comparison)
    assert torch.equal(comparison.again(embeddings + 30 * noise).outputs, comparison.clean.outputs)
    w = torch.tensor(weights[0]) - torch.tensor(weights[1] if len(weights) == 2 else [0.0, 0.0, 0.0])
    expected = FAR * (noise[:, 0] @ w).sign()[:, None] * w / w.norm()
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-3)


# ---- noise that is not small


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
@pytest.mark.parametrize("task", ALL_KINDS)
def test_noise_that_float32_sees_climbs_the_divergence_itself(
    dropping: Experiment, task: str, dropout: Dropout
) -> None:
    comparison = passes_of(dropping, task).under(dropout, 0.05)
    x = comparison.clean.states[0].detach()
    stood = torch.get_rng_state()
    noise = (0.05 * torch.randn_like(x) * comparison.passes.batch.mask[:, :, None]).requires_grad_()
    moved = comparison.distance(comparison.again(x + noise).outputs, stop_clean=True)
    (expected,) = torch.autograd.grad(moved, noise)
    torch.set_rng_state(stood)
    found = Smart(sigma=0.05, radius=FAR, step_size=FAR, norm="l2").perturbation(comparison)
    assert cosines(found, expected, 6).min() > 1 - 1e-6


@pytest.mark.parametrize("task", ALL_KINDS)
def test_masks_of_their_own_are_part_of_what_is_climbed(dropping: Experiment, task: str) -> None:
    comparison = passes_of(dropping, task).under("independent", SIGMA)
    x = comparison.clean.states[0].detach()
    stood = torch.get_rng_state()
    noise = (SIGMA * torch.randn_like(x) * comparison.passes.batch.mask[:, :, None]).requires_grad_()
    moved = comparison.distance(comparison.again(x + noise).outputs, stop_clean=True)
    (expected,) = torch.autograd.grad(moved, noise)
    torch.set_rng_state(stood)
    found = Smart(radius=FAR, step_size=FAR, norm="l2").perturbation(comparison)
    assert cosines(found, expected, 6).min() > 1 - 1e-6


@pytest.mark.parametrize("name", ["smart", "smart_weight"])
def test_half_precision_does_not_round_away_where_a_wide_balls_ascent_starts(plain: Experiment, name: str) -> None:
    found = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(make(name, radius=0.05, step_size=0.05)(passes_of(plain, "mood"), 0.0).item())
    assert found[1] == pytest.approx(found[0], rel=0.02)
