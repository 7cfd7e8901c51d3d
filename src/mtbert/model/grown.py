"""Adding tasks to a model without changing what it predicts for the tasks that it already has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from mtbert.data.kinds.base import SOURCES, Task
from mtbert.errors import Mistake
from mtbert.model.heads.head import HEADS
from mtbert.model.multitask import MultiTask
from mtbert.model.original import Original
from mtbert.model.task_modules.base import ModulePlan


def grown(
    base: MultiTask, tasks: Sequence[Task], plans: Sequence[ModulePlan], original: Original | None = None
) -> MultiTask:
    """A model for `tasks` and module `plans`, both of which begin with those of `base` and go on with new ones.

    Parameters that `base` has keep their names and weights, so that the outputs for its tasks stay the same bit for
    bit; the others are newly initialised. The `original` encoder is that of `base` where it has one. Raises Mistake if
    tasks or plans do not begin with those of `base`, or if a new module would serve one of its tasks.
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
    model = MultiTask(base.encoder, tasks, plans, base.original or original)
    left = model.load_state_dict(base.state_dict(), strict=False)
    assert not left.unexpected_keys  # new plans come last, so they rename none of the parameters of base
    return model


def plan_for(plan: ModulePlan, tasks: Iterable[str]) -> ModulePlan:
    """The plan with its tasks spelt out: all of `tasks` if it names none."""
    return replace(plan, tasks=tuple(plan.tasks or tasks))


def _described(tasks: Iterable[Task], plans: Iterable[ModulePlan]) -> list[list[dict[str, Any]]]:
    """Everything about tasks and plans that decides the model's parameters, to be compared."""
    files = {*SOURCES}  # where a task's rows come from does not change its model
    said = [task.model_dump(mode="json", exclude=files) | {"head": HEADS.choose(task.head).written} for task in tasks]
    return [said, [asdict(plan) | {"tasks": list(plan.tasks or ())} for plan in plans]]
