"""One model for many tasks: its doors, and which parts serve which task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtbert.data.batches import Batch, Examples, Stream
from mtbert.data.kinds.classification import Classification
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_encoder
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from tests.support.tiny_models import (
    BATCHES,
    MOOD,
    NEAR,
    SAME,
    TASKS,
    ask,
    every_state,
    make_model,
    plan,
    relative_error,
    shaken,
    tiny_bert,
    tiny_tokenizer,
)

EQUIPMENT = {
    "plain": [],
    **{name: [plan(name)] for name in TASK_MODULES},
    **{f"shared {name}": [plan(name, shared=True)] for name in TASK_MODULES},
    "everything at once": [
        *(plan(name) for name in TASK_MODULES),
        *(plan(name, shared=True) for name in TASK_MODULES if name != "relational"),  # which stands for the features
    ],
}

# ---- two doors


@pytest.mark.parametrize("plans", EQUIPMENT.values(), ids=EQUIPMENT.keys())
def test_resuming_after_any_layer_repeats_the_clean_pass(plans: Sequence[ModulePlan]) -> None:
    model = shaken(make_model(plans, layers=4))
    with torch.no_grad():
        for batch in BATCHES.values():
            clean, states = model(batch), every_state(model, batch)
            assert len(states) == 5
            for start, state in enumerate(states):
                assert torch.equal(model.resume(state, batch, start=start), clean), (batch.task, start)
                rest = list(model.states(state, batch, start=start))
                assert all(torch.equal(mine, theirs) for mine, theirs in zip(rest, states[start + 1 :], strict=True))


@pytest.mark.parametrize("plans", EQUIPMENT.values(), ids=EQUIPMENT.keys())
def test_gradients_reach_the_state_a_pass_is_resumed_from(plans: Sequence[ModulePlan]) -> None:
    """Against the change of the output along a direction, in float64."""
    model, batch = shaken(make_model(plans)).double(), BATCHES["mood"]
    generator = torch.Generator().manual_seed(3)
    for start, state in enumerate(every_state(model, batch)):
        x = state.detach().requires_grad_()
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64) * batch.mask[:, :, None]

        model.resume(x, batch, start).square().sum().backward()

        with torch.no_grad():
            ahead = model.resume(x + 1e-6 * direction, batch, start).square().sum()
            behind = model.resume(x - 1e-6 * direction, batch, start).square().sum()
        assert float((x.grad * direction).sum()) == pytest.approx(float((ahead - behind) / 2e-6), rel=1e-5, abs=1e-7)


def test_states_are_computed_only_as_they_are_asked_for() -> None:
    model, calls = make_model(), []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    states = model.states(model.embed(BATCHES["mood"]), BATCHES["mood"])
    assert not calls
    next(states)
    assert len(calls) == 1


# ---- the whole way, against transformers


def vectors(bert: Any, batch: Batch, pooling: str) -> Tensor:
    """What transformers makes of each sequence alone, without padding."""
    pooled = []
    for tokens, segments, mask in zip(batch.tokens, batch.segments, batch.mask, strict=True):
        length = int(mask.sum())
        alone = replace(batch, tokens=tokens[None, :length], segments=segments[None, :length], mask=mask[None, :length])
        result = ask(bert, alone)
        last = result.hidden_states[-1][0]
        pooled.append({"mean": last.mean(0), "cls": last[0], "pooler": result.pooler_output[0]}[pooling])
    return torch.stack(pooled)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_outputs_are_a_linear_layer_on_what_transformers_says(pooling: str, tmp_path: Any) -> None:
    bert = tiny_bert()
    bert.save_pretrained(tmp_path)
    tasks = [task.model_copy(update={"pooling": pooling}) for task in TASKS]
    model = MultiTask(load_encoder(tmp_path), tasks).eval()
    shaken(model.heads)

    with torch.no_grad():
        for task in ("mood", "same"):
            head = model.heads[task].output
            by_hand = vectors(bert, BATCHES[task], pooling) @ head.weight.T + head.bias
            assert relative_error(model(BATCHES[task]), by_hand) < 1e-5

        u, v = vectors(bert, BATCHES["near"], pooling).split(2)  # first texts first, then second texts
        head = model.heads["near"].output
        by_hand = torch.cat([u, v, (u - v).abs()], 1) @ head.weight.T + head.bias
        assert relative_error(model(BATCHES["near"]), by_hand) < 1e-5


TEXTS = ["the good film", "un good !", "a", "film film film , bad", "1999"]


@pytest.mark.parametrize("task", [MOOD, SAME, NEAR], ids=["one text", "joint pair", "separate pair"])
def test_an_example_is_answered_alike_alone_and_in_company(task: Any) -> None:
    model = shaken(make_model())
    columns = [TEXTS, TEXTS[::-1]][: len(task.text)]
    examples = Examples.from_texts(task, columns, tiny_tokenizer(), 20)
    with torch.no_grad():
        together = model(examples.batch(range(5)))
        alone = torch.cat([model(examples.batch([row])) for row in range(5)])
    assert relative_error(together, alone) < 1e-5
    assert len(set(together[:, 0].tolist())) == 5


@pytest.mark.parametrize("task", [MOOD, SAME, NEAR], ids=["one text", "joint pair", "separate pair"])
def test_a_pass_in_buckets_gives_the_gradient_of_its_examples_one_by_one(task: Any) -> None:
    model, count = shaken(make_model()), 41
    columns = [[" ".join(TEXTS[(i * 3 + part) % 5] for _ in range(1 + i % 3)) for i in range(count)] for part in (0, 1)]
    labels = (np.arange(count) % 2).astype(np.float64)
    tokens = [tiny_tokenizer().encode(column) for column in columns[: len(task.text)]]
    examples = Examples(task, tokens, tiny_tokenizer(), 20, labels)
    stream = Stream(examples, 4, [1])
    ways = [[stream.draw() for _ in range(stream.batches_per_pass)], [examples.batch([row]) for row in range(count)]]
    assert len({batch.tokens.shape[1] for batch in ways[0]}) > 1

    gradients = []
    for batches in ways:
        model.zero_grad()
        for batch in batches:
            (task.losses(model(batch), batch.targets).sum() / count).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, mine in gradients[0].items():
        torch.testing.assert_close(mine, gradients[1][name], rtol=1e-4, atol=1e-5)


def test_a_pair_encoded_apart_keeps_first_and_second_in_their_places() -> None:
    model = shaken(make_model(tasks=[NEAR.model_copy(update={"features": "concat"})]))
    there = Examples.from_texts(NEAR, [TEXTS, TEXTS[::-1]], tiny_tokenizer(), 20)
    back = Examples.from_texts(NEAR, [TEXTS[::-1], TEXTS], tiny_tokenizer(), 20)
    with torch.no_grad():
        outputs, swapped = model(there.batch([0, 1])), model(back.batch([0, 1]))
        assert relative_error(model(back.batch([4, 3])), outputs) < 1e-5
    assert relative_error(swapped, outputs) > 1e-2


@pytest.mark.parametrize("head", ["cosine", "cosine01"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_the_cosine_of_a_pair_does_not_depend_on_its_order(pooling: str, head: str) -> None:
    model = shaken(make_model(tasks=[NEAR.model_copy(update={"head": head, "pooling": pooling})]))
    there = Examples.from_texts(NEAR, [TEXTS, TEXTS[::-1]], tiny_tokenizer(), 20)
    back = Examples.from_texts(NEAR, [TEXTS[::-1], TEXTS], tiny_tokenizer(), 20)
    with torch.no_grad():
        outputs, swapped = model(there.batch(range(5))), model(back.batch(range(5)))
    torch.testing.assert_close(outputs, swapped)
    # the one in the middle is paired with itself
    assert float(outputs[2]) == pytest.approx(1, abs=1e-6)
    assert float(outputs.min()) < 0.99


# ---- who serves whom


def test_each_task_gets_its_own_outputs() -> None:
    model = make_model()
    assert {task: tuple(model(batch).shape) for task, batch in BATCHES.items()} == {
        "mood": (3, 3),
        "same": (2, 2),
        "near": (2, 1),
    }


def test_a_change_of_one_head_changes_its_task_only() -> None:
    model = make_model()
    with torch.no_grad():
        before = {task: model(batch) for task, batch in BATCHES.items()}
        model.heads["same"].output.bias += 1
        after = {task: model(batch) for task, batch in BATCHES.items()}
    torch.testing.assert_close(after["same"], before["same"] + 1)
    assert torch.equal(after["mood"], before["mood"])
    assert torch.equal(after["near"], before["near"])


def test_every_task_trains_the_encoder_and_its_own_head_alone() -> None:
    for task, batch in BATCHES.items():
        model = make_model()
        model(batch).square().sum().backward()
        touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert {name.split(".")[1] for name in touched if name.startswith("heads.")} == {task}
        layers = {name for name, _ in model.named_parameters() if name.startswith("encoder.layers.")}
        assert layers <= touched


@pytest.mark.parametrize("task", [MOOD, SAME, NEAR], ids=["one text", "joint pair", "separate pair"])
def test_a_model_can_learn_a_batch_by_heart(task: Any) -> None:
    torch.manual_seed(4)
    model = make_model(tasks=[task], layers=1).train()
    model.encoder.eval()
    batch = BATCHES[task.name]
    targets = task.targets(batch.rows % 2 * 1.0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        task.losses(model(batch), targets).mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert task.losses(model.eval()(batch), targets).max() < 0.02


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [("pooling", "men", "mean"), ("head", "linaer", "linear"), ("features", "diference", "difference")],
)
def test_an_unknown_part_is_said_before_the_first_batch(option: str, wrong: str, right: str) -> None:
    with pytest.raises(Mistake, match=f"'{wrong}'; did you mean '{right}'"):
        make_model(tasks=[NEAR.model_copy(update={option: wrong})])


def test_a_joint_pair_needs_an_encoder_with_two_segments() -> None:
    task = Classification(name="same", text=("a", "b"), label="same", classes=2)
    with pytest.raises(Mistake, match="segments: zeros"):
        MultiTask(Encoder(Shape(1, 8, 2, 8, 50, 16, segments=1)), [task])
