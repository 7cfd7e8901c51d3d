"""What the kinds have in common whose labels are names: classes that a recipe gives, or the training file."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from functools import cached_property

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.spelling import ClassNames, Spellings, proposed_classes


class NamedClasses(Task, ABC):
    """A task whose labels are some of several names. What a row may have of them, its kind says."""

    from_data = frozenset({"classes"})
    classes: ClassNames = ()

    @property
    def complete(self) -> bool:
        return bool(self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def proposal(self, cells: Mapping[str, int]) -> str:
        return proposed_classes(cells)

    def read_label(self, cell: object) -> float:
        return self._spellings.place(cell)

    def oddities(self) -> list[str]:
        return self._spellings.alike

    @cached_property
    def _spellings(self) -> Spellings:
        return Spellings(self.classes)
