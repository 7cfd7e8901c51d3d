"""Reads the texts and labels of a task from a file or a table, and says which rows are bad and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from mtbert.data.formats.base import Asked, Table
from mtbert.data.formats.cells import as_texts, is_text, is_time, is_value, plain
from mtbert.data.formats.columnar import read_folder, read_object
from mtbert.data.formats.table import FORMATS
from mtbert.data.tasks import Task
from mtbert.errors import Mistake, unknown

BLOCK = 100_000  # texts checked at a time, which bounds the memory of the copies that a check makes
SKIP = "`bad_rows: skip`"
EVERYTHING = Asked()
QUOTES = ("`quotes: none` (a quote is a sign like any other)", "`quotes: trusted` (quoted cells are as meant)")


@dataclass(frozen=True)
class Rows:
    """What a task reads from a table: N ids, one or two columns of N texts, and N labels where it has any."""

    name: str
    id_cells: pa.ChunkedArray  # as in the table: as text only when asked for, which training never does
    texts: tuple[pa.ChunkedArray, ...]
    labels: NDArray[np.float64] | None
    skipped: list[str]  # each bad row that was left out, with its place and what is wrong

    def __len__(self) -> int:
        return len(self.id_cells)

    @property
    def ids(self) -> list[str]:
        """The ids as text, empty where a row has none; the rows' numbers, counted from 0, if the table has no ids."""
        return as_texts(self.id_cells).fill_null("").to_pylist()  # type: ignore[no-any-return]

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """These rows alone, in this order: (M,)."""
        texts = tuple(column.take(pa.array(rows)) for column in self.texts)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, id_cells=self.id_cells.take(pa.array(rows)), texts=texts, labels=labels)


def read_rows(task: Task, source: Any, labelled: bool = True) -> Rows:
    """Read the rows of a task from a file, a folder of files, or any object that offers the Arrow C stream.

    Every labelled row is checked: a bad row raises Mistake naming file, line, column and value, or is left out and
    listed if the task says `bad_rows: skip`. Unlabelled rows are all kept, even with an empty text, and a number among
    their texts is a text; a row that cannot be read for certain raises Mistake.
    """
    table = read_table(source, _asked(task, labelled))
    skip = labelled and task.bad_rows == "skip"
    if table.doubts and not skip:
        first = table.doubts[0]
        said = f"{first.place}: {first.message}"
        raise _bad(task, table.name, said, len(table.doubts), [SKIP, *QUOTES] if labelled else QUOTES)
    if not table.names or (table.columns.num_columns and not table.columns.num_rows):
        raise Mistake(f"{table.name} is empty: it has no rows below its header")

    texts = tuple(_texts(table, column, labelled) for column in task.text)
    ids = _ids(table, task.id, labelled)
    if not labelled:
        return Rows(table.name, ids, tuple(column.fill_null("") for column in texts), None, [])

    labels, problems = _labels(table, task)
    for column, cells in zip(task.text, texts, strict=True):
        for row in _empty(cells):
            problems.setdefault(row, f"column '{column}' is empty")
    problems |= {doubt.row: doubt.message for doubt in table.doubts if doubt.row is not None}
    unread = [f"{doubt.place}: {doubt.message}" for doubt in table.doubts if doubt.row is None]
    if not problems:
        return Rows(table.name, ids, texts, labels, unread)

    bad = sorted(problems)
    described = [f"{place}: {problems[row]}" for place, row in zip(table.where(bad), bad, strict=True)]
    if not skip:
        raise _bad(task, table.name, described[0], len(bad), [SKIP])
    if len(bad) == len(ids):
        raise Mistake(f"{table.name}: every row is bad, the first at {described[0]}")

    good = np.setdiff1d(np.arange(len(ids)), bad)
    kept = pa.array(good)
    return Rows(
        table.name, ids.take(kept), tuple(cells.take(kept) for cells in texts), labels[good], unread + described
    )


def forget(rows: dict[str, dict[str, Rows]]) -> None:
    """Drop all these rows and return their memory to the system; Arrow would hold it for the next table."""
    rows.clear()
    pa.default_memory_pool().release_unused()


def read_table(source: Any, asked: Asked = EVERYTHING) -> Table:
    """Read a file in the format of its ending, a folder of files, or an object that holds a table."""
    if not isinstance(source, (str, Path)):
        return read_object(source, asked)
    path = Path(source)
    try:
        if path.is_dir():
            return read_folder(path, asked, _read_file)
        if not path.exists():
            beside = sorted(p.name for p in path.parent.glob("*") if p.suffix in FORMATS)
            raise Mistake(f"there is no file {path}" + (f" (there: {', '.join(beside)})" if beside else ""))
        return _read_file(path, asked)
    except OSError as error:
        raise Mistake(f"{error.filename or path} cannot be read: {error.strerror or error}") from None


