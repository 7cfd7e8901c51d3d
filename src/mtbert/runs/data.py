"""From a checked recipe to its rows: the splits, classes and ranges that it leaves to them, and all their mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mtbert.data.formats.base import Asked, Table
from mtbert.data.formats.hub import HubSplit
from mtbert.data.kinds.base import SOURCES, Task, share_of
from mtbert.data.splitting import Shares, folds_of, split_rows
from mtbert.data.streams import RowStream, stream_rows
from mtbert.data.tables import NoFile, NoLabels, Rows, asked_by, read_table, rows_of
from mtbert.errors import Gathering, Mistake, Mistakes
from mtbert.recipe.reading import RecipeMistakes
from mtbert.recipe.schema import Recipe

SMALL = 1 << 26  # bytes of a file that is held where several tasks are scored on it


UNLABELLED = "unlabelled"  # the split of texts without labels, which not every task has


class Data(NamedTuple):
    """A recipe whose tasks know their classes and ranges, and the rows as read: split -> task -> rows."""

    recipe: Recipe
    rows: dict[str, dict[str, Rows]]


def read_splits(recipe: Recipe, tasks: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, Rows]]:
    """The rows alone; as `read_data` otherwise."""
    return read_data(recipe, tasks, splits).rows


def read_data(recipe: Recipe, tasks: Sequence[str], splits: Sequence[str], looked_at: Sequence[str] = ()) -> Data:
    """Read these splits of these tasks, and what the recipe leaves to the data; of `unlabelled` texts those there are.

    Of a split that is only `looked_at` the texts are read, where the recipe names it, and given up again. Raises
    Mistakes with the problems of all files at once.
    """
    reader = _Reader(recipe)
    named = {split: [task for task in tasks if _has(recipe, task, split)] for split in splits}
    rows: dict[str, dict[str, Rows]] = {split: {} for split in splits if named[split]}
    for task in tasks:
        for split in (split for split in splits if task in named[split]):
            with reader.gathering.going_on():
                rows[split][task] = _limited(reader.rows(task, split), recipe, task, split)
        for split in looked_at:
            if recipe.source(task, split) is not None:
                with reader.gathering.going_on():
                    reader.look_at(task, split)
    reader.gathering.stop()
    found = {task: read.task for by_task in reversed(rows.values()) for task, read in by_task.items()}
    return Data(recipe.completed(found), rows)


def unlabelled_rows(recipe: Recipe) -> dict[str, int]:
    """Task -> how many texts without labels it has; raises Mistakes as `read_data`."""
    found = read_splits(recipe, list(recipe.tasks), [UNLABELLED])
    return {task: len(rows) for task, rows in found.get(UNLABELLED, {}).items()}


def read_whole(recipe: Recipe, split: str) -> dict[str, Rows]:
    """A split of all tasks, with the rows beyond their `limit` too; raises Mistakes as `read_data`."""
    reader, rows = _Reader(recipe), dict[str, Rows]()
    for name in recipe.tasks:
        with reader.gathering.going_on():
            rows[name] = reader.rows(name, split)
    reader.gathering.stop()
    return rows


class Streams(NamedTuple):
    """A split of some tasks."""

    rows: dict[str, RowStream]
    left_out: dict[str, str]  # task -> why it has no labels there


def stream_splits(recipe: Recipe, tasks: Sequence[str], split: str) -> Streams:
    """A split of those of these tasks that have labels there, of which no more than a piece is held where the split is
    a file of its own; one that several of them read is held whole where it is small, and read once.

    Raises Mistakes as `read_data`, and where no task has labels.
    """
    reader, streams, left_out = _Reader(recipe), dict[str, RowStream](), dict[str, str]()
    files = Counter(reader.file(name, split) for name in tasks)
    for name in tasks:
        task, source = recipe.tasks[name], recipe.source(name, split)
        shared = files[reader.file(name, split)] > 1 and _is_small(source)
        with reader.gathering.going_on():
            try:
                if split == "train" or source is None or shared or not task.complete or task.at_most(split) is not None:
                    streams[name] = RowStream.of(_limited(reader.rows(name, split), recipe, name, split))
                else:
                    streams[name] = stream_rows(task, source)
            except NoLabels as why:
                left_out[name] = str(why)
    reader.gathering.stop()
    if left_out and not streams:
        raise Mistakes(left_out.values())
    return Streams(streams, left_out)


def _is_small(source: Any) -> bool:
    """Whether a split is a file of so few bytes that it may be held."""
    return isinstance(source, Path) and source.is_file() and source.stat().st_size <= SMALL


def shared_tables(recipe: Recipe) -> dict[str, dict[str, pa.Table]]:
    """Task -> split -> its rows as they stand in the training file, for the tasks that set shares of it apart.

    Tasks that read the same texts of a file have one table, of the rows and columns of them all. Raises Mistakes as
    `read_data`.
    """
    reader, tables = _Reader(recipe, keeping=True), dict[str, dict[str, pa.Table]]()
    for names in alike(recipe).values():
        apart = {name: splits for name in names if (splits := _set_apart(recipe.tasks[name]))}
        for split in dict.fromkeys(split for splits in apart.values() for split in splits):
            having = [name for name, splits in apart.items() if split in splits]
            with reader.gathering.going_on():
                table = _as_in_file(reader, names[0], [reader.rows(name, split) for name in having])
                for name in having:
                    tables.setdefault(name, {})[split] = table
    reader.gathering.stop()
    return tables


def _set_apart(task: Task) -> list[str]:
    """The splits that are parts of its training file, where it sets a share of it apart."""
    apart = [split for split in ("dev", "test") if share_of(getattr(task, split)) is not None]
    return ["train", *apart] if apart else []


def _as_in_file(reader: _Reader, task: str, several: Sequence[Rows]) -> pa.Table:
    """The rows of a task's training file that any of these are."""
    places = [rows.places for rows in several if rows.places is not None]
    return reader.table(task).take(pa.array(np.unique(np.concatenate(places))))


