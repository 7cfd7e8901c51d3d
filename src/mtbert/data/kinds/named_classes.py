"""What the kinds have in common whose labels are names: classes that a recipe gives, or the training file."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from functools import cached_property
from typing import Self

from pydantic import PrivateAttr, model_validator
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.imbalance import ClassWeights, check_weights
from mtbert.data.kinds.spelling import ClassNames, Spellings, class_names_in, proposed_classes
from mtbert.registry import BelowOne, NonNegative


class NamedClasses(Task, ABC):
    """A task whose labels are some of several names. What a row may have of them, its kind says.

    `class_weights`, `focal` and `label_smoothing` change the loss where classes are rare, easy or doubtful.
    """

    from_data = frozenset({"classes"})
    classes: ClassNames = ()
    class_weights: ClassWeights | None = None
    focal: NonNegative = 0.0
    label_smoothing: BelowOne = 0.0
    _weights: Tensor | None = PrivateAttr(None)  # of the classes in the loss, once training rows are known

    @model_validator(mode="after")
    def _known_weights(self) -> Self:
        check_weights(self.class_weights, self.classes)
        return self

    @property
    def complete(self) -> bool:
        return bool(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def counts_all_alike(self) -> bool:
        """Whether the loss is the plain one of its kind."""
        return self._weights is None and not self.focal and not self.label_smoothing

    def proposal(self, cells: Mapping[str, int]) -> str:
        return proposed_classes(cells)

    def stand_in(self, cells: Mapping[str, int]) -> Self | None:
        return self.model_copy(update={"classes": names}) if (names := class_names_in(cells)) else None

    def read_label(self, cell: object) -> float:
        return self._spellings.place(cell)

    def oddities(self) -> list[str]:
        return self._spellings.alike

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.classes)
