"""What every penalty has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field
from torch import Tensor

from mtbert.model.multitask import MultiTask
from mtbert.schedules import Varied, Varying
from mtbert.training.regularizers.passes import Passes

# the tasks a penalty applies to: one name or several; None for all
Tasks = Annotated[
    Annotated[list[str], Field(min_length=1)] | None,
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
]


@dataclass(kw_only=True)
class Regularizer:
    """A penalty added to the loss of every batch of its tasks. The fields are the options of the recipe."""

    weight: Varying = 1.0
    tasks: Tasks = None

    def __post_init__(self) -> None:
        self._weight = Varied(self.weight)

    def __call__(self, passes: Passes, progress: float) -> Tensor:
        """The weighted penalty; `progress` in [0, 1] is how far the stage has come."""
        return self._weight(progress) * self.penalty(passes)

    def penalty(self, passes: Passes) -> Tensor:
        """A scalar, never negative."""
        raise NotImplementedError

    def applies_to(self, task: str) -> bool:
        return self.tasks is None or task in self.tasks

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
