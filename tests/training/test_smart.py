"""SMART in its forms: closed forms on a linear score, balls, tables, and what the mt-dnn release computes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.runs.build import Experiment
from mtbert.training.regularizers.smart import Smart, SmartMtdnn, _log_sided, surrogate
from mtbert.training.regularizers.smart_weight import POSITIONS, SEGMENTS, WORDS, SmartWeight, _Tables
from tests.support.penalised import ALL_KINDS, copied, linear_passes, make, passes_of

W = [1.0, -2.0, 0.5]  # |W|_1 = 3.5, |W|_2^2 = 5.25
CLASSES = Classification(name="classes", text="text", label="label", classes=3)
SCORE = Regression(name="score", text="text", label="label", range=(0, 1))
# as numbers near 0 have more digits behind the point, the model is asked at 0
ORIGIN = torch.zeros(4, 2, 3)


# ---- the paper's


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
def test_one_step_reaches_the_worst_case_of_a_linear_score_in_the_box(dropout: Any) -> None:
    penalty = Smart(weight=1.0, dropout=dropout)(linear_passes([W], ORIGIN), 0.0)
    assert penalty.item() == pytest.approx(1.225e-9, rel=1e-5)  # (1e-5 * 3.5)^2


def test_one_step_reaches_the_worst_case_of_a_linear_score_in_the_sphere() -> None:
    penalty = Smart(weight=1.0, norm="l2", sigma=1e-7)(linear_passes([W], ORIGIN), 0.0)
    assert penalty.item() == pytest.approx(1e-10 * 5.25, rel=1e-4)


@pytest.mark.parametrize(("norm", "worst"), [("inf", (2 * 3.5) ** 2), ("l2", 2 * 5.25)])
def test_a_pair_encoded_apart_is_one_example(norm: Any, worst: float) -> None:
    # f = W (u + v): in the box both sides move by eps each, in the sphere they share eps
    passes = linear_passes([W], ORIGIN, sequences=2)
    penalty = Smart(weight=1.0, norm=norm, sigma=1e-7)(passes, 0.0)
    assert penalty.item() == pytest.approx(1e-10 * worst, rel=1e-4)


def test_every_example_has_a_step_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # the second example's gradient is a millionth of the first's: normalised together it would hardly move
    passes, scale = linear_passes([W], ORIGIN[:2]), torch.tensor([[1.0], [1e-3]])
    monkeypatch.setattr(passes.model, "resume", lambda x, batch, start: x[:, 0] * scale)
    noise = Smart(sigma=1e-7).perturbation(passes.under("off", 1.0))
    torch.testing.assert_close(noise[:, 0].abs(), torch.full((2, 3), 1e-5))


def test_the_penalty_does_not_fall_as_the_ball_grows() -> None:
    found = []
    for radius in (0.0, 1e-6, 5e-6, 1e-5, 1e-4, 1e-3):
        torch.manual_seed(3)
        found.append(Smart(weight=1.0, radius=radius)(linear_passes([W], ORIGIN), 0.0).item())
    assert found[0] == 0.0
    assert found == sorted(found)
    assert found[4] > 50 * found[3]


def test_the_step_follows_the_sign_of_the_gradient_and_leaves_padding_alone() -> None:
    mask = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    noise = Smart(sigma=1e-3, radius=1.0).perturbation(linear_passes([W], ORIGIN, mask=mask).under("off", 1.0))
    assert torch.equal(noise[1, 1], torch.zeros(3))
    assert noise[0, 1].abs().min() > 0
    torch.manual_seed(0)
    first = 1e-3 * torch.randn(4, 2, 3)
    torch.manual_seed(0)
    noise = Smart(sigma=1e-3, radius=1.0).perturbation(linear_passes([W], ORIGIN).under("off", 1.0))
    direction = torch.tensor(W) / 2 * (first[:, 0] @ torch.tensor(W)).sign()[:, None]  # |W|_inf = 2
    torch.testing.assert_close(noise[:, 0], first[:, 0] + 1e-3 * direction, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(noise[:, 1], first[:, 1])


@pytest.mark.parametrize("norm", ["inf", "l2"])
@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_perturbation_of_each_example_is_inside_its_ball_and_on_its_border(
    plain: Experiment, task: str, norm: Any
) -> None:
    for radius, steps in ((1e-5, 1), (1e-3, 3)):
        passes = passes_of(plain, task)
        noise = Smart(radius=radius, norm=norm, ascent_steps=steps).perturbation(passes.under("off", radius))
        examples = noise.view(passes.batch.sequences, 6, -1).transpose(0, 1).flatten(1)
        sizes = examples.norm(p={"inf": math.inf, "l2": 2}[norm], dim=1)
        assert sizes.max() <= radius * (1 + 1e-6)
        assert sizes.min() > 0.5 * radius


@pytest.mark.parametrize("norm", ["inf", "l2"])
def test_a_perturbation_that_is_inside_the_ball_is_not_blown_up_to_its_border(norm: Any) -> None:
    one = Smart(radius=1.0, sigma=1e-3, step_size=1e-3, norm=norm)
    noise = one.perturbation(linear_passes([W], ORIGIN).under("off", 1.0))
    assert 0 < noise.abs().max() < 0.01


@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_perturbation_is_worse_than_chance(plain: Experiment, task: str) -> None:
    passes = passes_of(plain, task)
    # a step is one of a power iteration; outputs for each of several words are open to chance in so many directions
    # that after one the worst of them does not stand out yet
    steps = 5 if passes.task.reads_words else 1
    worst = Smart(weight=1.0, radius=1e-3, ascent_steps=steps)(passes, 0.0).item()
    comparison = passes.under("off", 1e-3)
    x = comparison.clean.states[0]
    signs = [torch.randint(0, 2, x.shape) * 2e-3 - 1e-3 for _ in range(20)]
    assert worst > 2 * max(comparison.distance(comparison.again(x + noise).outputs).item() for noise in signs)


def test_more_ascent_steps_are_not_kinder(plain: Experiment) -> None:
    found = []
    for steps in (1, 2, 5):
        torch.manual_seed(3)
        one = Smart(weight=1.0, radius=0.05, step_size=0.01, ascent_steps=steps)
        found.append(one(passes_of(plain, "mood"), 0.0).item())
    assert found == sorted(found)
    assert found[2] > 2 * found[0]


def test_without_a_gradient_the_noise_rests_where_it_is() -> None:
    passes = linear_passes([[0.0, 0.0, 0.0]], ORIGIN)
    noise = Smart(sigma=1e-6).perturbation(passes.under("off", 1.0))
    assert torch.isfinite(noise).all()
    assert Smart()(passes, 0.0).item() == 0.0


# ---- mt-dnn's


def test_the_surrogate_has_the_values_of_the_release() -> None:
    z, target = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.5, 1.5, 3.0]])
    assert surrogate(CLASSES, z, target).item() == pytest.approx(0.01120523, abs=2e-7)
    assert surrogate(CLASSES, target, z).item() == pytest.approx(0.17763164, abs=2e-7)
    assert surrogate(CLASSES, z.repeat(4, 1), target.repeat(4, 1)).item() == pytest.approx(4 * 0.01120523, abs=1e-6)
    assert surrogate(SCORE, torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])).item() == 5.0


@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_releases_perturbation_is_about_one_per_token(plain: Experiment, task: str) -> None:
    noise = SmartMtdnn().perturbation(passes_of(plain, task).under("off", 1e-5))
    largest = noise.abs().amax(-1)
    assert largest.max() <= 1
    assert largest.min() > 0.8  # of 16 normals of 1e-5, the largest m gives m / (m + 1e-6)


def test_the_releases_penalty_is_the_divergence_in_value_and_moves_each_side_through_its_logarithm_alone() -> None:
    clean, noisy = (torch.randn(5, 3, requires_grad=True) for _ in range(2))
    ours = _log_sided(CLASSES, noisy, clean)
    assert ours.item() == pytest.approx(CLASSES.divergence(noisy, clean).mean().item(), rel=1e-5)
    # each Kullback-Leibler term as torch has it, its reference side held still
    p, q = noisy.log_softmax(-1), clean.log_softmax(-1)
    kl = torch.nn.functional.kl_div
    theirs = kl(p, q.detach().exp(), reduction="batchmean") + kl(q, p.detach().exp(), reduction="batchmean")
    for one in (noisy, clean):
        torch.testing.assert_close(
            torch.autograd.grad(ours, one, retain_graph=True)[0], torch.autograd.grad(theirs, one, retain_graph=True)[0]
        )


# ---- on the tables


@pytest.mark.parametrize("task", ALL_KINDS)
def test_embeddings_from_rows_without_noise_are_the_models_own(plain: Experiment, task: str) -> None:
    passes = passes_of(plain, task)
    tables = _Tables(plain.model, passes.batch)
    embeddings = tables.embed({name: torch.zeros_like(rows) for name, rows in tables.rows.items()})
    assert torch.equal(embeddings, plain.model.embed(passes.batch))


def test_a_word_is_moved_alike_wherever_it_stands_and_no_other(plain: Experiment) -> None:
    passes = passes_of(plain, "mood")
    tables = _Tables(plain.model, passes.batch)
    noise = {name: torch.zeros_like(rows) for name, rows in tables.rows.items()}
    words = passes.batch.tokens.unique()
    noise[WORDS][3] = torch.randn(16)
    moved = tables.embed(noise) - plain.model.embed(passes.batch)
    assert torch.equal(moved.abs().amax(-1) > 1e-4, passes.batch.tokens == words[3])


@pytest.mark.parametrize("task", ALL_KINDS)
def test_each_table_stays_in_its_box_and_is_moved(plain: Experiment, task: str) -> None:
    passes = passes_of(plain, task)
    noise = SmartWeight(sigma=1e-6).perturbation(passes.under("off", 1e-5), _Tables(plain.model, passes.batch))
    assert len(noise) == 3
    for one in noise.values():
        assert one.abs().max() <= 1e-5 * (1 + 1e-6)
        assert (one.abs() > 0.9e-5).float().mean() > 0.4  # the step saturates


def test_the_perturbed_tables_are_worse_than_chance(plain: Experiment) -> None:
    passes = passes_of(plain, "mood")
    comparison, tables = passes.under("off", 1e-4), _Tables(plain.model, passes.batch)

    def distance(noise: dict[str, Tensor]) -> float:
        return comparison.distance(comparison.anew(lambda: tables.embed(noise)).outputs).item()

    worst = distance(SmartWeight(radius=1e-4).perturbation(comparison, tables))
    chances = [
        distance({name: torch.randint(0, 2, rows.shape) * 2e-4 - 1e-4 for name, rows in tables.rows.items()})
        for _ in range(20)
    ]
    assert worst > 2 * max(chances)


def test_tables_and_their_gradients_are_untouched_by_the_ascent(plain: Experiment) -> None:
    before = copied(plain.model.encoder.state_dict())
    penalty = SmartWeight()(passes_of(plain, "same"), 0.0)
    assert all(p.grad is None for p in plain.model.parameters())
    penalty.backward()
    after = plain.model.encoder.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    batch = passes_of(plain, "same").batch
    used = batch.tokens[batch.mask].unique()
    gradients = {name: plain.model.encoder.get_parameter(name).grad for name in (WORDS, POSITIONS, SEGMENTS)}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())  # the penalty teaches them
    assert gradients[WORDS][used].any(1).all()  # type: ignore[index]


def test_the_reports_preset_leaves_binary_tasks_alone_and_is_else_smart_on_tables(plain: Experiment) -> None:
    for task in ALL_KINDS:
        found = []
        for one in (make("smart_r2_exact"), make("smart_weight"), make("smart_weight", binary=False)):
            torch.manual_seed(3)
            found.append(one(passes_of(plain, task), 0.0).item())
        assert found[1] > 0
        assert found[0] == found[2] == (0.0 if task.startswith("same") else found[1])


@pytest.mark.parametrize("sigma", [0.0, 1e-5])
def test_a_ball_without_radius_leaves_nothing_of_the_noise(plain: Experiment, sigma: float) -> None:
    one = Smart(norm="l2", radius=0.0, sigma=sigma, ascent_steps=2)
    assert one(passes_of(plain, "mood"), 0.0).item() == 0.0
