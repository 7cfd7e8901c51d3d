"""Every task module there is, and the modules of one model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mtbert.errors import Mistake, unknown
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import Fold, ModulePlan, TaskModule
from mtbert.model.task_modules.vectors import LHUC
from mtbert.registry import Registry

TASK_MODULES: Registry[TaskModule] = Registry("task module", {"lhuc": LHUC})


class TaskModules(nn.Module):
    """The modules of a model: for every entry of the recipe one a task, or a single one shared by its tasks."""

    def __init__(self, plans: Sequence[ModulePlan], shape: Shape, tasks: Sequence[str]) -> None:
        super().__init__()
        self.entries = nn.ModuleList()
        self._folds: dict[str, list[TaskModule]] = {task: [] for task in tasks}
        for plan in plans:
            for task in plan.tasks or ():
                if task not in tasks:
                    raise Mistake(f"task module '{plan.name}': {unknown('task', task, tasks)}")
            self._add(plan, shape, plan.tasks or tasks)

    def of(self, task: str) -> Fold:
        """The taps of one task."""
        return Fold(self._folds[task])

    def _add(self, plan: ModulePlan, shape: Shape, tasks: Sequence[str]) -> None:
        makers = [tuple(tasks)] if plan.shared else [(task,) for task in tasks]
        entry = nn.ModuleDict()
        for owners in makers:
            module = TASK_MODULES[plan.name](shape, **plan.options)
            entry["shared" if plan.shared else owners[0]] = module
            for task in owners:
                self._folds[task].append(module)
        self.entries.append(entry)
