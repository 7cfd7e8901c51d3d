"""Every regularizer from its table on every kind of task; and the passes that penalties compare."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtbert.errors import Mistake
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.trainer import Trainer
from tests.support.penalised import ALL_KINDS, batch_of, copied, make, passes_of, shake

BINARY = ("same", "same_apart")
NOISY = ("smart", "smart_mtdnn", "smart_weight", "gaussian", "noise_stability")  # these choose their dropout
# options under which a method adds no noise to what it compares
WITHOUT_NOISE = {
    "smart": {"radius": 0.0},
    "smart_weight": {"radius": 0.0},
    "gaussian": {"sigma": 0.0},
    "noise_stability": {"sigma": 0.0},
}
# options under which a penalty, a difference of two passes, is far from what float32 rounds away
FELT = {"smart": {"radius": 1e-3, "sigma": 1e-3, "step_size": 0.1}}


def begun(name: str, model: MultiTask, **options: Any) -> Regularizer:
    """A regularizer some way into its stage: the model has moved since."""
    one = make(name, **options)
    one.check(model)
    one.start(model)
    shake(model, 0.02)
    return one


def inert(name: str, task: str) -> bool:
    return name in ("smart_r2_exact", "bregman_r2_exact") and task in BINARY


# ---- what holds for every regularizer


@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_a_finite_scalar_and_never_negative(dropping: Experiment, name: str, task: str) -> None:
    one = begun(name, dropping.model)
    for seed in range(5):
        torch.manual_seed(seed)
        penalty = one(passes_of(dropping, task, range(seed, seed + 6)), 0.0)
        assert penalty.shape == ()
        assert 0 <= penalty.item() < math.inf


@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_alive_on_every_kind_of_task(dropping: Experiment, name: str, task: str) -> None:
    one = begun(name, dropping.model)
    penalty = one(passes_of(dropping, task), 0.0)
    if inert(name, task):  # what this preset is there to show
        assert penalty.item() == 0.0
        assert not penalty.requires_grad
        return
    assert penalty.item() > 0
    penalty.backward()
    for layer in dropping.model.encoder.layers:
        reached = [p.grad.abs().max().item() for p in layer.parameters() if p.grad is not None]
        assert reached
        assert 0 < max(reached) < math.inf


@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_stepping_down_a_penalty_lowers_it(dropping: Experiment, name: str, task: str) -> None:
    if inert(name, task):
        return
    one = begun(name, dropping.model, **FELT.get(name, {}))
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        penalty = one(passes_of(dropping, task), 0.0)
        found.append(penalty.item())
        parameters = [p for p in dropping.model.parameters() if p.requires_grad]
        steps = torch.autograd.grad(penalty, parameters, allow_unused=True)
        squared = sum(float(g.square().sum()) for g in steps if g is not None)
        with torch.no_grad():
            for p, g in zip(parameters, steps, strict=True):
                if g is not None:
                    p.sub_(g, alpha=0.02 * penalty.item() / squared)  # to first order two per cent less
    # smart_mtdnn stops half of its gradient, so that its step is twice as long
    assert 0.93 * found[0] < found[1] < 0.99 * found[0]


@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_asking_for_a_penalty_leaves_no_gradient_and_no_mode_behind(dropping: Experiment, name: str, task: str) -> None:
    model = dropping.model
    model.encoder.layers[0].eval()
    one = begun(name, model)
    modes = [part.training for part in model.modules()]
    before = copied(model.state_dict())

    def differentiated(gradient: Tensor) -> None:
        raise AssertionError("the ascent differentiates by a parameter")

    for p in model.parameters():
        p.register_hook(differentiated)
    one(passes_of(dropping, task), 0.0)
    assert all(p.grad is None for p in model.parameters())
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_weight_is_a_schedule_of_progress(dropping: Experiment, name: str) -> None:
    weight = {"name": "linear", "value": 6.0, "warmup": 0.5}
    found = []
    for given, progress in [(1.0, 0.9), (weight, 0.25), (weight, 0.5), (weight, 0.75), (weight, 1.0)]:
        one = make(name, weight=given)
        one.start(dropping.model)
        with torch.no_grad():
            dropping.model.encoder.layers[0].expand.weight.add_(0.01)
        torch.manual_seed(3)
        found.append(one(passes_of(dropping, "mood"), progress).item())
        with torch.no_grad():
            dropping.model.encoder.layers[0].expand.weight.sub_(0.01)
    assert found[1:] == pytest.approx([3 * found[0], 6 * found[0], 3 * found[0], 0.0], rel=0.05)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_stage_goes_on_bit_by_bit_from_its_state(small_recipe: dict[str, Any], name: str) -> None:
    small_recipe["stages"][0] |= {"steps": 9, "regularizers": [{"name": name}]}

    def trainer() -> Trainer:
        return build(read_recipe(small_recipe)).stage(0).trainer

    whole, cut = trainer(), trainer()
    for one in (whole, cut):
        torch.manual_seed(1)
        while one.step < 5:
            one.take_step()
    state, model = copied(cut.state()), copied(cut.objective.model.state_dict())
    positions, random = {task: stream.position for task, stream in cut.streams.items()}, torch.get_rng_state()

    resumed = trainer()
    resumed.objective.model.load_state_dict(model)
    resumed.load(state)
    resumed.step = 5
    for task, stream in resumed.streams.items():
        stream.position = positions[task]
    for one in (whole, resumed):
        torch.set_rng_state(random)
        for _ in one:
            pass
    assert all(
        torch.equal(tensor, whole.objective.model.state_dict()[key])
        for key, tensor in resumed.objective.model.state_dict().items()
    )
    expected = whole.objective.state()
    assert expected.keys() == resumed.objective.state().keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in resumed.objective.state().items())


@pytest.mark.parametrize("spoilt", ["loss", "penalty"])
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_that_is_not_a_number_stops_with_its_name(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, spoilt: str
) -> None:
    small_recipe["stages"][0] |= {"tasks": "mood", "regularizers": [name]}
    trainer = build(read_recipe(small_recipe)).stage(0).trainer
    trainer.take_step()
    if spoilt == "loss":
        trainer.objective.model.heads["mood"].output.bias.data.fill_(math.nan)
        said = r"step 2, task 'mood'.*loss nan.*rows \["
    else:
        monkeypatch.setattr(
            Regularizer, "__call__", lambda one, passes, progress: passes.clean.outputs.sum() * math.inf
        )
        said = rf"step 2, task 'mood'.*loss \d.*{name} (-inf|inf|nan).*rows \["
    with pytest.raises(Mistake, match=said):
        trainer.take_step()


@pytest.mark.parametrize("dropout", ["off", "same_mask"])
@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", WITHOUT_NOISE)
def test_without_noise_a_penalty_is_exactly_zero(dropping: Experiment, name: str, task: str, dropout: str) -> None:
    assert make(name, dropout=dropout, **WITHOUT_NOISE[name])(passes_of(dropping, task), 0.0).item() == 0.0
    independent = make(name, dropout="independent", **WITHOUT_NOISE[name])
    assert independent(passes_of(dropping, task), 0.0).item() > 1e-4  # or the line above would prove nothing


@pytest.mark.parametrize("name", ["smart", "smart_weight", "gaussian", "noise_stability"])
@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
def test_the_clean_side_can_be_held_still(plain: Experiment, name: str, dropout: str) -> None:
    free, held = (make(name, dropout=dropout, stop_clean=stop) for stop in (False, True))
    found = []
    for one in (free, held):
        torch.manual_seed(3)
        penalty = one(passes_of(plain, "mood"), 0.0)
        slope = torch.autograd.grad(penalty, plain.model.get_parameter("encoder.layers.1.contract.weight"))[0]
        found.append((penalty.item(), slope))
    assert found[0][0] == found[1][0]  # the value is the same
    # f and g close to each other: the gradient of (f - g)^2 is small against that of (f - g.detach())^2
    assert found[1][1].norm() > 2 * found[0][1].norm()


def test_a_penalty_is_limited_to_its_tasks() -> None:
    one = make("gaussian", tasks=["mood", "near"])
    assert [task for task in ALL_KINDS if one.applies_to(task)] == ["mood", "near"]
    assert make("gaussian", tasks="near").tasks == ["near"]
    assert all(make("gaussian").applies_to(task) for task in ALL_KINDS)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("smart", {"radius": -1e-5}, "radius .*-1e-05.*greater than or equal to 0"),
    ("smart", {"weight": -1.0}, "value should be a number of at least 0, not -1.0"),
    ("smart", {"weight": {"name": "linear", "value": -5}}, "at least 0, not -5"),
    ("smart", {"norm": "l7"}, "norm .*'l7'.*'inf' or 'l2'"),
    ("smart", {"ascent_steps": 0}, "ascent_steps .*0.*greater than or equal to 1"),
    ("smart", {"dropout": "on"}, "dropout .*'on'.*'off', 'same_mask' or 'independent'"),
    ("smart", {"epsilon": 1e-5}, "unknown option .*'epsilon'"),
    ("smart", {"tasks": []}, "tasks .*at least 1"),
    ("gaussian", {"sigma": -0.1}, "sigma .*-0.1.*greater than or equal to 0"),
    ("bregman", {"decay": 1.5}, "decay .*1.5.*less than or equal to 1"),
    ("bregman", {"late_decay": -0.1}, "late_decay .*-0.1.*greater than or equal to 0"),
    ("bregman", {"evaluate": "both"}, "evaluate .*'both'.*'student' or 'teacher'"),
    ("bregman_refresh", {"refresh": 1}, "refresh .*1.*greater than or equal to 2"),
    ("noise_stability", {"layer": -1}, "layer .*-1.*greater than or equal to 0"),
    ("noise_stability", {"layer_weights": [1.0, -1.0]}, "layer_weights .*-1.0.*greater than or equal to 0"),
]


@pytest.mark.parametrize(("name", "options", "said"), WRONG, ids=[f"{name}-{'-'.join(o)}" for name, o, _ in WRONG])
def test_a_wrong_option_is_refused_with_what_is_right(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(Mistake, match=said):
        REGULARIZERS.complete(name, options)


# ---- the passes that penalties compare


class Calls:
    """How often a model's head of a task is asked, and in which mode the first layer then is."""

    def __init__(self, model: MultiTask, task: str) -> None:
        self.training: list[bool] = []
        model.heads[task].register_forward_hook(lambda *_: self.training.append(model.encoder.layers[0].training))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([("smart", {"dropout": "independent"})], [True] * 3),  # the loss's own, one ascent, the final one
        ([("smart", {"dropout": "same_mask"})], [True] * 3),
        ([("smart", {"dropout": "same_mask", "ascent_steps": 3})], [True] * 5),
        ([("smart", {"dropout": "off"})], [True, False, False, False]),
        ([("smart", {}), ("gaussian", {"dropout": "off"})], [True, False, False, False, False]),  # one clean pass
        ([("gaussian", {})], [True] * 2),
        ([("noise_stability", {})], [True] * 2),
        ([("r_drop", {})], [True] * 2),
        ([("bregman", {})], [True]),  # and one of the teacher
        ([("l2_to_pretrained", {})], [True]),
    ],
    ids=str,
)
def test_no_pass_is_made_twice(
    dropping: Experiment, names: list[tuple[str, dict[str, Any]]], expected: list[bool]
) -> None:
    regularizers = [begun(name, dropping.model, **options) for name, options in names]
    calls = Calls(dropping.model, "mood")
    passes = passes_of(dropping, "mood")
    for one in regularizers:
        one(passes, 0.0)
    assert calls.training == expected


