"""A model with tasks added to it, which changes nothing for those it had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from mtbert.data.tasks import Task
from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.model.task_modules.base import ModulePlan


def grown(base: MultiTask, tasks: Sequence[Task], plans: Sequence[ModulePlan]) -> MultiTask:
    """A model for `tasks` with modules by `plans`, both of which begin with those of `base`.

    What `base` has keeps its names and weights, so that its tasks' outputs stay the same to the last bit; the rest is
    fresh. Raises Mistake where tasks or plans do not begin with its own, or a new module would serve an old task.
    """
    before = [plan_for(plan, base.tasks) for plan in base.plans]
    old, new = plans[: len(before)], plans[len(before) :]
    if _described(tasks[: len(base.tasks)], old) != _described(base.tasks.values(), before):
        raise Mistake(
            f"tasks and modules begin otherwise than those of the model that is added to ({', '.join(base.tasks)}); "
            "mtbert add-task writes them"
        )
    for plan in new:
        frozen = [task for task in plan.tasks or base.tasks if task in base.tasks]
        if frozen:
            raise Mistake(f"task module '{plan.name}' is new and would change {', '.join(frozen)}, which is frozen")
    model = MultiTask(base.encoder, tasks, plans)
    left = model.load_state_dict(base.state_dict(), strict=False)
    assert not left.unexpected_keys  # plans add their parameters behind those there are
    return model


def plan_for(plan: ModulePlan, tasks: Iterable[str]) -> ModulePlan:
    """The plan with its tasks named: all of these where it names none."""
    return replace(plan, tasks=tuple(plan.tasks or tasks))


def _described(tasks: Iterable[Task], plans: Iterable[ModulePlan]) -> list[list[dict[str, Any]]]:
    files = {"train", "dev", "test"}  # the model is the same wherever its rows are
    said = [task.model_dump(mode="json", exclude=files) for task in tasks]
    return [said, [asdict(plan) | {"tasks": list(plan.tasks or ())} for plan in plans]]
