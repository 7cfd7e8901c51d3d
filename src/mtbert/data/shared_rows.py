"""Rows of which only some have a label of a task: those of one file that carry the labels of several tasks, tokenised
once and drawn as one batch for all of them, and those of a task with texts beside them that nobody has labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mtbert.data.batches import LARGE, Apart, Batch, Examples, tokens_of
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.errors import Mistake


def examples_together(
    rows: Mapping[str, tuple[Task, Rows]],
    tokenizer: Tokenizer,
    positions: int,
    apart: Callable[[str], Apart | None],
) -> dict[str, Examples]:
    """The examples of tasks in their rows; those that read the same texts of one file hold the same tokens."""
    groups: dict[object, dict[str, tuple[Task, Rows]]] = {}
    for name, (task, read) in rows.items():
        texts = name if read.file is None else (read.file, task.text, task.reads_words)
        groups.setdefault(texts, {})[name] = (task, read)
    found: dict[str, Examples] = {}
    for group in groups.values():
        united, at = _united([read for _, read in group.values()])
        tokens = tokens_of(united, tokenizer)
        for (name, (task, read)), own in zip(group.items(), at, strict=True):
            found[name] = Examples(task, tokens, tokenizer, positions, read.labels, apart(name), own)
    return {name: found[name] for name in rows}


def _united(several: Sequence[Rows]) -> tuple[Rows, list[NDArray[np.int64] | None]]:
    """The rows of a file that any of several tasks has, and which of them each task's are: None for all of them."""
    first, *others = several
    places = [rows.places for rows in several if rows.places is not None]
    if not others or all(np.array_equal(places[0], other) for other in places[1:]):
        return first, [None] * len(several)
    union, where = np.unique(np.concatenate(places), return_index=True)
    columns = [_end_to_end([rows.texts[side] for rows in several], where) for side in range(len(first.texts))]
    words = [rows.words for rows in several if rows.words is not None]
    united = replace(
        first,
        id_cells=pa.chunked_array([union]),
        texts=tuple(columns),
        labels=None,
        words=_end_to_end(words, where) if words else None,
        places=union,
        kept={},
    )
    return united, [np.searchsorted(union, own) for own in places]


def _end_to_end(columns: Sequence[pa.ChunkedArray], rows: NDArray[np.int64]) -> pa.ChunkedArray:
    """Some rows of columns that are put one after the other."""
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks]).take(pa.array(rows))


class SharedRows:
    """Rows as one task sees them: every batch holds all the texts that were drawn, and the targets of those rows that
    this task has a label for (`Batch.labelled`).

    The sets of all tasks of a file are equally long and in the same order, so that streams with one seed draw the same
    rows.
    """

    def __init__(
        self,
        own: Examples,
        texts: Examples,
        *,
        at: NDArray[np.int64],
        rows: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> None:
        """The examples of `own` stand `at` these places among the texts (N,), and `rows` of these are drawn (U,)."""
        assert own.labels is not None  # a stage trains on labelled sets only
        self.task = own.task
        self.own = own
        self.labels: Labels | None = own.labels
        self._known: Labels = own.labels
        self.lengths = lengths
        self._texts, self._rows = texts, rows
        self._place = np.full(len(texts), -1)
        self._place[at] = np.arange(len(own))

    @classmethod
    def of(
        cls, sets: Mapping[str, Examples], tokenizer: Tokenizer, positions: int, apart: Apart | None
    ) -> dict[str, SharedRows]:
        """Each task's view of the rows that any of them has a label for; raises Mistake where they share no texts."""
        _check(sets)
        rows = np.unique(np.concatenate([own.at for own in sets.values()]))
        texts = {name: Examples(own.task, own.texts, tokenizer, positions, apart=apart) for name, own in sets.items()}
        for one in texts.values():
            one.vectors = next(iter(texts.values())).vectors  # read once
        lengths = np.max([one.lengths[rows] for one in texts.values()], axis=0)
        return {name: cls(own, texts[name], at=own.at, rows=rows, lengths=lengths) for name, own in sets.items()}

    @classmethod
    def with_unlabelled(cls, own: Examples, unlabelled: Examples, tokenizer: Tokenizer, positions: int) -> SharedRows:
        """The labelled rows of a task, and behind them texts that have no label."""
        columns = [one.followed_by(other) for one, other in zip(own.tokens, unlabelled.tokens, strict=True)]
        texts = Examples(own.task, columns, tokenizer, positions)
        texts.vectors = cache(  # of both parts, whoever has them read
            lambda: [torch.cat(both) for both in zip(own.vectors(), unlabelled.vectors(), strict=True)]
        )
        return cls(own, texts, at=np.arange(len(own)), rows=np.arange(len(texts)), lengths=texts.lengths)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The texts of these B rows, and the targets of those that have a label."""
        chosen = self._rows[np.asarray(rows, dtype=np.int64)]
        own = self._place[chosen]
        labelled = np.flatnonzero(own >= 0)
        return replace(
            self._texts.batch(chosen, turned),
            rows=own,
            labelled=torch.from_numpy(labelled),
            targets=self.task.targets(self._known[own[labelled]]),
        )

    def in_order_of_length(self, batch_size: int, tokens: int = LARGE) -> Iterator[Batch]:
        """Every row once, longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(self), batch_size):
            yield self.batch(order[start : start + batch_size])

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Which rows have a label of the task, in the order in which `own` has them."""
        place = self._place[self._rows]
        return np.argsort(place, kind="stable")[len(self) - len(self.own) :]

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """The tokens of each column of the texts, none of them cut off."""
        return tuple(text.take(self._rows) for text in self._texts.texts)

    def vectors(self) -> list[torch.Tensor]:
        """The vectors of each column of the rows' texts (U, D); none where no other encoder reads them."""
        return [column[torch.from_numpy(self._rows)] for column in self._texts.vectors()]

    @property
    def orders(self) -> Sequence[SharedRows]:
        """This set alone, as it is trained on and not scored."""
        return [self]


def _check(sets: Mapping[str, Examples]) -> None:
    """Raises Mistake where tasks cannot be given the same rows."""
    first, *others = sets
    one = sets[first]
    for name, own in sets.items():
        if own.task.balance:
            raise Mistake(
                f"sampler 'joint_rows' draws rows for all tasks, and `balance` of task '{name}' is about its own "
                "classes: take 'joint', or `class_weights`"
            )
    for other in others:
        if [*map(id, sets[other].texts)] != [*map(id, one.texts)]:
            raise Mistake(
                f"sampler 'joint_rows' draws rows that have the labels of all tasks, and '{first}' and '{other}' "
                "do not read the same columns of the same file: take 'joint', or limit the stage to tasks that do"
            )
        if sets[other].task.trained_in_both_orders != one.task.trained_in_both_orders:
            raise Mistake(
                f"sampler 'joint_rows' draws the texts of a pair in one order for all tasks, and '{first}' and "
                f"'{other}' differ in `symmetric`"
            )
