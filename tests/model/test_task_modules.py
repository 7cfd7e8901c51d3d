"""Task modules: what each of the table and each two of them promise, and the fold they form."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.selection import SELECTORS, select
from mtbert.model.shape import Shape
from mtbert.model.taps import Fold
from mtbert.model.task_modules import assignment
from mtbert.model.task_modules.assignment import TaskModules
from mtbert.model.task_modules.base import ModulePlan, TaskModule
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.registry import Registry
from mtbert.training.optimizer import AdamW
from tests.support.tiny_models import (
    BATCHES,
    PIECES,
    TASKS,
    every_state,
    make_model,
    plan,
    same_bits,
    served,
    shaken,
    tiny_shape,
    tiny_tokenizer,
)

NAMES = [task.name for task in TASKS]

# modules whose paper lets them change BERT from the first step on
NOT_NEUTRAL_AT_FIRST = {"adapter", "pals", "low_rank", "relational"}

# sizes at which a family test takes milliseconds
SMALL: dict[str, dict[str, Any]] = {
    "adapter": {"size": 4},
    "pals": {"size": 6, "heads": 2},
    "low_rank": {"size": 4},
    "lora": {"rank": 2},
}

# options that change which taps a module uses, or how
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "adapter after the norm": ("adapter", {"where": "after_norm", "after_attention": False, "activation": "relu"}),
    "one adapter a layer": ("adapter", {"after_attention": False}),
    "adapter with lhuc": ("adapter", {"lhuc": True}),
    "pals apart": ("pals", {"share": "none"}),
    "pals alike": ("pals", {"share": "all", "scale": 0.1, "scale_of": "each_task"}),
    "pals with one scale": ("pals", {"scale": 0.1}),
    "pals on top": ("pals", {"where": "top"}),
    "pals on top in blocks": ("pals", {"where": "top", "top_layers": 2, "top_blocks": True}),
    "pals twice": ("pals", {"where": "both", "scale": 0.1}),
    "pals twice the same": ("pals", {"where": "both", "share": "all", "objects": "same", "top_output": False}),
    "lora everywhere": ("lora", {"matrices": ["q", "k", "v"]}),
    "lora on keys": ("lora", {"matrices": ["k"]}),
}


def small(name: str, **place: Any) -> ModulePlan:
    """A module of the table or a variant of one, small, for the tasks it can serve."""
    module, options = VARIANTS.get(name, (name, {}))
    whole = TASK_MODULES.complete(module, SMALL.get(module, {}) | options)
    return replace(plan(module, **place), options=whole)


SINGLES = {name: [name] for name in [*TASK_MODULES, *VARIANTS]}
PAIRS = {f"{one} and {other}": [one, other] for one, other in itertools.permutations(TASK_MODULES, 2)}
every_order = pytest.mark.parametrize("names", [*SINGLES.values(), *PAIRS.values()], ids=[*SINGLES, *PAIRS])
SETS = SINGLES | {name: [one, other] for name, (one, other) in PAIRS.items() if one < other}
every_set = pytest.mark.parametrize("names", SETS.values(), ids=SETS)
every_single = pytest.mark.parametrize("name", SINGLES)


def owned(model: MultiTask, task: str) -> dict[str, torch.nn.Parameter]:
    """The parameters of modules and head that serve a task alone."""
    return {path: p for path, p in model.named_parameters() if task in path.split(".")}


def neutral(model: MultiTask) -> MultiTask:
    """The model with the outputs of its modules, and only these, set to what changes nothing."""
    with torch.no_grad():
        for path, parameter in model.modules_by_task.named_parameters():
            parts = path.split(".")
            if {"up", "gain", "queries", "keys", "values", "attention_shifts", "output_shifts"} & set(parts):
                parameter.zero_()
            elif {"attention_scales", "output_scales"} & set(parts):
                parameter.fill_(1)
    return model


def with_weights_of(model: MultiTask, plans: Sequence[ModulePlan]) -> MultiTask:
    """The same model with fresh task modules."""
    extended = make_model(plans)
    extended.encoder.load_state_dict(model.encoder.state_dict())
    for task in NAMES:
        mine, theirs = extended.heads[task].state_dict(), model.heads[task].state_dict()
        if all(mine[name].shape == theirs[name].shape for name in theirs):  # else a module has changed what it reads
            extended.heads[task].load_state_dict(theirs)
    return extended


def padded(batch: Batch, more: int = 4) -> Batch:
    """The same batch with more padding, which holds tokens that nobody should read."""
    generator = torch.Generator().manual_seed(4)
    rubbish = torch.randint(5, len(PIECES), (len(batch.tokens), more), generator=generator)
    return replace(
        batch,
        tokens=torch.cat([batch.tokens, rubbish], 1),
        segments=torch.cat([batch.segments, torch.ones_like(rubbish)], 1),
        mask=torch.cat([batch.mask, torch.zeros_like(rubbish, dtype=torch.bool)], 1),
    )


# ---- every module of the table, and each two of them in both orders


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


@every_order
def test_modules_with_zeroed_outputs_leave_bert_unchanged_to_the_bit(names: list[str]) -> None:
    plain = shaken(make_model())
    extended = with_weights_of(plain, [small(name) for name in names])
    shaken(extended.modules_by_task, seed=1)
    neutral(extended)
    with torch.no_grad():
        for task in NAMES:
            for ours, bert in zip(every_state(extended, BATCHES[task]), every_state(plain, BATCHES[task]), strict=True):
                assert torch.equal(ours, bert), task
            if not ("relational" in names and task in served("relational")):  # it stands in the features' place
                assert torch.equal(extended(BATCHES[task]), plain(BATCHES[task])), task


@every_single
def test_a_trained_module_changes_its_task_and_no_other(name: str) -> None:
    plain = shaken(make_model())
    for task in served(name):
        extended = with_weights_of(plain, [small(name, tasks=[task])])
        shaken(extended.modules_by_task, seed=1)
        with torch.no_grad():
            unchanged = {other: torch.equal(extended(BATCHES[other]), plain(BATCHES[other])) for other in NAMES}
        assert unchanged == {other: other != task for other in NAMES}


@every_set
def test_a_batch_gives_gradients_to_its_own_tasks_modules_and_head_only(names: list[str]) -> None:
    for task in NAMES:
        model = shaken(make_model([small(name) for name in names]))
        model(BATCHES[task]).square().sum().backward()

        assert all(p.grad is not None for p in owned(model, task).values())
        assert not [
            path for other in NAMES if other != task for path, p in owned(model, other).items() if p.grad is not None
        ]


@every_set
def test_gradients_reach_every_parameter_but_embert_s_keys(names: list[str]) -> None:
    model = shaken(make_model([small(name) for name in names])).double()
    for task in NAMES:
        model(BATCHES[task]).square().sum().backward()
    gradients = {path: p.grad for path, p in model.modules_by_task.named_parameters()}
    largest = max(float(gradient.abs().max()) for gradient in gradients.values() if gradient is not None)
    idle = [path for path, g in gradients.items() if g is None or float(g.abs().max()) < 1e-12 * largest]
    assert all("keys" in path.split(".") for path in idle)
    assert len(idle) == ("embert" in names) * len(NAMES) * tiny_shape().layers


@every_set
def test_modules_do_not_notice_how_far_a_batch_is_padded(names: list[str]) -> None:
    model = shaken(make_model([small(name) for name in names]))
    with torch.no_grad():
        for batch in BATCHES.values():
            torch.testing.assert_close(model(padded(batch)), model(batch), rtol=1e-4, atol=1e-5)


@every_order
def test_resuming_from_any_layer_repeats_the_clean_pass(names: list[str]) -> None:
    model = shaken(make_model([small(name) for name in names]))
    with torch.no_grad():
        for batch in BATCHES.values():
            clean = model(batch)
            for start, state in enumerate(every_state(model, batch)):
                assert torch.equal(model.resume(state, batch, start=start), clean), (batch.task, start)


@every_set
def test_modules_are_saved_and_loaded_to_the_bit(names: list[str], tmp_path: Path) -> None:
    model = shaken(make_model([small(name) for name in names], layers=1))
    save_model(model, tiny_tokenizer(), tmp_path)
    again, _ = load_model(tmp_path)
    assert same_bits(again.state_dict(), model.state_dict())
    assert again.plans == model.plans
    with torch.no_grad():
        assert all(torch.equal(again(batch), model(batch)) for batch in BATCHES.values())


@every_set
def test_what_is_frozen_stays_frozen_to_the_bit_for_50_steps(names: list[str]) -> None:
    model = shaken(make_model([small(name) for name in names], layers=1, width=8)).train()
    model.encoder.dropout.rate = 0.1
    parts = [SELECTORS[part](model.encoder.shape) for part in ("heads", "modules")]
    learning = set(select(model, parts))
    before = copy.deepcopy(dict(model.named_parameters()))

    optimizer = AdamW([(name, p) for name, p in model.named_parameters() if name in learning], weight_decay=0.1)
    for step in range(50):
        model(BATCHES[["mood", "near"][step % 2]]).square().sum().backward()
        optimizer.step()
        optimizer.clear()

    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert not [name for name in moved if name.startswith("encoder.")]
    assert moved == learning - set(owned(model, "same"))  # a task that was not drawn is frozen as well


@every_single
def test_modules_run_in_reduced_precision(name: str) -> None:
    model = shaken(make_model([small(name)])).train()
    for task in served(VARIANTS.get(name, (name,))[0]):
        whole = model.eval()(BATCHES[task])
        with torch.autocast("cpu", torch.bfloat16):
            reduced = model(BATCHES[task])
            model.train()(BATCHES[task]).float().square().sum().backward()
        assert float((reduced - whole).detach().norm() / whole.detach().norm()) < 0.1


@every_single
def test_modules_are_one_a_task_or_a_single_one_when_shared(name: str) -> None:
    apart, together = (make_model([small(name, shared=shared)]).modules_by_task for shared in (False, True))
    tasks = served(VARIANTS.get(name, (name,))[0])
    assert len({id(apart.of(task).modules[0]) for task in tasks}) == len(tasks)
    assert len({id(together.of(task).modules[0]) for task in tasks}) == 1

    def size(modules: TaskModules) -> int:
        return sum(parameter.numel() for path, parameter in modules.named_parameters() if "scales" not in path)

    assert size(apart) == len(tasks) * size(together)


@every_single
def test_a_shared_module_learns_from_each_of_its_tasks(name: str) -> None:
    tasks = [task for task in served(name) if task != "same"]
    model = shaken(make_model([small(name, shared=True, tasks=tasks)]))
    for task in NAMES:
        model.zero_grad()
        model(BATCHES[task]).square().sum().backward()
        learns = any(p.grad is not None and p.grad.any() for p in model.modules_by_task.parameters())
        assert learns == (task in tasks)


# ---- how many parameters


def size_on(shape: Shape, plans: Sequence[ModulePlan], tasks: int = 1) -> int:
    with torch.device("meta"):
        modules = TaskModules(plans, shape, [f"task{number}" for number in range(tasks)])
    return sum(parameter.numel() for parameter in modules.parameters())


def pal(width: int, size: int) -> tuple[int, int]:
    """Parameters of a PAL's projections, and of its attention."""
    return 2 * width * size + size + width, 3 * (size * size + size)


