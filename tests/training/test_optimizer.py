"""AdamW against the course's numbers, torch's own AdamW and arithmetic by hand; every optimizer from its table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.optimizer import OPTIMIZERS, AdamW, Optimizer

COURSE = torch.tensor([[0.55482787, 0.86665666, 0.07291982], [-0.44724506, -0.2951228, -0.2717272]])
COURSE_START = [[-0.00432252, 0.30971584, -0.47518533], [-0.4248946, -0.22236897, 0.15482073]]


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def named(values: list[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
    return [(f"layer.{index}.weight", p) for index, p in enumerate(values)]


def gradients(values: list[nn.Parameter], step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in values]


def give(values: list[nn.Parameter], step: int) -> None:
    for p, gradient in zip(values, gradients(values, step), strict=True):
        p.grad = gradient


def make(name: str, values: list[nn.Parameter]) -> Optimizer:
    return OPTIMIZERS[name](named(values), **OPTIMIZERS.complete(name, {}))


# ---- AdamW


@pytest.mark.parametrize("form", ["starter", "torch"])
def test_adamw_passes_the_courses_optimizer_test(form: Any) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    torch.testing.assert_close(model.weight.data, torch.tensor(COURSE_START), atol=1e-7, rtol=0)
    optimizer = AdamW(model.named_parameters(), lr=1e-3, weight_decay=1e-4, form=form)
    generator = np.random.default_rng(0)
    for _ in range(1000):
        x = torch.tensor(generator.uniform(size=3), dtype=torch.float32)
        loss = (model(x) - torch.stack([x[0] + x[1], -x[2]])).square().sum()
        loss.backward()
        optimizer.step(1.0)
        optimizer.clear()
    torch.testing.assert_close(model.weight.data, COURSE, atol=1.2e-5, rtol=0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_equals_torchs_own_in_float64(decay: float) -> None:
    ours, theirs = parameters((4, 3), (5,), (2, 3, 2)), parameters((4, 3), (5,), (2, 3, 2))
    optimizer = AdamW(named(ours), lr=1e-2, betas=[0.8, 0.98], epsilon=1e-6, weight_decay=decay, decay_vectors=True)
    reference = torch.optim.AdamW(theirs, lr=1e-2, betas=(0.8, 0.98), eps=1e-6, weight_decay=decay)
    for step in range(50):
        factor = 1 - step / 60
        reference.param_groups[0]["lr"] = 1e-2 * factor
        give(ours, step)
        give(theirs, step)
        optimizer.step(factor)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_adamw_equals_torchs_own_on_a_matrix_that_threads_share() -> None:
    ours, theirs = parameters((700, 401)), parameters((700, 401))
    optimizer = AdamW(named(ours), lr=1e-2, weight_decay=0.1)
    reference = torch.optim.AdamW(theirs, lr=1e-2, eps=1e-6, weight_decay=0.1)
    for step in range(3):
        give(ours, step)
        give(theirs, step)
        optimizer.step(1.0)
        reference.step()
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-12, rtol=0)


def test_adamw_takes_gradients_of_any_memory_layout() -> None:
    ours, theirs = parameters((4, 4), (3, 5)), parameters((4, 4), (3, 5))
    optimizer = AdamW(named(ours), lr=1e-2)
    reference = torch.optim.AdamW(theirs, lr=1e-2, eps=1e-6, weight_decay=0.0)
    for values in (ours, theirs):
        values[0].grad = torch.arange(16.0, dtype=torch.float64).view(4, 4).t()
        values[1].grad = torch.ones(1, dtype=torch.float64).expand(3, 5)
    optimizer.step(1.0)
    reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_decay_leaves_vectors_alone_unless_asked() -> None:
    ours, theirs = parameters((4, 3), (5,)), parameters((4, 3), (5,))
    optimizer = AdamW(named(ours), lr=1e-2, weight_decay=0.5)
    groups = [{"params": theirs[:1], "weight_decay": 0.5}, {"params": theirs[1:], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, eps=1e-6)
    for step in range(20):
        give(ours, step)
        give(theirs, step)
        optimizer.step(1.0)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_adamw_in_the_starters_form_equals_three_steps_by_hand() -> None:
    lr, first, second, epsilon, decay = 1e-3, 0.9, 0.999, 1e-6, 0.01
    p, mean, square, expected = 0.7, 0.0, 0.0, []
    for t, g in enumerate([0.1, -0.3, 0.05], start=1):
        mean = first * mean + (1 - first) * g
        square = second * square + (1 - second) * g * g
        rate = lr * math.sqrt(1 - second**t) / (1 - first**t)
        p = p - rate * mean / (math.sqrt(square) + epsilon) - lr * decay * p
        expected.append(p)

    value = nn.Parameter(torch.tensor([[0.7]], dtype=torch.float64))
    optimizer = AdamW([("p", value)], lr=lr, epsilon=epsilon, weight_decay=decay, form="starter")
    found = []
    for g in [0.1, -0.3, 0.05]:
        value.grad = torch.tensor([[g]], dtype=torch.float64)
        optimizer.step(1.0)
        found.append(value.item())
    # decay before or after the gradient's step differs by lr^2 * decay * |update / lr|: methods.md 4 allows either
    assert found == pytest.approx(expected, abs=1e-3 * 1e-3 * 0.01 * 3 * 1.5)
    assert abs(found[0] - 0.7 + 9.996839e-4 + 1e-3 * 0.01 * 0.7) < 2e-8


def test_without_decay_the_starters_form_is_exact() -> None:
    lr, mean, square, p = 1e-3, 0.0, 0.0, 0.7
    value = nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    optimizer = AdamW([("p", value)], lr=lr, form="starter")
    for t, g in enumerate([0.1, -0.3, 0.05], start=1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        p -= lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * mean / (math.sqrt(square) + 1e-6)
        value.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step(1.0)
        assert value.item() == pytest.approx(p, abs=1e-14)


def test_the_first_step_in_the_starters_form_moves_by_the_published_amount() -> None:
    value = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    value.grad = torch.tensor([0.1], dtype=torch.float64)
    AdamW([("p", value)], lr=1e-3, form="starter").step(1.0)
    assert value.item() == pytest.approx(-9.996839e-4, abs=5e-11)


def test_without_bias_correction_the_first_step_is_the_bare_ratio_of_moments() -> None:
    value = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    value.grad = torch.tensor([0.1], dtype=torch.float64)
    AdamW([("p", value)], lr=1e-3, correct_bias=False).step(1.0)
    assert value.item() == pytest.approx(-1e-3 * 0.01 / (math.sqrt(0.001) * 0.1 + 1e-6), rel=1e-12)


@pytest.mark.parametrize("form", ["starter", "torch"])
def test_without_bias_correction_moments_are_used_as_they_are(form: Any) -> None:
    mean, square, p = 0.0, 0.0, 0.7
    value = nn.Parameter(torch.tensor([[0.7]], dtype=torch.float64))
    optimizer = AdamW([("p", value)], lr=1e-3, weight_decay=0.01, form=form, correct_bias=False)
    for g in [0.1, -0.3, 0.05]:
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        p = p - 1e-3 * mean / (math.sqrt(square) + 1e-6) - 1e-3 * 0.01 * p
        value.grad = torch.tensor([[g]], dtype=torch.float64)
        optimizer.step(1.0)
        assert value.item() == pytest.approx(p, abs=1e-14)


def test_a_parameter_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match="'turned' is not contiguous"):
        AdamW([("turned", nn.Parameter(torch.randn(4, 3).t()))])


def test_an_idle_parameter_rests_and_counts_only_its_own_steps() -> None:
    busy, idle = parameters((3, 2), (3, 2))
    alone = nn.Parameter(idle.detach().clone())
    optimizer = AdamW([("busy", busy), ("idle", idle)], lr=1e-2, weight_decay=0.1)
    reference = torch.optim.AdamW([alone], lr=1e-2, eps=1e-6, weight_decay=0.1)
    for step in range(20):
        before = idle.detach().clone()
        busy.grad, new = gradients([busy, idle], step)
        idle.grad = new if step % 3 == 0 else None
        optimizer.step(1.0)
        optimizer.clear()
        if step % 3:
            assert torch.equal(idle, before)
        else:
            alone.grad = new
            reference.step()
    torch.testing.assert_close(idle, alone, atol=1e-12, rtol=0)


def test_zero_fill_keeps_an_idle_parameter_moving_on_its_momentum() -> None:
    values, theirs = parameters((3, 2)), parameters((3, 2))
    optimizer = AdamW(named(values), lr=1e-2, zero_fill=True)
    reference = torch.optim.AdamW(theirs, lr=1e-2, eps=1e-6, weight_decay=0.0)
    for step in range(6):
        before = values[0].detach().clone()
        give(theirs, step)
        values[0].grad = theirs[0].grad.clone() if step == 0 else None
        if step:
            theirs[0].grad = torch.zeros_like(theirs[0])
        optimizer.step(1.0)
        optimizer.clear()
        reference.step()
        assert not torch.equal(values[0], before)
    torch.testing.assert_close(values[0], theirs[0], atol=1e-12, rtol=0)


# ---- rates of parts


NAMES = [
    "encoder.word_embedding.weight",
    "encoder.embedding_norm.weight",
    *(f"encoder.layers.{layer}.{part}.weight" for layer in range(12) for part in ("to_qkv", "output_norm")),
    "encoder.pooler.weight",
    "heads.mood.output.weight",
    "modules_by_task.entries.0.mood.gains",
    "weighting.mood",
]


def moves(names: list[str], **options: Any) -> dict[str, float]:
    """How far the first step moves each parameter, in learning rates: Adam's first step has the size of the rate."""
    values = {name: nn.Parameter(torch.zeros(2, dtype=torch.float64)) for name in names}
    for p in values.values():
        p.grad = torch.tensor([1e3, -1e3], dtype=torch.float64)
    OPTIMIZERS["adamw"](values.items(), **OPTIMIZERS.complete("adamw", {"lr": 1e-3, **options})).step(0.5)
    assert all(p[0] == -p[1] for p in values.values())
    return {name: p[1].item() / 0.5e-3 for name, p in values.items()}


