"""From a checked recipe to its rows: the splits, classes and ranges that it leaves to them, and all their mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mtbert.data.kinds.base import share_of
from mtbert.data.splitting import Shares, split_rows
from mtbert.data.streams import RowStream, stream_rows
from mtbert.data.tables import Rows, asked_by, read_rows, read_table, rows_of
from mtbert.errors import Gathering, Mistake, Mistakes
from mtbert.recipe.reading import RecipeMistakes
from mtbert.recipe.schema import Recipe


class Data(NamedTuple):
    """A recipe whose tasks know their classes and ranges, and the rows as read: split -> task -> rows."""

    recipe: Recipe
    rows: dict[str, dict[str, Rows]]


def read_splits(recipe: Recipe, tasks: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, Rows]]:
    """The rows alone; as `read_data` otherwise."""
    return read_data(recipe, tasks, splits).rows


def read_data(recipe: Recipe, tasks: Sequence[str], splits: Sequence[str], looked_at: Sequence[str] = ()) -> Data:
    """Read these splits of these tasks, and what the recipe leaves to the data.

    Of a split that is only `looked_at` the texts are read, where the recipe names it, and given up again. Raises
    Mistakes with the problems of all files at once.
    """
    reader = _Reader(recipe)
    rows: dict[str, dict[str, Rows]] = {split: {} for split in splits}
    for task in tasks:
        for split in splits:
            with reader.gathering.going_on():
                rows[split][task] = _limited(reader.rows(task, split), recipe, task, split)
        for split in looked_at:
            if recipe.source(task, split) is not None:
                with reader.gathering.going_on():
                    read_rows(recipe.tasks[task], recipe.source(task, split), labelled=False)
    reader.gathering.stop()
    found = {task: read.task for by_task in reversed(rows.values()) for task, read in by_task.items()}
    return Data(recipe.completed(found), rows)


def stream_splits(recipe: Recipe, tasks: Sequence[str], split: str) -> dict[str, RowStream]:
    """A split of these tasks, of which no more than a piece is held where the split is a file of its own.

    Raises Mistakes as `read_data`.
    """
    reader, streams = _Reader(recipe), dict[str, RowStream]()
    for name in tasks:
        task, source = recipe.tasks[name], recipe.source(name, split)
        with reader.gathering.going_on():
            if split == "train" or source is None or not task.complete or task.at_most(split) is not None:
                streams[name] = RowStream.of(_limited(reader.rows(name, split), recipe, name, split))
            else:
                streams[name] = stream_rows(task, source)
    reader.gathering.stop()
    return streams


def shared_tables(recipe: Recipe) -> dict[str, dict[str, pa.Table]]:
    """Task -> split -> its rows as they stand in the training file, for the tasks that set shares of it apart.

    They have the columns that the task names. Raises Mistakes as `read_data`.
    """
    reader, tables = _Reader(recipe, keeping=True), dict[str, dict[str, pa.Table]]()
    for name, task in recipe.tasks.items():
        apart = [split for split in ("dev", "test") if share_of(getattr(task, split)) is not None]
        if apart:
            with reader.gathering.going_on():
                tables[name] = {split: pa.table(dict(reader.rows(name, split).kept)) for split in ["train", *apart]}
    reader.gathering.stop()
    return tables


def _limited(rows: Rows, recipe: Recipe, task: str, split: str) -> Rows:
    """The rows that are used, in the order in which they stand.

    Those of `train` are chosen by the recipe's seed, those of other splits are the same for every seed, so that runs
    are judged alike.
    """
    limit = recipe.tasks[task].at_most(split)
    if limit is None or limit >= len(rows):
        return rows
    seed = recipe.seed if split == "train" else 0
    return rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit]))


@contextmanager
def mistakes_of_data_too() -> Iterator[None]:
    """To the mistakes in a recipe that is read inside the block, add those in the data of the tasks that have none."""
    try:
        yield
    except RecipeMistakes as mistakes:
        gathering = Gathering()
        gathering.messages += mistakes.messages
        if mistakes.readable is not None and mistakes.readable.tasks:
            readable = Recipe(data=mistakes.readable.data, tasks=dict(mistakes.readable.tasks))
            with gathering.going_on():
                read_data(readable, list(readable.tasks), ["train", "dev"], ["test"])
        raise Mistakes(gathering.messages) from None


class _Reader:
    """Reads each task's training file once, and splits those of which a share is set apart."""

    def __init__(self, recipe: Recipe, keeping: bool = False) -> None:
        self._keeping = keeping  # the cells of training files, beside what they mean
        self.gathering = Gathering()
        self._recipe = recipe
        self._whole: dict[str, Rows] = {}  # task -> its training file
        self._parts: dict[str, dict[str, Rows]] = {}  # task -> split -> its part of that file

    def rows(self, task: str, split: str) -> Rows:
        """The rows of a task's split; raises Mistake where the recipe names none."""
        asked, source = self._recipe.tasks[task], self._recipe.source(task, split)
        part = share_of(getattr(asked, split)) is not None
        if source is None and not part:
            offer = f"; or write `{split}: 10%`, which sets a part of train apart" if split != "train" else ""
            raise Mistake(f"task '{task}' names no `{split}` rows: a file, or a table{offer}")
        if part or split == "train":
            return self._part(task, split)
        return read_rows(asked, source) if asked.complete else self._with_labels_of_train(task, source)

    def _with_labels_of_train(self, task: str, source: Any) -> Rows:
        try:
            trained = self._trained(task)
        except Mistake:
            with self.gathering.going_on():  # what is wrong with this file too
                read_rows(self._recipe.tasks[task], source)
            raise
        return read_rows(trained.task, source, found_in=trained.name)

    def _trained(self, task: str) -> Rows:
        """All rows of a task's training file."""
        if task not in self._whole:
            asked, source = self._recipe.tasks[task], self._recipe.source(task, "train")
            table = read_table(source, asked_by(asked))
            self._whole[task] = rows_of(asked, table, keep=table.columns.column_names if self._keeping else ())
        return self._whole[task]

    def _part(self, task: str, split: str) -> Rows:
        """A part of a training file, or all of it where no task sets a share of it apart."""
        readers = self._readers(task)
        shares = self._shares(readers)
        if shares == Shares():
            return self._trained(task)
        if task not in self._parts:
            split_apart = split_rows({one: self._trained(one) for one in readers}, shares)
            self._parts |= {one: {name: rows[one] for name, rows in split_apart.items()} for one in readers}
        return self._parts[task][split]

    def _readers(self, task: str) -> list[str]:
        """All tasks of the recipe that learn from the training file of this one."""
        file = self._file(task)
        return [name for name in self._recipe.tasks if self._file(name) == file]

    def _file(self, task: str) -> object:
        """The training file, or the identity of the table, of a task."""
        source = self._recipe.source(task, "train")
        if isinstance(source, list):
            return tuple(path.resolve() for path in source)
        return source.resolve() if isinstance(source, Path) else id(source)

    def _shares(self, readers: Sequence[str]) -> Shares:
        """What is set apart of a file; raises Mistake where the tasks that read it do not agree."""
        agreed = {"dev": 0.0, "test": 0.0}
        for split in agreed:
            said = {name: share for name in readers if (share := share_of(getattr(self._recipe.tasks[name], split)))}
            if len(set(said.values())) > 1:
                each = ", ".join(f"{name} {share:.3g}" for name, share in said.items())
                raise Mistake(
                    f"tasks that read one file share its split, and these set different shares apart for {split} "
                    f"({each}): one would train on what another is scored on"
                )
            agreed[split] = next(iter(said.values()), 0.0)
        return Shares(**agreed)