# for one task, from layers and width; and for BERT-base by methods.md 37, Hu et al. (rank 8, queries and values), or,
# for LayerNorms, Houlsby et al. without those of the embeddings
CLOSED_FORMS = {
    "adapter": (lambda layers, width: 2 * layers * (2 * 64 * width + 64 + width), 2_379_264),
    "lhuc": (lambda layers, width: layers * width, 9_216),
    "pals": (lambda layers, width: pal(width, 204)[0] + layers * pal(width, 204)[1], 1_819_836),
    "low_rank": (lambda layers, width: layers * pal(width, 100)[0], 1_853_616),
    "embert": (lambda layers, width: 3 * layers * width, 27_648),
    "relational": (lambda layers, width: 4 * width * width + width, 2_360_064),
    "lora": (lambda layers, width: 2 * layers * 2 * 8 * width, 294_912),
    "layer_norm": (lambda layers, width: 2 * layers * 2 * width, 38_400 - 2 * 768),
}


@pytest.mark.parametrize("shape", [Shape(), Shape(layers=6, width=384, inner=1536)], ids=["BERT-base", "minilm"])
@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_module_has_the_size_of_its_closed_form(name: str, shape: Shape) -> None:
    formula, published = CLOSED_FORMS[name]
    assert formula(12, 768) == published
    for tasks in (1, 3):
        assert size_on(shape, [replace(plan(name), tasks=None)], tasks) == tasks * formula(shape.layers, shape.width)
    assert size_on(shape, [replace(plan(name, shared=True), tasks=None)], 3) == formula(shape.layers, shape.width)


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(TASK_MODULES, 2)])
def test_two_modules_have_the_size_of_both(one: str, other: str) -> None:
    plans = [replace(plan(name), tasks=None) for name in (one, other)]
    assert size_on(Shape(), plans) == CLOSED_FORMS[one][1] + CLOSED_FORMS[other][1]


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("adapter", {"after_attention": False}, 1_189_632),
        ("adapter", {"after_attention": False, "where": "after_norm"}, 1_189_632),
        ("adapter", {"size": 8}, 24 * 13_064),
        ("adapter", {"size": 256}, 24 * 394_240),
        ("adapter", {"lhuc": True}, 2_379_264 + 24 * 768),
        ("pals", {"share": "none"}, 5_277_312),
        ("pals", {"share": "none", "scale": 0.1}, 5_277_312 + 12),
        ("pals", {"share": "all"}, 439_776),
        ("pals", {"heads": 12}, 1_819_836),
        ("pals", {"where": "top"}, 481_596),
        ("pals", {"where": "top", "top_output": False}, 439_776),
        ("pals", {"where": "top", "heads": 12, "top_layers": 6, "top_blocks": True, "top_residual": False}, 1_320_444),
        ("lora", {"matrices": ["q", "k", "v"], "rank": 4}, 3 * 12 * 2 * 4 * 768),
    ],
)
def test_a_variant_has_the_published_size_on_bert_base(name: str, options: dict[str, Any], parameters: int) -> None:
    assert size_on(Shape(), [ModulePlan(name, TASK_MODULES.complete(name, options))]) == parameters


