"""Which rows choose a checkpoint and which rows report: dev and test, or dev cut in two where test has no labels.

Shares of a training file become files of their own, so that all recipes learn from, and are judged on, the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from mtbert.data.formats.base import Asked
from mtbert.data.formats.cells import plain
from mtbert.data.formats.hub import HubSplit
from mtbert.data.kinds.base import Task, share_of
from mtbert.data.tables import KEPT_BACK, Rows, read_table
from mtbert.errors import Mistake
from mtbert.recipe.schema import Recipe
from mtbert.runs.data import alike, folded, read_splits, shared_tables


@dataclass(frozen=True)
class Splits:
    """Where the rows of one task are."""

    selecting: str | list[str]  # the file by which checkpoints are chosen, or several, or a split of the hub
    reporting: str | list[str]  # the same whose scores stand in the table, read once for every run
    cut: bool  # whether the two are halves of dev
    # the file that is learned from, where shares of the training file are set apart; of folds all but those two
    learning: str | list[str] | None = None


def find_splits(recipe: Recipe, folder: Path) -> dict[str, Splits]:
    """Task -> its splits; halves of dev belong into the folder. Nothing is written."""
    first = {name: names[0] for names in alike(recipe).values() for name in names}
    return {name: _splits(recipe, task, folder, first[name]) for name, task in recipe.tasks.items()}


def write_splits(recipe: Recipe, splits: Mapping[str, Splits]) -> None:
    """Write the halves of dev sets that are to be cut, and the shares of training files, unless they are already."""
    if all(Path(path).exists() for split in splits.values() for path in _made(split)):
        return
    apart = shared_tables(recipe)
    for name, split in splits.items():
        tables = apart.get(name, {})
        if split.cut:
            dev = (
                tables["dev"]
                if "dev" in tables
                else read_table(recipe.source(name, "dev"), Asked(None, *recipe.tasks[name].format)).columns
            )
            first = first_half(dev.select(list(recipe.tasks[name].text)))
            for half_file, half in zip(_made(split), (first, ~first), strict=False):
                _write(dev.filter(pa.array(half)), Path(half_file))
        for part, path in (("train", split.learning), ("dev", split.selecting), ("test", split.reporting)):
            if part in tables and isinstance(path, str) and not (split.cut and part == "dev"):
                _write(tables[part], Path(path))


def find_folds(recipe: Recipe, folder: Path, folds: int) -> list[dict[str, Splits]]:
    """Fold -> task -> its splits where that fold reports, the next one selects, and the others are learned from.

    The files of the folds belong into the folder. Nothing is written.
    """
    if folds < 3:
        raise Mistake(f"--folds {folds}: there are three at least, as one reports, one selects and the rest is learned")
    first = {name: one for one, names in alike(recipe).items() for name in names}
    files = {name: _fold_files(folder, first[name], folds) for name in recipe.tasks}
    return [
        {
            name: Splits(
                selecting=paths[(fold + 1) % folds],
                reporting=paths[fold],
                cut=False,
                learning=[paths[(fold + ahead) % folds] for ahead in range(2, folds)],
            )
            for name, paths in files.items()
        }
        for fold in range(folds)
    ]


def write_folds(recipe: Recipe, folder: Path, folds: int) -> None:
    """Write the files of the folds, unless they are there already."""
    if all(Path(path).exists() for first in alike(recipe) for path in _fold_files(folder, first, folds)):
        return
    for first, tables in folded(recipe, folds).tables.items():
        for path, table in zip(_fold_files(folder, first, folds), tables, strict=True):
            _write(table, Path(path))


def to_be_timed(content: Mapping[str, Any], folds: int) -> dict[str, Any]:
    """A recipe as it can be tried before the files of its folds are written: a share of a fold's size for dev."""
    if not folds:
        return dict(content)
    share = {"dev": f"{100 / folds:.3g}%", "test": None}
    return {**content, "tasks": {name: {**task, **share} for name, task in content["tasks"].items()}}


def _fold_files(folder: Path, task: str, folds: int) -> list[str]:
    return [str(folder.resolve() / f"{task}-fold-{fold + 1}-of-{folds}.arrow") for fold in range(folds)]


def with_splits(content: Mapping[str, Any], splits: Mapping[str, Splits]) -> dict[str, Any]:
    """A recipe whose tasks are judged, while they train, by the selecting rows alone."""
    return {**content, "tasks": {name: _with_splits(task, splits[name]) for name, task in content["tasks"].items()}}


def _with_splits(task: Mapping[str, Any], split: Splits) -> dict[str, Any]:
    learning = {} if split.learning is None else {"train": split.learning}
    return {**task, **learning, "dev": split.selecting, "test": split.reporting}


def first_half(texts: pa.Table) -> NDArray[np.bool_]:
    """Which rows belong to the half that selects, by a hash of their texts, whichever of a pair comes first: (N,)."""
    columns = [column.to_pylist() for column in texts.columns]
    joined = ["\x1f".join(sorted(str(text) for text in row)) for row in zip(*columns, strict=True)]
    return np.array([hashlib.sha256(text.encode()).digest()[0] % 2 == 0 for text in joined], dtype=bool)


def reporting_rows(recipe: Recipe, task: str) -> Rows:
    """The labelled rows whose scores are reported, of a recipe `with_splits`."""
    return read_splits(recipe, [task], ["test"])["test"][task]


def _splits(recipe: Recipe, task: Task, folder: Path, first: str) -> Splits:
    """The splits of a task, whose file and texts that task `first` reads too, so that both share what is set apart."""
    dev, test = (recipe.source(task.name, split) for split in ("dev", "test"))
    dev_apart, test_apart = (share_of(given) is not None for given in (task.dev, task.test))
    if dev is None and not dev_apart:
        raise Mistake(f"task '{task.name}' names no `dev` rows, by which a comparison chooses and judges")
    selecting, reporting, learning = (
        str(folder.resolve() / f"{first if dev_apart or test_apart else task.name}-{part}.arrow")
        for part in ("selecting", "reporting", "learning")
    )
    learned = learning if dev_apart or test_apart else None
    if not test_apart and not _labelled(task, test):
        return Splits(selecting, reporting, cut=True, learning=learned)
    return Splits(
        selecting if dev_apart else _written(dev),
        reporting if test_apart else _written(test),
        cut=False,
        learning=learned,
    )


def _written(source: Any) -> str | list[str]:
    """A source as a recipe in another folder says it."""
    if isinstance(source, HubSplit):
        return source.split
    return [str(path.resolve()) for path in source] if isinstance(source, list) else str(Path(source).resolve())


def _made(split: Splits) -> list[str]:
    """The files of a split that a comparison writes."""
    made = [split.selecting, split.reporting] if split.cut else []
    if split.learning is not None:
        made += [split.learning, split.selecting, split.reporting]
    return [path for path in made if isinstance(path, str)]


def _labelled(task: Task, source: Any) -> bool:
    """Whether a test set has labels: the column, with something in it that does not stand for none."""
    if source is None or (isinstance(source, Path) and "*" not in str(source) and not source.exists()):
        return False
    table = read_table(source, Asked(None, *task.format))
    columns = [name for name in task.label_columns if name in table.columns.column_names]
    there = {
        str(cell).strip()
        for name in columns
        for cell in plain(table.column(name, "the label")).to_pylist()
        if cell is not None
    }
    return not there - {""} <= KEPT_BACK


def _write(columns: pa.Table, path: Path) -> None:
    """As an Arrow file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    with pa.ipc.new_file(unfinished, columns.schema) as file:
        file.write_table(columns)
    unfinished.replace(path)
