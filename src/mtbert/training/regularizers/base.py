"""What every penalty has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from torch import Tensor

from mtbert.model.multitask import MultiTask
from mtbert.schedules import Varied, VaryingByTask
from mtbert.training.regularizers.passes import Passes

# the tasks a penalty applies to: one name or several; None for all
Tasks = Annotated[
    Annotated[list[str], Field(min_length=1)] | None,
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
]


@dataclass(kw_only=True)
class Regularizer:
    """A penalty added to the loss of every batch of its tasks. The fields are the options of the recipe.

    A weight by task, `{mood: 1, near: 5}`, leaves tasks that it does not name without the penalty.
    """

    weight: VaryingByTask = 1.0
    tasks: Tasks = None

    def __post_init__(self) -> None:
        self._weights = {task: Varied(weight) for task, weight in weights_by_task(self.weight).items()}
        self._weight = None if self._weights else Varied(self.weight)

    def __call__(self, passes: Passes, progress: float) -> Tensor:
        """The weighted penalty; `progress` in [0, 1] is how far the stage has come."""
        weight = self._weight or self._weights[passes.batch.task]
        return weight(progress) * self.penalty(passes)

    def penalty(self, passes: Passes) -> Tensor:
        """A scalar, never negative."""
        raise NotImplementedError

    def applies_to(self, task: str) -> bool:
        return (self.tasks is None or task in self.tasks) and (not self._weights or task in self._weights)

    @property
    def named_tasks(self) -> list[str]:
        """The tasks that the options name."""
        return [*(self.tasks or ()), *self._weights]

    def check(self, model: MultiTask) -> None:
        """Raises Mistake where an option does not fit the model."""

    def start(self, model: MultiTask) -> None:
        """The stage begins with this model."""

    def after_step(self, model: MultiTask, progress: float) -> None:
        """The optimizer has moved the model."""

    def scored(self, model: MultiTask) -> MultiTask:
        """The model to evaluate and keep: the one that learns, unless a method averages it."""
        return model

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state; the stage has begun."""


def weights_by_task(weight: VaryingByTask) -> dict[str, Any]:
    """Task -> its weight, where it is given by task; empty where one is given for all."""
    return dict(weight) if isinstance(weight, Mapping) and "name" not in weight else {}