def test_adapters_of_a_task_are_2_2_per_cent_of_bert_base() -> None:
    assert round(100 * size_on(Shape(), [plan("adapter")]) / 109_482_240, 1) == 2.2


# ---- the fold


class Doubled(TaskModule):
    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        return 2 * q, 2 * k, 2 * v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * update

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * y

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * update

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return 2 * y

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return 2 * y

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return 2 * features

    def feature_width(self, width: int, task: Task) -> int:
        return 2 * width


class OneMore(TaskModule):
    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        return q + 1, k + 1, v + 1

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update + 1

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y + 1

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update + 1

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y + 1

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return y + 1

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return features + 1

    def feature_width(self, width: int, task: Task) -> int:
        return width + 1


def taps_of(fold: Fold, value: Tensor) -> list[float]:
    """What each tap makes of a value, and feature_width of 5."""
    x, batch = torch.full_like(value, 100), BATCHES["mood"]
    results = [
        *fold.qkv(value, value + 10, value + 20, x, 0, batch),
        fold.after_attention(value, x, 0, batch),
        fold.after_attention_norm(value, 0, batch),
        fold.after_ffn(value, x, 0, batch),
        fold.after_layer(value, 0, batch),
        fold.after_encoder(value, batch),
        fold.after_pooling(value, batch),
    ]
    return [*(float(result) for result in results), fold.feature_width(5, TASKS[0])]