class Folded(NamedTuple):
    """The training rows of some tasks in folds, none of which has a text of another."""

    tasks: dict[str, Task]  # with the classes and ranges of all rows
    rows: dict[str, int]  # task -> how many it has
    tables: dict[str, list[pa.Table]]  # the first of tasks that read the same texts of a file -> fold -> its rows there


def folded(recipe: Recipe, folds: int) -> Folded:
    """The rows of the training files of all tasks in folds, as they stand there; raises Mistakes as `read_data`."""
    reader = _Reader(recipe, keeping=True)
    rows = {}
    for name in recipe.tasks:
        with reader.gathering.going_on():
            rows[name] = reader.trained(name)
    reader.gathering.stop()
    fold_of = folds_of(rows, folds)
    tables = {
        first: [
            _as_in_file(reader, first, [rows[task].take(np.flatnonzero(fold_of[task] == fold)) for task in tasks])
            for fold in range(folds)
        ]
        for first, tasks in alike(recipe).items()
    }
    return Folded(
        {name: one.task for name, one in rows.items()}, {name: len(one) for name, one in rows.items()}, tables
    )


def alike(recipe: Recipe) -> dict[str, list[str]]:
    """The tasks that learn from the same texts of the same file, under the first of them."""
    reader, groups = _Reader(recipe), dict[object, list[str]]()
    for name, task in recipe.tasks.items():
        groups.setdefault((reader.file(name, "train"), task.format, task.text, task.reads_words), []).append(name)
    return {names[0]: names for names in groups.values()}


def _has(recipe: Recipe, task: str, split: str) -> bool:
    """Whether a task has to have a split, or has it all the same."""
    return split != UNLABELLED or recipe.tasks[task].unlabelled is not None


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
                read_data(readable, list(readable.tasks), ["train", "dev"], ["test", UNLABELLED])
        raise Mistakes(gathering.messages) from None


