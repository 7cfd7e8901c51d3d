"""Every loss weighting from its table, and the closed forms of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchjd import scalarization as peers

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.weightings.base import Weighting
from mtbert.training.weightings.gradnorm import wanted_norms
from mtbert.training.weightings.table import WEIGHTINGS
from tests.support.cut_off import assert_goes_on_to_the_bit


def tasks(**weights: float) -> dict[str, Task]:
    mood = Classification(name="mood", text="text", label="mood", classes=3, weight=weights.get("mood", 1.0))
    same = Classification(name="same", text=["a", "b"], label="same", classes=2, weight=weights.get("same", 1.0))
    near = Regression(name="near", text=["a", "b"], label="score", range=(0, 5), weight=weights.get("near", 1.0))
    return {"mood": mood, "same": same, "near": near}


def shared() -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor([[0.5]]))]


def make(
    name: str, given: Mapping[str, Task] | None = None, layer: list[nn.Parameter] | None = None, **options: Any
) -> Weighting:
    return WEIGHTINGS[name](given or tasks(), layer or shared(), **WEIGHTINGS.complete(name, options))


def loss_of(layer: list[nn.Parameter], value: float, slope: float = 1.0) -> Tensor:
    """A loss of this value whose gradient at the layer has this length."""
    direction = slope * (layer[0][0] - layer[0][0].detach())
    return value + direction


def step(
    weighting: Weighting,
    layer: list[nn.Parameter],
    before: Mapping[str, float],
    after: Mapping[str, float],
    slopes: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """One step on these losses; how much each one's gradient counted."""
    counted = {}
    for task, value in before.items():
        one = loss_of(layer, value, (slopes or {}).get(task, 1.0))
        whole = weighting(task, one)
        counted[task] = torch.autograd.grad(whole, layer[0])[0][0].item() / (slopes or {}).get(task, 1.0)
    weighting.after_step(lambda: {task: torch.tensor(value) for task, value in after.items()})
    return counted


LOSSES = [
    ({"mood": 1.1, "same": 0.7, "near": 0.1}, {"mood": 1.0, "same": 0.69, "near": 0.09}),
    ({"mood": 1.0, "same": 0.6, "near": 0.2}, {"mood": 1.05, "same": 0.6, "near": 0.1}),
    ({"mood": 0.8, "same": 0.6, "near": 0.3}, {"mood": 0.7, "same": 0.5, "near": 0.2}),
    ({"near": 0.25}, {"near": 0.2}),
    ({"mood": 0.7, "same": 0.5, "near": 0.1}, {"mood": 0.6, "same": 0.5, "near": 0.05}),
]


def learn(weighting: Weighting, layer: list[nn.Parameter], start: int = 0) -> list[dict[str, float]]:
    """Some steps of different losses, each an epoch, some with one task only."""
    found = []
    for before, after in LOSSES[start:]:
        found.append(step(weighting, layer, before, after, {"mood": 2.0, "same": 0.5}))
        weighting.end_epoch()
    return found