@pytest.mark.parametrize(
    ("modules", "by_hand"),
    [
        ([], [5, 15, 25, 5, 5, 5, 5, 5, 5, 5]),
        ([TaskModule()], [5, 15, 25, 5, 5, 5, 5, 5, 5, 5]),
        ([Doubled(), OneMore()], [11, 31, 51, 11, 11, 11, 11, 11, 11, 11]),
        ([OneMore(), Doubled()], [12, 32, 52, 12, 12, 12, 12, 12, 12, 12]),
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

    def feature_width(self, width: int, task: Task) -> int:
        return 2 * width


def test_a_module_that_widens_the_features_widens_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "TASK_MODULES", Registry("task module", {"twice": Twice}))
    model = make_model([ModulePlan("twice"), ModulePlan("twice", tasks=["near"], shared=True)])
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
    monkeypatch.setattr(assignment, "TASK_MODULES", Registry("task module", {"doubled": module}))
    tasks = [task.model_copy(update={"features": "difference", "pooling": "mean"}) for task in TASKS]
    plain = shaken(make_model(tasks=tasks))
    doubled = make_model([ModulePlan("doubled")], tasks=tasks)
    doubled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for task in NAMES:
            by_hand = 2 * plain(BATCHES[task]) - plain.heads[task].output.bias
            torch.testing.assert_close(doubled(BATCHES[task]), by_hand)


def test_after_encoder_stands_before_the_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "TASK_MODULES", Registry("task module", {"doubled": DoubledStates}))
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
    monkeypatch.setattr(assignment, "TASK_MODULES", Registry("task module", makers))
    plans = [
        ModulePlan("one_more", tasks=["near"], shared=True),
        ModulePlan("doubled", shared=True),
        ModulePlan("one_more"),
    ]
    modules = TaskModules(plans, tiny_shape(), NAMES)
    assert {task: modules.of(task).feature_width(5, TASKS[0]) for task in NAMES} == {"mood": 11, "same": 11, "near": 13}


