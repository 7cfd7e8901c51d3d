"""A model that tasks are added to: what it had stays as it was to the bit, for every module."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake
from mtbert.model.grown import grown, plan_for
from mtbert.model.multitask import MultiTask
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from tests.support.tiny_models import make_batch, make_model, plan, shaken


def pair(name: str) -> Task:
    """A task that every module can serve."""
    return Regression(name=name, text=["a", "b"], label="score", pairs="separate", range=(0, 5))


OLD, NEW = [pair("near"), pair("far")], pair("other")
BATCHES = {name: make_batch(name, (3, 6, 8, 2), sequences=2, seed=4) for name in ("near", "far", "other")}


def extended(base: MultiTask, plans: Sequence[ModulePlan]) -> MultiTask:
    before = [plan_for(one, base.tasks) for one in base.plans]
    return grown(base, [*base.tasks.values(), NEW], [*before, *plans])


def shake_all_but(model: MultiTask, names: set[str]) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in names:
                parameter.add_(torch.randn(parameter.shape), alpha=0.3)


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "shared"])
@pytest.mark.parametrize("name", TASK_MODULES)
def test_whatever_a_new_task_learns_changes_no_output_of_an_old_one(name: str, shared: bool) -> None:
    base = shaken(make_model([plan(name, shared=shared)], OLD))
    outputs = {task: base(BATCHES[task]) for task in base.tasks}
    names = set(base.state_dict())
    weights = copy.deepcopy(base.state_dict())

    model = extended(base, [plan(name, tasks=("other",), shared=shared)]).eval()
    assert names < set(model.state_dict())
    shake_all_but(model, names)
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in names)
    for task, before in outputs.items():
        assert torch.equal(model(BATCHES[task]), before)
    assert torch.isfinite(model(BATCHES["other"])).all()


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "shared"])
@pytest.mark.parametrize("name", TASK_MODULES)
def test_a_module_of_the_old_tasks_serves_no_new_one(name: str, shared: bool) -> None:
    base = shaken(make_model([plan(name, shared=shared)], OLD))
    model = extended(base, [])
    model.eval()(BATCHES["other"]).sum().backward()
    assert [n for n, p in model.modules_by_task.named_parameters() if p.grad is not None] == []


def test_a_new_module_for_an_old_task_is_refused() -> None:
    base = make_model([], OLD)
    for tasks in (("near", "other"), None):
        with pytest.raises(Mistake, match="would change near"):
            extended(base, [plan("lhuc", tasks=tasks)])


def test_tasks_or_modules_that_are_not_the_models_own_are_refused() -> None:
    base = make_model([plan("lhuc")], OLD)
    own = plan("lhuc", tasks=("near", "far"))
    grown(base, [*OLD, NEW], [own])
    for tasks, plans in (
        ([*OLD[::-1], NEW], [own]),
        ([NEW, *OLD], [own]),
        ([OLD[0], NEW], [own]),
        ([*OLD, NEW], []),
        ([*OLD, NEW], [plan("lhuc", tasks=("near",))]),
        ([OLD[0].model_copy(update={"pooling": "cls"}), OLD[1], NEW], [own]),
    ):
        with pytest.raises(Mistake, match="begin otherwise"):
            grown(base, tasks, plans)