def test_without_rates_every_parameter_moves_by_the_learning_rate() -> None:
    assert moves(NAMES) == pytest.approx(dict.fromkeys(NAMES, 1.0))


def test_rates_multiply_the_learning_rate_of_parts() -> None:
    found = moves(NAMES, rates={"heads": 10, "modules": 5.0, "encoder": 0.5, "weighting": 100})
    prefixes = {"heads.": 10.0, "modules_by_task.": 5.0, "encoder.": 0.5, "weighting.": 100.0}
    expected = {name: rate for name in NAMES for prefix, rate in prefixes.items() if name.startswith(prefix)}
    assert found == pytest.approx(expected)


def test_layer_decay_slows_each_layer_down_by_one_more_factor_than_the_layer_above() -> None:
    found = moves(NAMES, layer_decay=0.8)
    for layer in range(12):
        for part in ("to_qkv", "output_norm"):
            assert found[f"encoder.layers.{layer}.{part}.weight"] == pytest.approx(0.8 ** (11 - layer))
    assert found["encoder.word_embedding.weight"] == pytest.approx(0.8**12)
    assert found["encoder.embedding_norm.weight"] == pytest.approx(0.8**12)
    assert [found[name] for name in NAMES[-4:]] == pytest.approx([1.0] * 4)


