"""Rows of one file that carry the labels of several tasks: one batch of texts for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from mtbert.data.batches import Batch, Examples
from mtbert.data.labels import Labels
from mtbert.errors import Mistake


class SharedRows:
    """The rows of a file as one task sees them: every batch holds all the texts that were drawn, whichever tasks have a
    label there, and the targets of those rows that this task has one for (`Batch.labelled`).

    The sets of all tasks are equally long and in the same order, so that streams with one seed draw the same rows.
    """

    def __init__(self, own: Examples, texts: Examples, rows: NDArray[np.int64]) -> None:
        assert own.places is not None  # of rows that were read from a table
        assert own.labels is not None  # a stage trains on labelled sets only
        self.task = own.task
        self.labels: Labels | None = own.labels
        self._known: Labels = own.labels
        self.lengths = texts.lengths[rows]
        self._texts, self._rows = texts, rows  # (U,) which row of the file each is
        self._place = np.full(len(texts), -1)
        self._place[own.places] = np.arange(len(own))

    @classmethod
    def of(cls, sets: Mapping[str, Examples], texts: Examples) -> dict[str, SharedRows]:
        """Each task's view of the rows that any of them has a label for, given the texts of all rows of the file."""
        rows = np.unique(np.concatenate([own.places for own in sets.values() if own.places is not None]))
        return {name: cls(own, texts, rows) for name, own in sets.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The texts of these B rows, and the targets of those that have a label."""
        chosen = self._rows[np.asarray(rows, dtype=np.int64)]
        place = self._place[chosen]
        labelled = np.flatnonzero(place >= 0)
        batch = replace(self._texts.batch(chosen, turned), task=self.task.name, labelled=torch.from_numpy(labelled))
        return replace(batch, targets=self.task.targets(self._known[place[labelled]]))

    def in_order_of_length(self, batch_size: int) -> Iterator[Batch]:
        """Every row once, longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(self), batch_size):
            yield self.batch(order[start : start + batch_size])

    @property
    def orders(self) -> Sequence[SharedRows]:
        """This set alone, as it is trained on and not scored."""
        return [self]


def check_shared(tasks: Mapping[str, Examples], files: Mapping[str, object]) -> None:
    """Raises Mistake where tasks do not read the same texts of the same file."""
    first, *others = tasks
    for other in others:
        one, two = tasks[first].task, tasks[other].task
        if files[first] != files[other] or (one.text, one.where) != (two.text, two.where):
            raise Mistake(
                f"sampler 'joint_rows' draws rows that have the labels of all tasks, and '{first}' and '{other}' "
                "do not read the same columns of the same file: take 'joint', or limit the stage to tasks that do"
            )