def test_a_module_for_an_unknown_task_is_refused() -> None:
    with pytest.raises(Mistake, match="task module 'lhuc': unknown task 'modo'; did you mean 'mood'"):
        make_model([ModulePlan("lhuc", tasks=["mood", "modo"])])


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(Mistake, match="unknown task module 'lhcu'; did you mean 'lhuc'"):
        make_model([ModulePlan("lhcu")])


@pytest.mark.parametrize(
    "plans",
    [
        [plan("adapter"), plan("adapter")],
        [plan("adapter", tasks=["mood", "near"]), plan("lhuc"), plan("adapter", tasks=["near"])],
        [plan("lhuc", shared=True), plan("lhuc", shared=True)],
    ],
)
def test_two_entries_that_nothing_tells_apart_are_refused(plans: list[ModulePlan]) -> None:
    with pytest.raises(Mistake, match=r"stands twice for task '(mood|near)'.*drop one.*differ in an option, `shared`"):
        make_model(plans)


@pytest.mark.parametrize(
    "plans",
    [
        [plan("adapter", tasks=["mood"]), plan("adapter", tasks=["near"])],
        [plan("adapter"), plan("adapter", shared=True)],
        [small("pals"), small("pals on top")],
    ],
    ids=["tasks", "shared", "places"],
)
def test_two_entries_of_one_name_that_differ_are_accepted(plans: list[ModulePlan]) -> None:
    make_model(plans)


def test_two_adapters_of_different_sizes_stand_in_the_order_of_the_recipe() -> None:
    for plans, sizes in (
        ([small("adapter"), plan("adapter")], [4, 64]),
        ([plan("adapter"), small("adapter")], [64, 4]),
    ):
        adapters = make_model(plans).modules_by_task.of("near").modules
        assert [adapter.output[0].down.out_features for adapter in adapters] == sizes


# ---- parameters that tasks have in common though each has its module


def test_one_scale_weighs_the_pals_of_all_tasks() -> None:
    model = shaken(make_model([small("pals with one scale")]))
    [path] = [path for path, _ in model.named_parameters() if path.endswith("scales")]
    assert path == "modules_by_task.entries.0.shared.scales"
    for task in NAMES:
        model.zero_grad()
        model(BATCHES[task]).square().sum().backward()
        assert model.get_parameter(path).grad.all()


def test_a_scale_of_each_task_is_its_own() -> None:
    model = make_model([small("pals alike")])
    scales = [path for path, _ in model.named_parameters() if path.endswith("scales")]
    assert scales == [f"modules_by_task.entries.0.{task}.scales" for task in NAMES]


@pytest.mark.parametrize("change", [copy.deepcopy, lambda model: model.double(), lambda model: model.to("cpu")])
def test_a_parameter_in_common_stays_in_common(change: Any) -> None:
    model = change(make_model([small("pals with one scale")]))
    scales = [model.modules_by_task.of(task).modules[0].scales for task in NAMES]
    assert all(one is model.get_parameter("modules_by_task.entries.0.shared.scales") for one in scales)