def test_layer_decay_counts_from_the_topmost_layer_that_learns() -> None:
    found = moves([f"encoder.layers.{layer}.expand.bias" for layer in (0, 1, 2)], layer_decay=0.5)
    assert list(found.values()) == pytest.approx([0.25, 0.5, 1.0])


def test_rates_and_layer_decay_multiply() -> None:
    found = moves(NAMES, rates={"encoder": 0.1, "heads": 3}, layer_decay=0.5)
    assert found["encoder.layers.10.to_qkv.weight"] == pytest.approx(0.05)
    assert found["heads.mood.output.weight"] == pytest.approx(3)


def test_every_parameter_of_a_recipes_model_has_the_rate_of_its_part(small_recipe: dict[str, Any]) -> None:
    small_recipe["modules"] = [{"name": "lhuc"}]
    small_recipe["stages"][0]["optimizer"] = {"rates": {"encoder": 2, "heads": 3, "modules": 5}, "layer_decay": 0.5}
    optimizer = build(read_recipe(small_recipe)).stage(0).trainer.optimizer
    assert isinstance(optimizer, AdamW)
    factors = optimizer.factors
    by_beginning = {
        "encoder.layers.1.": 2,
        "encoder.layers.0.": 1,
        "encoder.word_embedding": 0.5,
        "encoder.position_embedding": 0.5,
        "encoder.segment_embedding": 0.5,
        "encoder.embedding_norm": 0.5,
        "encoder.pooler.": 2,
        "heads.": 3,
        "modules_by_task.": 5,
    }
    for beginning, rate in by_beginning.items():
        assert {factor for name, factor in factors.items() if name.startswith(beginning)} == {rate}
    assert all(name.startswith(tuple(by_beginning)) for name in factors)


