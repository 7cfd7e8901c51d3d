"""What is seen in rows that can be read: how often, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mtbert.data.batches import Examples
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.data.tables import Rows
from mtbert.reports.base import cut
from mtbert.reports.sights.prints import Prints, first_rows, of_rows, of_texts

SHOWN = 3  # examples of a sight
ROOM, BEFORE = 60, 20  # characters of a text that are shown, and of these before the place that matters


@dataclass(frozen=True)
class Sight:
    """One thing that was seen in a task's rows of a split."""

    task: str
    split: str
    what: str  # a few words, the same for every task
    said: str  # how often, in a sentence
    rows: int  # how many rows it is about
    examples: list[str]  # SHOWN at most: row, label and texts
    remedy: str
    problem: bool = True  # else it is worth knowing, and nothing need be wrong

    def __str__(self) -> str:
        return f"{self.task} {self.split}: {self.said}"


class Look:
    """The rows of one task and split, and what several sights ask of them."""

    def __init__(self, task: Task, split: str, rows: Rows, examples: Examples, unknown: int | None) -> None:
        assert examples.labels is not None  # check reads labelled splits only
        self.task, self.split, self.rows, self.examples = task, split, rows, examples
        self.labels: Labels = examples.labels
        self.unknown = unknown  # the token of what the vocabulary does not know

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def prints(self) -> list[Prints]:
        """Of the texts of each column: (N,) each."""
        return [of_texts(column) for column in self.rows.texts]

    @cached_property
    def row_prints(self) -> Prints:
        """Of the texts of each row together: (N,)."""
        return of_rows(self.prints)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """The first row that has the texts of each row: (N,)."""
        return first_rows(self.row_prints)

    @property
    def different(self) -> NDArray[np.int64]:
        """The rows whose texts stand in no earlier one."""
        return np.flatnonzero(self.first == np.arange(len(self)))

    @cached_property
    def strata(self) -> NDArray[np.int64]:
        """Which labels are alike: (N,)."""
        return self.task.strata(self.labels)

    @property
    def tokens(self) -> int:
        """How many tokens the texts have."""
        return sum(int(tokens.starts[-1]) for tokens in self.examples.tokens)

    def named(self, row: int) -> str:
        """A row as a person finds it in the file, counted from 1 below the header, and its label."""
        number = row if self.rows.places is None else int(self.rows.places[row])
        (label,) = map(self.task.say, self.labels[np.array([row])])
        said = ", ".join(map(str, label)) if isinstance(label, list) else str(label)
        return f"row {number + 1:,} [{cut(said, ROOM)}]"

    def texts(self, row: int) -> list[str]:
        """Its texts, each in a line."""
        return [" ".join(str(column[int(row)].as_py()).split()) for column in self.rows.texts]

    def shown(self, row: int, beside: Sequence[str] = ()) -> str:
        """The same with its texts, cut: from the beginning, or from near where they part from others `beside` them."""
        texts = self.texts(row)
        starts = [parting(text, other) for text, other in zip(texts, beside, strict=False)] or [0] * len(texts)
        said = [cut(f"…{text[start:]}" if start else text, ROOM) for text, start in zip(texts, starts, strict=True)]
        return f"{self.named(row)} " + " | ".join(said)

    def sight(
        self, what: str, said: str, *, rows: Sequence[int] | NDArray[np.int64], remedy: str, problem: bool = True
    ) -> Sight:
        """A sight of these rows, of which the first few are shown."""
        examples = [self.shown(row) for row in rows[:SHOWN]]
        return Sight(self.task.name, self.split, what, said, len(rows), examples, remedy, problem)


def parting(text: str, other: str) -> int:
    """Where to begin a text that is cut, so that it shows where it parts from another.

    >>> parting("a short text", "a short test"), parting(50 * "same " + "end", 50 * "same " + "END")
    (0, 230)
    """
    differ = (at for at, (one, two) in enumerate(zip(text, other, strict=False)) if one != two)
    same = next(differ, min(len(text), len(other)))
    return 0 if same < ROOM - BEFORE or text == other else same - BEFORE


@dataclass(frozen=True)
class Looks:
    """All that is looked at: split -> task -> look. Every task has `train`."""

    of: Mapping[str, Mapping[str, Look]]
    unlabelled: Mapping[str, Prints] = field(default_factory=dict)  # task -> its rows without labels (N,), if any

    def __iter__(self) -> Iterator[Look]:
        return (look for by_task in self.of.values() for look in by_task.values())

    @property
    def learned(self) -> Mapping[str, Look]:
        """Task -> what it is trained on."""
        return self.of["train"]

    @property
    def scored(self) -> list[Look]:
        """What is not trained on."""
        return [look for look in self if look.split != "train"]

    def others(self, look: Look) -> list[Look]:
        """What other tasks are trained on, but for those that have the very texts of this one's own train."""
        own = self.learned[look.task.name]
        return [
            one
            for name, one in self.learned.items()
            if name != look.task.name and not np.array_equal(one.row_prints, own.row_prints)
        ]
