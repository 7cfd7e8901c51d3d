"""Task modules: each of the table, the fold they form, and each method's closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_models import BATCHES, TASKS, every_state, make_batch, make_model, plan, shaken, tiny_shape
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.task_modules import table
from mtbert.model.task_modules.base import Fold, ModulePlan, TaskModule
from mtbert.model.task_modules.table import TASK_MODULES, TaskModules
from mtbert.model.task_modules.vectors import LHUC
from mtbert.registry import Registry

NAMES = [task.name for task in TASKS]

# modules whose paper lets them change BERT from the first step on
NOT_NEUTRAL_AT_FIRST: set[str] = set()

# for one task of BERT-base (methods.md 37)
PUBLISHED_PARAMETERS = {"lhuc": 9_216}


def with_weights_of(model: MultiTask, plans: Sequence[ModulePlan]) -> MultiTask:
    """The same model with fresh task modules."""
    extended = make_model(plans)
    left = extended.load_state_dict(model.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("modules_by_task.") for name in left.missing_keys)
    return extended


# ---- every module of the table


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "shared"])
@pytest.mark.parametrize("name", [name for name in TASK_MODULES if name not in NOT_NEUTRAL_AT_FIRST])
def test_a_fresh_module_leaves_bert_unchanged_to_the_bit(name: str, shared: bool) -> None:
    plain = shaken(make_model())
    extended = with_weights_of(plain, [plan(name, shared=shared)])
    with torch.no_grad():
        for task in NAMES:
            for ours, bert in zip(every_state(extended, BATCHES[task]), every_state(plain, BATCHES[task]), strict=True):
                assert torch.equal(ours, bert), task
            assert torch.equal(extended(BATCHES[task]), plain(BATCHES[task])), task


@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_trained_module_changes_its_task_and_no_other(name: str) -> None:
    plain = shaken(make_model())
    for task in NAMES:
        extended = with_weights_of(plain, [plan(name, tasks=[task])])
        shaken(extended.modules_by_task, seed=1)
        with torch.no_grad():
            unchanged = {other: torch.equal(extended(BATCHES[other]), plain(BATCHES[other])) for other in NAMES}
        assert unchanged == {other: other != task for other in NAMES}


@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_batch_gives_gradients_to_its_own_tasks_module_and_head_only(name: str) -> None:
    for task in NAMES:
        model = shaken(make_model([plan(name)]))
        model(BATCHES[task]).square().sum().backward()

        touched = {path for path, parameter in model.named_parameters() if parameter.grad is not None}
        own = [path for path in touched if f".{task}." in path]
        assert any(path.startswith("modules_by_task.") for path in own)
        assert any(path.startswith("heads.") for path in own)
        assert not [path for path in touched for other in NAMES if other != task and f".{other}." in path]


@pytest.mark.parametrize("name", TASK_MODULES)
def test_every_parameter_of_a_module_learns(name: str) -> None:
    model = shaken(make_model([plan(name)]))
    for task in NAMES:
        (model(BATCHES[task]) * torch.tensor(1.7)).square().sum().backward()
    idle = [
        path
        for path, parameter in model.modules_by_task.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not idle


@pytest.mark.parametrize("name", TASK_MODULES)
def test_modules_are_one_a_task_or_a_single_one_when_shared(name: str) -> None:
    apart = make_model([plan(name)]).modules_by_task
    shared = make_model([plan(name, shared=True)]).modules_by_task
    assert len({id(apart.of(task).modules[0]) for task in NAMES}) == 3
    assert len({id(shared.of(task).modules[0]) for task in NAMES}) == 1

    def size(modules: TaskModules) -> int:
        return sum(parameter.numel() for parameter in modules.parameters())

    assert size(apart) == 3 * size(shared)


@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_shared_module_learns_from_each_of_its_tasks(name: str) -> None:
    model = shaken(make_model([plan(name, shared=True, tasks=["mood", "near"])]))
    for task, learns in {"mood": True, "near": True, "same": False}.items():
        model.zero_grad()
        model(BATCHES[task]).square().sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in model.modules_by_task.parameters()) == learns, task


@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_module_does_not_notice_how_far_a_batch_is_padded(name: str) -> None:
    model = shaken(make_model([plan(name)]))
    together, alone = make_batch("mood", (3, 9)), make_batch("mood", (3,))
    alone = Batch("mood", together.tokens[:1, :3], together.segments[:1, :3], alone.mask, None, alone.rows, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(together)[:1], model(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED_PARAMETERS.items())
def test_a_module_adds_the_published_number_of_parameters_to_bert_base(name: str, parameters: int) -> None:
    with torch.device("meta"):
        modules = TaskModules([plan(name)], Shape(), ["one", "two", "three"])
    assert sum(parameter.numel() for parameter in modules.parameters()) == 3 * parameters


# ---- the fold


class Doubled(TaskModule):
    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        return 2 * q, 2 * k, 2 * v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * update

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * update

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * y

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return 2 * y

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return 2 * features

    def feature_width(self, width: int) -> int:
        return 2 * width


class OneMore(TaskModule):
    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        return q + 1, k + 1, v + 1

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update + 1

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update + 1

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y + 1

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return y + 1

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return features + 1

    def feature_width(self, width: int) -> int:
        return width + 1


def taps_of(fold: Fold, value: Tensor) -> list[float]:
    """What each tap makes of a value, and feature_width of 5."""
    x, batch = torch.full_like(value, 100), BATCHES["mood"]
    results = [
        *fold.qkv(value, value + 10, value + 20, x, 0, batch),
        fold.after_attention(value, x, 0, batch),
        fold.after_ffn(value, x, 0, batch),
        fold.after_layer(value, 0, batch),
        fold.after_encoder(value, batch),
        fold.after_pooling(value, batch),
    ]
    return [*(float(result) for result in results), fold.feature_width(5)]


@pytest.mark.parametrize(
    ("modules", "by_hand"),
    [
        ([], [5, 15, 25, 5, 5, 5, 5, 5, 5]),
        ([TaskModule()], [5, 15, 25, 5, 5, 5, 5, 5, 5]),
        ([Doubled(), OneMore()], [11, 31, 51, 11, 11, 11, 11, 11, 11]),
        ([OneMore(), Doubled()], [12, 32, 52, 12, 12, 12, 12, 12, 12]),
    ],
    ids=["none", "plain BERT", "2x + 1", "2(x + 1)"],
)
def test_a_fold_passes_each_tap_through_its_modules_in_order(modules: list[TaskModule], by_hand: list[float]) -> None:
    assert taps_of(Fold(modules), torch.tensor(5.0)) == by_hand


class Twice(TaskModule):
    """Hands the head its features two times over."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return torch.cat([features, features], dim=1)

    def feature_width(self, width: int) -> int:
        return 2 * width