def test_parts_with_rates_are_torchs_parameter_groups() -> None:
    names = ["encoder.layers.0.expand.weight", "encoder.layers.1.expand.weight", "heads.mood.output.weight"]
    ours, theirs = (parameters((4, 3), (3, 4), (5, 2)) for _ in range(2))
    optimizer = AdamW(zip(names, ours, strict=True), lr=1e-2, weight_decay=0.3, rates={"heads": 4.0}, layer_decay=0.25)
    groups = [{"params": [p], "lr": lr} for p, lr in zip(theirs, (0.25e-2, 1e-2, 4e-2), strict=True)]
    reference = torch.optim.AdamW(groups, eps=1e-6, weight_decay=0.3)
    for step in range(20):
        give(ours, step)
        give(theirs, step)
        optimizer.step(1.0)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": {"head": 10}}, r"'head'; did you mean 'heads'\? \(valid: encoder, heads, modules, weighting\)"),
        ({"rates": {"heads": 0}}, "rates of optimizer 'adamw'"),
        ({"layer_decay": 0}, "layer_decay of optimizer 'adamw' is 0"),
        ({"layer_decay": 1.1}, "layer_decay of optimizer 'adamw' is 1.1"),
    ],
)
def test_rates_that_make_no_sense_are_a_mistake(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Mistake, match=message):
        moves(NAMES, **options)


def test_a_rate_for_a_part_that_does_not_learn_is_a_mistake() -> None:
    with pytest.raises(Mistake, match="names 'modules', of which nothing learns"):
        moves(["heads.mood.output.weight"], rates={"modules": 5})


# ---- words that rest


WORDS = "encoder.word_embedding.weight"


def word_gradient(step: int) -> Tensor:
    """Three of eight words have a gradient; one element of it may be zero."""
    generator = torch.Generator().manual_seed(200 + step)
    gradient = torch.zeros(8, 4, dtype=torch.float64)
    gradient[torch.randperm(8, generator=generator)[:3]] = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    gradient[:, 0] = 0
    return gradient


def test_lazy_words_are_torchs_sparse_adam() -> None:
    (ours,), (theirs,) = parameters((8, 4)), parameters((8, 4))
    optimizer = AdamW([(WORDS, ours)], lr=1e-2, form="starter", lazy_words=True)
    reference = torch.optim.SparseAdam([theirs], lr=1e-2, eps=1e-6)
    for step in range(30):
        ours.grad = word_gradient(step)
        rows = ours.grad.any(dim=1).nonzero().view(-1)
        theirs.grad = torch.sparse_coo_tensor(rows[None], ours.grad[rows], (8, 4), check_invariants=False)
        optimizer.step(1.0)
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_lazy_words_leave_unseen_words_and_their_moments_alone() -> None:
    (value,) = parameters((8, 4))
    optimizer = AdamW([(WORDS, value)], lr=1e-2, weight_decay=0.1, lazy_words=True)
    for step in range(10):
        before = {name: tensor.clone() for name, tensor in (optimizer.state() | {"words": value.detach()}).items()}
        value.grad = word_gradient(step)
        unseen, seen = ~value.grad.any(dim=1), value.grad.any(dim=1)
        optimizer.step(1.0)
        after = optimizer.state() | {"words": value.detach()}
        for name in before:
            if name != f"steps.{WORDS}":
                assert torch.equal(after[name][unseen], before[name][unseen])
        assert not torch.equal(value[seen], before["words"][seen])