def _read_file(path: Path, asked: Asked) -> Table:
    if path.suffix.lower() not in FORMATS:
        raise Mistake(f"{path}: " + unknown("file ending", path.suffix, FORMATS))
    if path.stat().st_size == 0:
        raise Mistake(f"{path} is empty")
    return FORMATS[path.suffix.lower()](path, asked)


def _asked(task: Task, labelled: bool) -> Asked:
    """The columns that a task names, so that no other one is looked at."""
    return Asked({*task.text, task.id or "id", *([task.label] if labelled else [])}, task.quotes)


def _bad(task: Task, name: str, first: str, count: int, settings: Sequence[str]) -> Mistake:
    """The first bad row, how many there are, and the ways out."""
    more = f" ({count - 1:,} more like it)" if count > 1 else ""
    return Mistake(f"{name}, {first}{more}; mend the file, or set {' or '.join(settings)} on task '{task.name}'")


def _texts(table: Table, name: str, labelled: bool) -> pa.ChunkedArray:
    """A column of text; raises Mistake if it holds something else, which is how a wrong column's name usually shows.

    Numbers are something else where a task learns, and texts where it predicts.
    """
    cells = table.column(name, "the text")
    held = str(cells.type)
    if is_text(cells.type):
        cells = _converted(table, name, cells)
        if table.typed or not labelled or not _all_numbers(cells):
            return cells
        held = "only numbers"
    elif not labelled and is_value(cells.type):
        return _converted(table, name, cells)
    others = [column for column in table.texts if column not in ("", name)]
    raise Mistake(f"{table.name}: text column '{name}' holds {held}; columns of text: {', '.join(others) or 'none'}")


def _converted(table: Table, name: str, cells: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return as_texts(cells)
    except pa.ArrowException as error:
        raise Mistake(f"{table.name}: column '{name}' of {cells.type} cannot be read as text: {error}") from None


def _all_numbers(cells: pa.ChunkedArray) -> bool:
    """Whether every cell is a number; the first few are tried before all of them."""
    for batch in (cells[:20], cells):
        try:
            batch.cast(pa.float64())
        except pa.ArrowInvalid:
            return False
    return True


def _ids(table: Table, column: str | None, labelled: bool) -> pa.ChunkedArray:
    """The column of ids, by default 'id'; the rows' numbers if there is none."""
    numbers = pa.chunked_array([np.arange(table.columns.num_rows)])
    if column is None and "id" not in table.names:
        return numbers
    cells = table.column(column or "id", "the id")
    if is_value(cells.type) or is_time(cells.type):
        return cells
    if column is None and labelled:
        return numbers  # nobody named the column, and training asks for no ids
    raise Mistake(f"{table.name}: id column '{column or 'id'}' holds {cells.type}, which cannot be written as text")


def _labels(table: Table, task: Task) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Labels (N,), and for each row without a valid label what is wrong with it.

    Each distinct cell is read only once, so that a million rows of five classes cost five reads.
    """
    cells = table.column(task.label, "the label")
    if not is_value(cells.type):
        raise Mistake(f"{table.name}: label column '{task.label}' holds {cells.type}, neither text nor numbers")
    cells = plain(cells).combine_chunks().dictionary_encode()
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    missing = f"column '{task.label}': there is no label"
    values, wrong = [], {}
    for index, cell in enumerate(cells.dictionary.to_pylist()):
        try:
            values.append(task.read_label(cell))
        except Mistake as mistake:
            values.append(np.nan)
            wrong[index] = f"column '{task.label}': {mistake}" if str(cell).strip() else missing

    codes = cells.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    labels = np.append(np.array(values, dtype=np.float64), np.nan)[codes]
    return labels, {int(row): wrong.get(int(codes[row]), missing) for row in np.flatnonzero(np.isnan(labels))}


def _empty(cells: pa.ChunkedArray) -> list[int]:
    """The rows whose text is missing or nothing but white space."""
    empty: list[int] = []
    for start in range(0, len(cells), BLOCK):  # trimming copies
        blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(cells.slice(start, BLOCK).fill_null("")), "")
        empty += [start + int(row) for row in np.flatnonzero(blank.to_numpy())]
    return empty