def test_a_module_that_widens_the_features_widens_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TASK_MODULES", Registry("task module", {"twice": Twice}))
    model = make_model([ModulePlan("twice"), ModulePlan("twice", tasks=["near"])])
    widths = {task: model.heads[task].output.in_features for task in NAMES}
    assert widths == {"mood": 16 * 2, "same": 16 * 2, "near": 3 * 16 * 2 * 2}
    with torch.no_grad():
        assert [model(BATCHES[task]).shape for task in NAMES] == [(3, 3), (2, 2), (2, 1)]


class DoubledStates(TaskModule):
    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return 2 * y


class DoubledFeatures(TaskModule):
    def __init__(self, shape: Shape) -> None:
        super().__init__()

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return 2 * features


@pytest.mark.parametrize("module", [DoubledStates, DoubledFeatures])
def test_what_is_doubled_before_a_linear_head_doubles_all_but_its_bias(
    module: type[TaskModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "TASK_MODULES", Registry("task module", {"doubled": module}))
    tasks = [task.model_copy(update={"features": "difference", "pooling": "mean"}) for task in TASKS]
    plain = shaken(make_model(tasks=tasks))
    doubled = make_model([ModulePlan("doubled")], tasks=tasks)
    doubled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for task in NAMES:
            by_hand = 2 * plain(BATCHES[task]) - plain.heads[task].output.bias
            torch.testing.assert_close(doubled(BATCHES[task]), by_hand)


def test_after_encoder_stands_before_the_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TASK_MODULES", Registry("task module", {"doubled": DoubledStates}))
    mood = TASKS[0].model_copy(update={"pooling": "pooler"})
    model = shaken(make_model([ModulePlan("doubled")], tasks=[mood]))
    with torch.no_grad():
        first = every_state(model, BATCHES["mood"])[-1][:, 0]
        pooled = torch.tanh(2 * first @ model.encoder.pooler.weight.T + model.encoder.pooler.bias)
        head = model.heads["mood"].output
        torch.testing.assert_close(model(BATCHES["mood"]), pooled @ head.weight.T + head.bias)


def test_modules_stand_in_the_order_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(shape: Shape) -> TaskModule:
        return Doubled()

    def one_more(shape: Shape) -> TaskModule:
        return OneMore()

    makers: dict[str, Any] = {"doubled": doubled, "one_more": one_more}
    monkeypatch.setattr(table, "TASK_MODULES", Registry("task module", makers))
    plans = [ModulePlan("one_more", tasks=["near"]), ModulePlan("doubled", shared=True), ModulePlan("one_more")]
    modules = TaskModules(plans, tiny_shape(), NAMES)
    assert {task: modules.of(task).feature_width(5) for task in NAMES} == {"mood": 11, "same": 11, "near": 13}


def test_a_module_for_an_unknown_task_is_refused() -> None:
    with pytest.raises(Mistake, match="task module 'lhuc': unknown task 'modo'; did you mean 'mood'"):
        make_model([ModulePlan("lhuc", tasks=["mood", "modo"])])


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(Mistake, match="unknown task module 'lhcu'; did you mean 'lhuc'"):
        make_model([ModulePlan("lhcu")])


# ---- LHUC (Swietojanski and Renals, 2014)


def lhuc(gain: float) -> LHUC:
    module = LHUC(tiny_shape(layers=2, width=4, heads=1))
    torch.nn.init.constant_(module.gains[1], gain)
    return module


@pytest.mark.parametrize(
    ("gain", "factor"), [(0.0, 1.0), (math.log(3), 1.5), (-math.log(3), 0.5), (50.0, 2.0), (-50.0, 0.0)]
)
def test_lhuc_scales_by_twice_the_sigmoid_of_its_gain(gain: float, factor: float) -> None:
    y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    scaled = lhuc(gain).after_layer(y, 1, BATCHES["mood"])
    torch.testing.assert_close(scaled, factor * y)


def test_lhuc_scales_each_layer_and_unit_by_its_own_gain() -> None:
    module = lhuc(0.0)
    with torch.no_grad():
        module.gains[1, 2] = math.log(3)
        ones = torch.ones(1, 1, 4)
        assert module.after_layer(ones, 0, BATCHES["mood"]).flatten().tolist() == [1, 1, 1, 1]
        assert module.after_layer(ones, 1, BATCHES["mood"]).flatten().tolist() == pytest.approx([1, 1, 1.5, 1])


def test_lhucs_gradient_at_zero_is_half_the_state_times_the_gradient_behind_it() -> None:
    generator = torch.Generator().manual_seed(1)
    module, h = lhuc(0.0), torch.randn(2, 3, 4, generator=generator)
    behind = torch.randn(2, 3, 4, generator=generator)

    (module.after_layer(h, 1, BATCHES["mood"]) * behind).sum().backward()

    torch.testing.assert_close(module.gains.grad[1], (h * 0.5 * behind).sum((0, 1)))
    assert not module.gains.grad[0].any()


def test_lhuc_gives_a_task_one_gain_a_unit_and_layer() -> None:
    with torch.device("meta"):
        module = LHUC(Shape(layers=5, width=768))
    assert sum(parameter.numel() for parameter in module.parameters()) == 5 * 768