@pytest.mark.parametrize("start", [0, 1, 2])
def test_the_same_masks_give_the_same_states_from_every_layer_on(dropping: Experiment, start: int) -> None:
    passes = passes_of(dropping, "near")
    comparison = passes.under("same_mask", 1.0)
    torch.randn(3)  # whatever is drawn in between
    stood = torch.get_rng_state()
    again = comparison.again(passes.clean.states[start], start)
    assert torch.equal(torch.get_rng_state(), stood)
    assert torch.equal(again.outputs, passes.clean.outputs)
    assert all(torch.equal(a, b) for a, b in zip(again.states, passes.clean.states[start:], strict=True))
    anew = comparison.anew(lambda: dropping.model.embed(passes.batch))
    assert torch.equal(anew.outputs, passes.clean.outputs)


def test_without_dropout_a_comparison_equals_evaluation(dropping: Experiment) -> None:
    passes = passes_of(dropping, "near")
    comparison = passes.under("off", 1.0)
    assert not torch.equal(comparison.clean.outputs, passes.clean.outputs)
    dropping.model.eval()
    assert torch.equal(comparison.clean.outputs, dropping.model(passes.batch))


def test_every_part_is_in_its_own_mode_again_whatever_happens(plain: Experiment) -> None:
    model = plain.model
    model.encoder.layers[1].eval()
    modes = [part.training for part in model.modules()]

    def fails() -> None:
        with evaluating(model):
            assert not any(part.training for part in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [part.training for part in model.modules()] == modes


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("dropout", ["off", "same_mask"])
def test_a_failing_pass_restores_modes_tables_and_random_state(
    plain: Experiment, monkeypatch: pytest.MonkeyPatch, name: str, dropout: str
) -> None:
    model, passes = plain.model, passes_of(plain, "mood")
    comparison = passes.under(dropout, 1.0)  # type: ignore[arg-type]
    before = copied(model.state_dict())
    tables = [model.encoder.word_embedding.weight, model.encoder.position_embedding.weight]

    class Failing(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            raise KeyError

    monkeypatch.setitem(model.heads._modules, "mood", Failing())
    modes = [part.training for part in model.modules()]
    with pytest.raises(KeyError):
        make(name, dropout=dropout)(passes, 0.0)
    stood = torch.get_rng_state()
    with pytest.raises(KeyError):
        comparison.again(comparison.clean.states[0])
    assert torch.equal(torch.get_rng_state(), stood)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert [model.encoder.word_embedding.weight, model.encoder.position_embedding.weight] == tables


@pytest.mark.parametrize("dropout", ["off", "same_mask", "independent"])
@pytest.mark.parametrize("task", ALL_KINDS)
@pytest.mark.parametrize("name", ["smart", "smart_mtdnn", "smart_weight"])
def test_half_precision_does_not_round_a_tiny_perturbation_away(
    plain: Experiment, name: str, task: str, dropout: str
) -> None:
    found = []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            passes = passes_of(plain, task)
            found.append(make(name, dropout=dropout)(passes, 0.0).item())
    # thresholds stay float32, so that none of them meet
    precision = torch.float32 if task == "cumulative" else torch.bfloat16
    assert (passes.clean.outputs.dtype, found[1]) == (precision, pytest.approx(found[0], rel=0.02))


@pytest.mark.parametrize("name", ["gaussian", "noise_stability"])
def test_noise_that_half_precision_can_hold_shares_the_losss_pass(plain: Experiment, name: str) -> None:
    found = []
    for enabled in (False, True):
        torch.manual_seed(3)
        penalties = []
        for _ in range(16):  # a mean over draws, in which the rounding of single outputs is small
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                calls = Calls(plain.model, "mood")
                penalties.append(make(name)(passes_of(plain, "mood"), 0.0).item())
            assert len(calls.training) == 2
        found.append(sum(penalties) / len(penalties))
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_passes_under_the_same_conditions_are_made_once(dropping: Experiment) -> None:
    passes = Passes(dropping.model, batch_of(dropping, "mood"))
    assert passes.under("off", 1e-5) is passes.under("off", 0.1)
    assert passes.under("same_mask", 1e-5).clean is passes.clean
    with torch.autocast("cpu", torch.bfloat16):
        fine, coarse = passes.under("same_mask", 1e-5), passes.under("same_mask", 0.1)
    assert fine.clean is not passes.clean
    assert coarse.clean is passes.clean
    torch.testing.assert_close(fine.clean.outputs, passes.clean.outputs, rtol=1e-5, atol=1e-6)  # the same masks