def test_lazy_words_that_are_all_seen_move_as_ever() -> None:
    (lazy, lazy_other), (eager, eager_other) = parameters((8, 4), (8, 4)), parameters((8, 4), (8, 4))
    first = AdamW([(WORDS, lazy), ("heads.mood.output.weight", lazy_other)], weight_decay=0.1, lazy_words=True)
    second = AdamW([(WORDS, eager), ("heads.mood.output.weight", eager_other)], weight_decay=0.1)
    for step in range(10):
        for words, other in ((lazy, lazy_other), (eager, eager_other)):
            words.grad = gradients([words], step)[0]
            other.grad = word_gradient(step)  # only words rest
        first.step(1.0)
        second.step(1.0)
    assert torch.equal(lazy, eager)
    assert torch.equal(lazy_other, eager_other)


# ---- every optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_finds_the_bottom_of_a_bowl(name: str) -> None:
    (value,) = values = parameters((4, 2))
    optimizer = make(name, values)
    optimizer.lr = 0.05
    start = value.square().sum().item()
    for _ in range(300):
        value.square().sum().backward()
        optimizer.step(1.0)
        optimizer.clear()
    assert value.square().sum().item() < 0.01 * start


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_at_a_factor_of_zero_moves_nothing(name: str) -> None:
    values = parameters((3, 2), (4,))
    before = [p.detach().clone() for p in values]
    optimizer = make(name, values)
    give(values, 0)
    optimizer.step(0.0)
    assert all(torch.equal(p, old) for p, old in zip(values, before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_leaves_parameters_without_a_gradient_alone(name: str) -> None:
    busy, idle = values = parameters((3, 2), (3, 2))
    before = idle.detach().clone()
    optimizer = make(name, values)
    for step in range(4):
        busy.grad = gradients([busy], step)[0]
        optimizer.step(1.0)
        optimizer.clear()
    assert torch.equal(idle, before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_leaves_gradients_as_they_are(name: str) -> None:
    values = parameters((3, 2), (4,))
    give(values, 0)
    make(name, values).step(1.0)
    kept = [p.grad for p in values if p.grad is not None]
    assert all(torch.equal(mine, gradient) for mine, gradient in zip(kept, gradients(values, 0), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_clear_forgets_every_gradient(name: str) -> None:
    values = parameters((3, 2), (4,))
    optimizer = make(name, values)
    give(values, 0)
    optimizer.clear()
    assert [p.grad for p in values] == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_goes_on_from_a_saved_state_bit_by_bit(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    whole = parameters((3, 2), (4,), (2, 2), dtype=dtype)
    optimizer = make(name, whole)
    for step in range(5):
        give(whole, step)
        whole[2].grad = None  # one that has never had a gradient
        optimizer.step(1.0)
    save_file({key: tensor.clone() for key, tensor in optimizer.state().items()}, tmp_path / "state.safetensors")

    copies = [nn.Parameter(p.detach().clone()) for p in whole]
    other = make(name, copies)
    other.load(load_file(tmp_path / "state.safetensors"))
    for step in range(5, 10):
        for values, one in ((whole, optimizer), (copies, other)):
            give(values, step)
            one.step(0.5)
    assert all(torch.equal(mine, copy) for mine, copy in zip(whole, copies, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_taking_the_state_does_not_disturb_training(name: str) -> None:
    watched, alone = parameters((3, 2)), parameters((3, 2))
    first, second = make(name, watched), make(name, alone)
    for step in range(5):
        first.state()
        give(watched, step)
        give(alone, step)
        first.step(1.0)
        second.step(1.0)
    assert torch.equal(watched[0], alone[0])