class _Reader:
    """Reads each file once, whichever tasks read it, and splits those of which a share is set apart."""

    def __init__(self, recipe: Recipe, keeping: bool = False) -> None:
        self._keeping = keeping  # what stands in the files, beside what it means
        self.gathering = Gathering()
        self._recipe = recipe
        self._tables: dict[object, Table] = {}  # files that several tasks or splits read, with the columns of all
        self._whole: dict[str, Rows] = {}  # task -> its training file
        self._parts: dict[str, dict[str, Rows]] = {}  # task -> split -> its part of that file
        self._files: dict[tuple[str, str], object] = {}  # task and split -> the file, each path resolved once

    def rows(self, task: str, split: str) -> Rows:
        """The rows of a task's split; raises Mistake where the recipe names none."""
        asked, source = self._recipe.tasks[task], self._recipe.source(task, split)
        part = share_of(getattr(asked, split)) is not None
        if source is None and not part:
            offer = f"; or write `{split}: 10%`, which sets a part of train apart" if split != "train" else ""
            raise NoLabels([f"task '{task}' names no `{split}` rows: a file, or a table{offer}"])
        if part or split == "train":
            return self._part(task, split)
        if split == UNLABELLED:
            return self._placed(rows_of(asked, self._table(asked, split), labelled=False), split)
        return self._read(asked, split) if asked.complete else self._with_labels_of_train(asked, split)

    def table(self, task: str) -> pa.Table:
        """What stands in a task's training file, in the columns that the recipe names."""
        return self._table(self._recipe.tasks[task], "train").columns

    def look_at(self, task: str, split: str) -> None:
        """Read the texts of a task's split, for what is wrong with them."""
        asked = self._recipe.tasks[task]
        rows_of(asked, self._table(asked, split), labelled=False)

    def _with_labels_of_train(self, task: Task, split: str) -> Rows:
        try:
            trained = self.trained(task.name)
        except Mistake:
            with self.gathering.going_on():  # what is wrong with this file too
                self._read(task, split)
            raise
        return self._read(trained.task, split, found_in=trained.name)

    def _read(self, task: Task, split: str, found_in: str = "") -> Rows:
        """The rows of a split that is a file of its own."""
        return self._placed(rows_of(task, self._table(task, split), found_in=found_in), split)

    def _placed(self, rows: Rows, split: str) -> Rows:
        """The rows with the file that they come from."""
        return replace(rows, file=(self.file(rows.task.name, split), rows.task.format))

    def _table(self, task: Task, split: str) -> Table:
        """What stands in the file of a split, read once where several read it."""
        source, file = self._recipe.source(task.name, split), (self.file(task.name, split), task.format)
        if file in self._tables:
            return self._tables[file]
        readers = [
            (one, part)
            for one in self._recipe.tasks.values()
            for part in SOURCES
            if self._recipe.source(one.name, part) is not None and (self.file(one.name, part), one.format) == file
        ]
        columns = {column for one, part in readers for column in asked_by(one, part != UNLABELLED).columns or ()}
        try:
            table = read_table(source, Asked(columns, *task.format))
        except NoFile as mistake:
            raise Mistake(f"task '{task.name}', `{split}`: {mistake}") from None
        if len(readers) > 1 or self._keeping:
            self._tables[file] = table
        return table

    def trained(self, task: str) -> Rows:
        """All rows of a task's training file."""
        if task not in self._whole:
            asked = self._recipe.tasks[task]
            self._whole[task] = self._read(asked, "train")
        return self._whole[task]

    def _part(self, task: str, split: str) -> Rows:
        """A part of a training file, or all of it where no task sets a share of it apart."""
        readers = self._readers(task)
        shares = self._shares(readers)
        if shares == Shares():
            return self.trained(task)
        if task not in self._parts:
            split_apart = split_rows({one: self.trained(one) for one in readers}, shares)
            self._parts |= {one: {name: rows[one] for name, rows in split_apart.items()} for one in readers}
        return self._parts[task][split]

    def _readers(self, task: str) -> list[str]:
        """All tasks of the recipe that learn from the training file of this one."""
        file = self.file(task, "train")
        return [name for name in self._recipe.tasks if self.file(name, "train") == file]

    def file(self, task: str, split: str) -> object:
        """The file, or the identity of the table, of a task's split."""
        if (task, split) not in self._files:
            self._files[task, split] = _identity(self._recipe.source(task, split))
        return self._files[task, split]

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


def _identity(source: Any) -> object:
    """The same for any two splits that are read from the same place."""
    if isinstance(source, list):
        return tuple(path.resolve() for path in source)
    if isinstance(source, HubSplit):
        return source
    return source.resolve() if isinstance(source, Path) else id(source)
