"""Batches answered in parallel: as one after the other, in their order, and nothing stays of the threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.model.devices import autocast
from mtbert.model.parallel import AHEAD, in_parallel
from mtbert.model.task_modules.table import TASK_MODULES
from tests.support.tiny_models import make_batch, make_model, plan, served, shaken

CPU = torch.device("cpu")
BATCHES = 17


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads, and afterwards as many as there were."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def batches(task: str) -> list[Batch]:
    """Of all lengths, the longest not first, so that they do not end in the order in which they begin."""
    sequences = 2 if task == "near" else 1
    return [make_batch(task, [2 + seed * 5 % 17] * 6, sequences=sequences, seed=seed) for seed in range(BATCHES)]


@pytest.mark.parametrize("name", TASK_MODULES)
def test_answers_are_those_of_one_after_the_other(name: str, threads: int) -> None:
    model = shaken(make_model([plan(name)]))
    for task in served(name):
        given = batches(task)
        torch.set_num_threads(1)
        with torch.inference_mode():
            due = [model(batch) for batch in given]
        torch.set_num_threads(threads)
        found = list(in_parallel(model, given, CPU))
        for (batch, ours), whose, theirs in zip(found, given, due, strict=True):
            assert batch is whose
            assert torch.equal(ours, theirs)
            assert not ours.requires_grad


def test_each_product_is_on_one_thread_and_as_many_go_on_at_a_time(threads: int) -> None:
    met = threading.Barrier(threads)  # nobody passes alone

    def ask(batch: Batch) -> int:
        met.wait(timeout=30)
        return torch.get_num_threads()

    found = list(in_parallel(ask, batches("mood")[: 4 * threads], CPU))
    assert [own for _, own in found] == [1] * 4 * threads


def test_one_batch_alone_has_all_threads(threads: int) -> None:
    asked = list(in_parallel(lambda batch: torch.get_num_threads(), batches("mood")[:1], CPU))
    assert [own for _, own in asked] == [threads]


def test_few_batches_are_made_ahead(threads: int) -> None:
    made = []

    def coming() -> Iterator[Batch]:
        for batch in batches("mood"):
            made.append(batch)
            yield batch

    answers = in_parallel(lambda batch: None, coming(), CPU)
    for taken in range(1, BATCHES + 1):
        next(answers)
        assert len(made) <= taken + AHEAD * threads + 1


def test_afterwards_there_are_as_many_threads_as_before(threads: int) -> None:
    def fail(batch: Batch) -> None:
        raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        list(in_parallel(fail, batches("mood"), CPU))
    left = in_parallel(lambda batch: None, batches("mood"), CPU)
    next(left)
    left.close()
    running = [one.name for one in threading.enumerate() if one.name.startswith("answers")]
    assert not running
    own: list[int] = []
    later = threading.Thread(target=lambda: own.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), own) == (threads, [threads])


def test_the_precision_is_the_callers_and_weights_are_rounded_anew(threads: int) -> None:
    layer = nn.Linear(8, 8, bias=False)

    def ask(batch: Batch) -> Tensor:
        product: Tensor = layer(torch.eye(8))
        return product

    for _ in range(2):
        with torch.no_grad():
            layer.weight.normal_()
        with autocast(CPU, torch.bfloat16):
            rounded = [answer for _, answer in in_parallel(ask, batches("mood"), CPU)]
        assert {one.dtype for one in rounded} == {torch.bfloat16}
        due = layer.weight.detach().bfloat16().T
        assert all(torch.equal(one, due) for one in rounded)
        assert all(torch.equal(one, layer.weight.detach().T) for _, one in in_parallel(ask, batches("mood"), CPU))