# --- what all of them promise


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighted_loss_is_a_scalar_of_the_same_graph(name: str) -> None:
    layer = shared()
    whole = make(name, layer=layer)("same", loss_of(layer, 0.7, slope=3.0))
    assert whole.shape == ()
    (gradient,) = torch.autograd.grad(whole, layer[0])
    assert gradient[0] > 0
    assert gradient[1] == 0


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_the_tasks_own_weight_multiplies_whatever_the_method_says(name: str) -> None:
    layer = shared()
    plain, weighted = make(name, layer=layer), make(name, tasks(mood=2.0, near=5.0), layer=layer)
    for before, after in zip(learn(plain, layer), learn(weighted, layer), strict=True):
        for task, weight in {"mood": 2.0, "same": 1.0, "near": 5.0}.items():
            if task in before:
                assert after[task] == pytest.approx(weight * before[task], rel=1e-6)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_weighting_goes_on_from_its_state(name: str) -> None:
    layer = shared()
    first = make(name, layer=layer)
    for before, after in LOSSES[:2]:
        step(first, layer, before, after, {"mood": 2.0, "same": 0.5})
        first.end_epoch()
    second = make(name, layer=layer)
    second.load({key: tensor.clone() for key, tensor in first.state().items()})
    assert learn(second, layer, start=2) == learn(first, layer, start=2)
    assert second.state().keys() == first.state().keys()
    for key, tensor in first.state().items():
        torch.testing.assert_close(second.state()[key], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_a_run_cut_off_goes_on_to_the_bit(small_recipe: dict[str, Any], tmp_path: Path, name: str) -> None:
    small_recipe["stages"][0] |= {"weighting": name, "steps": 14, "steps_per_epoch": 3, "sampler": "joint"}
    small_recipe["stages"][0] |= {
        "batch_size": 16,
        "evaluate_every": 4,
    }  # 3 steps an epoch, cut off in the middle of one
    state = assert_goes_on_to_the_bit(small_recipe, tmp_path, steps=6)
    assert name == "fixed" or any("weighting" in key for key in state)


@pytest.mark.parametrize("sampler", ["joint", "round_robin"])
@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings_train_with_several_tasks_a_step_or_one(
    small_recipe: dict[str, Any], name: str, sampler: str
) -> None:
    small_recipe["precision"] = "bfloat16"
    small_recipe["stages"][0] |= {"weighting": name, "steps": 8, "sampler": sampler, "accumulate": 2, "clip": 1.0}
    experiment = build(read_recipe(small_recipe))
    trainer = experiment.stage(0).trainer
    before = {key: p.detach().clone() for key, p in experiment.model.named_parameters()}
    assert all(math.isfinite(record.gradient_norm) and record.gradient_norm > 0 for record in trainer)
    assert any(not torch.equal(p, before[key]) for key, p in experiment.model.named_parameters())


# --- uncertainty


@pytest.mark.parametrize(
    ("task", "stationary", "value"),
    [
        ("near", math.log(2), 0.84657359),  # ln L, of squared errors
        ("mood", math.log(4), 1.19314718),  # ln 2L, of cross-entropies
    ],
)
def test_uncertainty_is_stationary_where_the_paper_says(task: str, stationary: float, value: float) -> None:
    weighting = make("uncertainty")
    s = weighting.parameters()[task]
    with torch.no_grad():
        s.fill_(stationary)
    whole = weighting(task, torch.tensor(2.0))
    assert whole.item() == pytest.approx(value, abs=1e-6)
    (slope,) = torch.autograd.grad(whole, s)
    assert slope.item() == pytest.approx(0, abs=1e-6)


def test_uncertainty_starts_with_cross_entropies_whole_and_squared_errors_half() -> None:
    counted = step(make("uncertainty"), layer := shared(), {}, {}) or step(
        make("uncertainty"), layer, {"mood": 1.0, "near": 1.0}, {}
    )
    assert counted == pytest.approx({"mood": 1.0, "near": 0.5})


def test_uncertainty_learns_with_the_stages_optimizer_at_a_rate_of_its_own(small_recipe: dict[str, Any]) -> None:
    optimizer = {"lr": 1e-3, "rates": {"weighting": 20}}
    small_recipe["stages"][0] |= {"weighting": "uncertainty", "tasks": "mood", "steps": 1, "optimizer": optimizer}
    small_recipe["stages"][0]["schedule"] = "constant"
    trainer = build(read_recipe(small_recipe)).stage(0).trainer
    trainer.take_step()
    # Adam's first step is the rate; the loss of three classes, about 1.1, is above 1/2: s grows
    assert trainer.objective.weighting.parameters()["mood"].item() == pytest.approx(0.02, rel=1e-3)


def test_uncertainty_equals_torchjd_on_squared_errors() -> None:
    three = {name: tasks()["near"].model_copy(update={"name": name}) for name in "abc"}
    ours, theirs = make("uncertainty", three), peers.UW(3)
    s, values = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([0.5, 2.0, 1.0])
    with torch.no_grad():
        theirs.log_var.copy_(s)
        for p, value in zip(ours.parameters().values(), s, strict=True):
            p.copy_(value)
    torch.testing.assert_close(
        sum(ours(name, value) for name, value in zip("abc", values, strict=True)), theirs(values)
    )


# --- DWA


def epochs(weighting: Weighting, *means: Mapping[str, float]) -> dict[str, float]:
    """What each task counts after epochs of two batches with these mean losses."""
    for losses in means:
        for task, mean in losses.items():
            for value in (0.5 * mean, 1.5 * mean):
                weighting(task, torch.tensor(value, dtype=torch.float64))
        weighting.end_epoch()
    # counts a loss of 0 itself: what it counts shows in the slope
    found = {}
    for task in weighting.tasks:
        one = torch.ones((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(weighting(task, one), one)
        found[task] = slope.item()
    return found


def test_dwa_is_the_closed_form_after_two_epochs() -> None:
    first, second = {"mood": 2.0, "same": 1.0, "near": 3.0}, {"mood": 1.0, "same": 1.0, "near": 3.0}
    found = epochs(make("dwa"), first, second)
    assert found == pytest.approx({"mood": 0.84079524, "same": 1.07960238, "near": 1.07960238}, abs=1e-6)


def test_dwa_weighs_alike_in_the_first_two_epochs_and_at_a_great_temperature() -> None:
    first, second = {"mood": 2.0, "same": 1.0, "near": 3.0}, {"mood": 0.1, "same": 1.0, "near": 3.0}
    ones = {"mood": 1.0, "same": 1.0, "near": 1.0}
    assert epochs(make("dwa")) == ones
    assert epochs(make("dwa"), first) == ones
    assert epochs(make("dwa", temperature=1e6), first, second) == pytest.approx(ones, abs=1e-5)
    assert epochs(make("dwa"), first, second)["mood"] < 0.8


def test_dwa_keeps_the_means_of_a_task_that_an_epoch_left_out() -> None:
    first, second = {"mood": 2.0, "same": 1.0, "near": 3.0}, {"mood": 1.0, "same": 1.0, "near": 3.0}
    found = epochs(make("dwa"), first, second, {"same": 1.0, "near": 3.0})
    assert found == pytest.approx({"mood": 0.84079524, "same": 1.07960238, "near": 1.07960238}, abs=1e-6)


def test_dwa_equals_torchjd_over_epochs() -> None:
    generator = torch.Generator().manual_seed(1)
    ours, theirs = make("dwa"), peers.DWA()
    for _ in range(5):
        for _ in range(3):
            values = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
            expected = theirs(values)
            found = sum(ours(task, value) for task, value in zip(tasks(), values, strict=True))
            torch.testing.assert_close(found, expected)
        ours.end_epoch()
        theirs.step()


# --- GradNorm


def test_gradnorm_wants_the_mean_norm_of_tasks_that_learn_alike() -> None:
    found = wanted_norms(torch.tensor([2.0, 1.0]), torch.tensor([0.5, 0.5]), 1.5)
    torch.testing.assert_close(found, torch.tensor([1.5, 1.5]))


def test_gradnorm_wants_longer_gradients_of_tasks_that_lag_behind() -> None:
    found = wanted_norms(torch.tensor([2.0, 1.0]), torch.tensor([0.9, 0.3]), 1.5)
    torch.testing.assert_close(found, torch.tensor([1.5 * 1.5**1.5, 1.5 * 0.5**1.5]))


def test_gradnorm_moves_weights_towards_what_it_wants_and_keeps_their_sum() -> None:
    layer, two = shared(), {name: task for name, task in tasks().items() if name != "near"}
    weighting = make("gradnorm", two, layer)
    losses, slopes = {"mood": 1.0, "same": 1.0}, {"mood": 2.0, "same": 1.0}
    step(weighting, layer, losses, losses, slopes)
    counted = step(weighting, layer, losses, losses, slopes)
    # Adam's first step is its rate: 1 - 0.025 and 1 + 0.025, whose sum is 2 already
    assert counted == pytest.approx({"mood": 0.975, "same": 1.025}, rel=1e-5)
    for _ in range(200):
        counted = step(weighting, layer, losses, losses, slopes)
        assert sum(counted.values()) == pytest.approx(2, rel=1e-5)
    # in the end both gradients are as long: w x 2 = (2 - w) x 1
    assert counted == pytest.approx({"mood": 2 / 3, "same": 4 / 3}, abs=0.05)


def test_gradnorm_weights_of_three_tasks_add_up_to_three() -> None:
    layer = shared()
    weighting = make("gradnorm", layer=layer)
    losses, slopes = {"mood": 1.0, "same": 1.0, "near": 1.0}, {"mood": 10.0, "same": 1.0, "near": 1.0}
    step(weighting, layer, losses, losses, slopes)
    found = step(weighting, layer, losses, losses, slopes)
    # one is 0.025 too long and two too short: 0.975 and 1.025 twice, scaled to add up to 3
    assert found == pytest.approx({"mood": 0.975 * 3 / 3.025, "same": 1.025 * 3 / 3.025, "near": 1.025 * 3 / 3.025})


def test_gradnorm_counts_a_task_more_whose_loss_has_fallen_less() -> None:
    layer, two = shared(), {name: task for name, task in tasks().items() if name != "near"}
    weighting = make("gradnorm", two, layer)
    step(weighting, layer, {"mood": 1.0, "same": 4.0}, {})
    step(weighting, layer, {"mood": 0.9, "same": 2.0}, {})  # 0.9 and 0.5 of the first
    counted = step(weighting, layer, {"mood": 0.9, "same": 2.0}, {})
    # Adam's second step, after a first one without a slope
    moved = 0.025 * (0.1 / (1 - 0.9**2)) / math.sqrt(0.001 / (1 - 0.999**2))
    assert counted == pytest.approx({"mood": 1 + moved, "same": 1 - moved}, rel=1e-5)


def test_gradnorm_leaves_weights_alone_until_it_has_seen_every_task() -> None:
    layer = shared()
    weighting = make("gradnorm", layer=layer)
    for task in ("mood", "same", "mood"):
        assert step(weighting, layer, {task: 1.0}, {}, {"mood": 9.0})[task] == 1
    step(weighting, layer, {"near": 1.0}, {})
    assert step(weighting, layer, {"mood": 1.0}, {}, {"mood": 9.0})["mood"] < 0.98


def test_gradnorm_measures_the_whole_layer() -> None:
    layer, two = shared(), {name: task for name, task in tasks().items() if name != "near"}
    weighting = make("gradnorm", two, layer)
    whole = 3 * layer[0][0] + 4 * layer[1][0, 0]  # its gradient at the layer is 5 long
    weighting("mood", whole)
    assert weighting.state()["norms"][0].item() == pytest.approx(5)
    torch.autograd.grad(whole, layer)  # the graph is still there


def test_gradnorm_without_a_shared_layer_that_learns_says_what_to_do() -> None:
    with pytest.raises(Mistake, match=r"does not learn here: let the stage `train: all`"):
        WEIGHTINGS["gradnorm"](tasks(), [])


# --- FAMO


class Published:
    """FAMO step by step, as its authors' algorithm has it, on all losses at once."""

    def __init__(self, count: int, rate: float, decay: float) -> None:
        self.logits = torch.zeros(count, dtype=torch.float64, requires_grad=True)
        self.adam = torch.optim.Adam([self.logits], lr=rate, weight_decay=decay)

    def weights(self, losses: Tensor) -> Tensor:
        """What each loss's gradient counts."""
        losses = losses.clone().requires_grad_()
        z = self.logits.softmax(-1).detach()
        scale = (z / (losses + 1e-8)).sum().detach()
        whole = (z * (losses + 1e-8).log() / scale).sum()
        return torch.autograd.grad(whole, losses)[0]

    def update(self, before: Tensor, after: Tensor) -> None:
        fallen = (before + 1e-8).log() - (after + 1e-8).log()
        (self.logits.grad,) = torch.autograd.grad(self.logits.softmax(-1), self.logits, fallen)
        self.adam.step()


@pytest.mark.parametrize("decay", [0.0, 1e-3, 0.1])
def test_famo_moves_its_weights_as_published(decay: float) -> None:
    generator = torch.Generator().manual_seed(2)
    layer, weighting, published = shared(), make("famo", decay=decay), Published(3, 0.025, decay)
    first = True
    for _ in range(30):
        before = torch.rand(3, generator=generator, dtype=torch.float64) + 0.1
        after = before * (0.8 + 0.3 * torch.rand(3, generator=generator, dtype=torch.float64))
        counted = step(
            weighting,
            layer,
            dict(zip(tasks(), before.tolist(), strict=True)),
            dict(zip(tasks(), after.tolist(), strict=True)),
        )
        found = torch.tensor(list(counted.values()), dtype=torch.float64)
        # up to the factor that they have in common, which needs all losses of the step at once
        expected = torch.full((3,), 1 / 3).double() if first else published.weights(before)
        torch.testing.assert_close(found / found.sum(), expected / expected.sum(), rtol=1e-4, atol=1e-5)
        published.update(before, after)
        torch.testing.assert_close(weighting.state()["logits"], published.logits.detach(), rtol=1e-4, atol=1e-5)
        first = False


def test_famo_counts_as_published_once_losses_hold_still() -> None:
    layer, weighting = shared(), make("famo", rate=1e-9)
    losses = {"mood": 1.0, "same": 0.5, "near": 0.1}
    step(weighting, layer, losses, losses)
    counted = step(weighting, layer, losses, losses)
    expected = Published(3, 1e-9, 0.0).weights(torch.tensor(list(losses.values()), dtype=torch.float64))
    assert list(counted.values()) == pytest.approx(expected.tolist(), rel=1e-5)
    assert sum(counted.values()) == pytest.approx(1, rel=1e-5)


def test_famo_logits_equal_torchjd() -> None:
    generator = torch.Generator().manual_seed(3)
    layer, ours, theirs = shared(), make("famo"), peers.FAMO(3)
    for _ in range(20):
        before = torch.rand(3, generator=generator) + 0.1
        after = before * (0.8 + 0.3 * torch.rand(3, generator=generator))
        theirs(before)
        theirs.update(after)
        names = list(tasks())
        step(ours, layer, dict(zip(names, before.tolist(), strict=True)), dict(zip(names, after.tolist(), strict=True)))
        torch.testing.assert_close(ours.state()["logits"].float(), theirs._w.detach(), rtol=1e-3, atol=1e-4)


def test_famo_counts_a_task_that_a_step_left_out_as_one_that_has_not_moved() -> None:
    layer, weighting = shared(), make("famo", decay=0.0)
    losses = {"mood": 1.0, "same": 1.0, "near": 1.0}
    step(weighting, layer, losses, losses)
    step(weighting, layer, {"mood": 1.0}, {"mood": 0.5})
    mood, same, near = weighting.state()["logits"].tolist()
    assert mood < 0 < same
    assert same == pytest.approx(near)


def test_famo_compares_the_mean_of_a_tasks_batches_with_their_mean_after_the_step() -> None:
    # two batches of each task feed a step that lowers no loss, so that nothing but decay, which is off, moves a weight
    layer, weighting = shared(), make("famo", decay=0.0)
    for _ in range(50):
        for task, losses in {"mood": (1.0, 3.0), "same": (0.25, 0.5), "near": (2.0, 2.0)}.items():
            for loss in losses:
                weighting(task, layer[0].sum() * 0 + loss)
        weighting.after_step(
            lambda: {"mood": torch.tensor(2.0), "same": torch.tensor(0.375), "near": torch.tensor(2.0)}
        )
    assert not weighting.state()["logits"].any()


def test_losses_again_are_taken_in_the_precision_of_the_step(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    small_recipe["precision"] = "bfloat16"
    small_recipe["stages"][0] |= {"weighting": "famo", "steps": 1}
    trainer = build(read_recipe(small_recipe)).stage(0).trainer
    seen = []
    monkeypatch.setattr(
        trainer.objective.weighting, "after_step", lambda again: seen.append(torch.is_autocast_enabled("cpu"))
    )
    trainer.take_step()
    assert seen == [True]
