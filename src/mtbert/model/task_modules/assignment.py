"""Which of a model's task modules serve which task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mtbert.errors import Mistake, MistakeAt, at, unknown
from mtbert.model.shape import Shape
from mtbert.model.taps import Fold
from mtbert.model.task_modules.base import ModulePlan, TaskModule
from mtbert.model.task_modules.table import TASK_MODULES


class TaskModules(nn.Module):
    """All task modules of a model: for each entry of the recipe one module per task, or one shared by its tasks."""

    def __init__(self, plans: Sequence[ModulePlan], shape: Shape, tasks: Sequence[str]) -> None:
        super().__init__()
        self.entries = nn.ModuleList()
        self._folds: dict[str, list[TaskModule]] = {task: [] for task in tasks}
        self._holders: dict[str, list[nn.Module]] = {task: [] for task in tasks}
        for plan in plans:
            for task in plan.tasks or ():
                if task not in tasks:
                    raise Mistake(f"task module '{plan.name}': {unknown('task', task, tasks)}")
        _check_order(plans, tasks)
        for index, plan in enumerate(plans):
            with at("modules", index):
                self._add(plan, shape, plan.tasks or tasks)

    def of(self, task: str) -> Fold:
        """The modules that serve a task, folded into one set of taps in recipe order."""
        return Fold(self._folds[task])

    def who(self, task: str) -> tuple[int, ...]:
        """Which modules serve a task: tasks of which this is the same need one pass of the encoder."""
        return tuple(map(id, self._folds[task]))

    def holders(self, task: str) -> list[nn.Module]:
        """The modules and dictionaries that own the parameters a task's modules use, parameters in common included."""
        return self._holders[task]

    def _add(self, plan: ModulePlan, shape: Shape, tasks: Sequence[str]) -> None:
        """Make the modules of one entry. Parameters in common are owned by the entry, under `shared`, and lent out."""
        makers = [tuple(tasks)] if plan.shared else [(task,) for task in tasks]
        entry, common = nn.ModuleDict(), nn.ParameterDict()
        for owners in makers:
            module = TASK_MODULES[plan.name](shape, **plan.options)
            entry["shared" if plan.shared else owners[0]] = module
            for task in owners:
                self._folds[task].append(module)
                self._holders[task] += [module, common]
            for name in () if plan.shared else module.in_common:
                common[name] = common[name] if name in common else getattr(module, name)
                module.borrow(name, common[name])
        if common:
            entry["shared"] = common
        self.entries.append(entry)


def _check_order(plans: Sequence[ModulePlan], tasks: Sequence[str]) -> None:
    """Raise MistakeAt for an entry that a task has twice, since nothing says which of the two comes first."""
    for index, plan in enumerate(plans):
        for earlier in plans[:index]:
            alike = (plan.name, plan.options, plan.shared) == (earlier.name, earlier.options, earlier.shared)
            both = [task for task in plan.tasks or tasks if task in (earlier.tasks or tasks)]
            if alike and both:
                raise MistakeAt(
                    ("modules", index),
                    f"task module '{plan.name}' stands twice for task '{both[0]}' with nothing to tell which comes "
                    "first: drop one of the two, or let them differ in an option, `shared` or `tasks`",
                )
