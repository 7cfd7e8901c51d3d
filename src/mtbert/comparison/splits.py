"""Which rows choose a checkpoint and which rows report: dev and test, or dev cut in two where test has no labels."""

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

from mtbert.data.formats.cells import plain
from mtbert.data.kinds.base import Task
from mtbert.data.tables import Rows, read_rows, read_table
from mtbert.errors import Mistake
from mtbert.recipe.schema import Recipe


@dataclass(frozen=True)
class Splits:
    """Where the rows of one task are."""

    selecting: str  # the file by which checkpoints are chosen
    reporting: str  # the file whose scores stand in the table, read once for every run
    cut: bool  # whether the two are halves of dev


def find_splits(recipe: Recipe, folder: Path) -> dict[str, Splits]:
    """Task -> its splits; halves of dev belong into the folder. Nothing is written."""
    return {name: _splits(recipe, task, folder) for name, task in recipe.tasks.items()}


def write_halves(recipe: Recipe, splits: Mapping[str, Splits]) -> None:
    """Cut the dev sets that are to be cut, unless they are already."""
    for name, split in splits.items():
        if split.cut and not (Path(split.selecting).exists() and Path(split.reporting).exists()):
            columns = read_table(recipe.source(name, "dev")).columns
            first = first_half(columns.select(list(recipe.tasks[name].text)))
            _write(columns.filter(pa.array(first)), Path(split.selecting))
            _write(columns.filter(pa.array(~first)), Path(split.reporting))


def with_splits(content: Mapping[str, Any], splits: Mapping[str, Splits]) -> dict[str, Any]:
    """A recipe whose tasks are judged, while they train, by the selecting rows alone."""
    tasks = {
        name: {**task, "dev": splits[name].selecting, "test": splits[name].reporting}
        for name, task in content["tasks"].items()
    }
    return {**content, "tasks": tasks}


def first_half(texts: pa.Table) -> NDArray[np.bool_]:
    """Which rows belong to the half that selects, by a hash of their texts, whichever of a pair comes first: (N,)."""
    columns = [column.to_pylist() for column in texts.columns]
    joined = ["\x1f".join(sorted(str(text) for text in row)) for row in zip(*columns, strict=True)]
    return np.array([hashlib.sha256(text.encode()).digest()[0] % 2 == 0 for text in joined], dtype=bool)


def reporting_rows(recipe: Recipe, task: str) -> Rows:
    """The labelled rows whose scores are reported, of a recipe `with_splits`."""
    return read_rows(recipe.tasks[task], recipe.source(task, "test"))


def _splits(recipe: Recipe, task: Task, folder: Path) -> Splits:
    dev, test = (recipe.source(task.name, split) for split in ("dev", "test"))
    if dev is None:
        raise Mistake(f"task '{task.name}' names no `dev` rows, by which a comparison chooses and judges")
    if _labelled(task, test):
        return Splits(str(Path(dev).resolve()), str(Path(test).resolve()), cut=False)
    halves = [str(folder.resolve() / f"{task.name}-{half}.arrow") for half in ("selecting", "reporting")]
    return Splits(halves[0], halves[1], cut=True)


def _labelled(task: Task, source: Any) -> bool:
    """Whether a test set has labels: the column, with something in it."""
    if source is None or not Path(source).exists():
        return False
    table = read_table(source)
    columns = [name for name in task.label_columns if name in table.columns.column_names]
    return any(
        cell is not None and str(cell).strip()
        for name in columns
        for cell in plain(table.column(name, "the label")).to_pylist()
    )


def _write(columns: pa.Table, path: Path) -> None:
    """As an Arrow file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    with pa.ipc.new_file(unfinished, columns.schema) as file:
        file.write_table(columns)
    unfinished.replace(path)
