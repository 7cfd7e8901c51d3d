"""Reads the texts and labels of a task from a file or a table, and says which rows are bad and why."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from mtbert.data.formats.base import MEND, Asked, Table
from mtbert.data.formats.cells import as_texts, is_text, is_time, is_value
from mtbert.data.formats.columnar import files_of, read_files, read_folder, read_object
from mtbert.data.formats.compressed import unpacked
from mtbert.data.formats.table import FORMATS, Format
from mtbert.data.kinds.base import NotFound, ReadLabels, Task
from mtbert.data.kinds.spelling import counted, cut
from mtbert.data.label_cells import as_lists, is_list
from mtbert.data.labels import Labels
from mtbert.errors import Gathering, Mistake, Mistakes, unknown

NOTES = logging.getLogger("mtbert")
BLOCK = 100_000  # texts checked at a time, which bounds the memory of the copies that a check makes
SKIP = "`bad_rows: skip`"
FEW = 0.05  # the share of a file's rows that may be left out without asking whether the recipe is at fault
EVERYTHING = Asked()
KEPT_BACK = frozenset({"-1", "-1.0"})  # stands for the labels of a test set that are kept back, as in GLUE's of the hub
GAPS = "`missing: skip`"
QUOTES = ("`quotes: none` (a quote is a sign like any other)", "`quotes: trusted` (quoted cells are as meant)")
OTHER_QUOTES = "say `--quotes none` (a quote is a sign like any other) or `--quotes trusted` (cells are as meant)"


class NoLabels(Mistakes):
    """A task for which no row has a label, or has a column for it; nothing else is wrong."""


class NoRows(NoLabels):
    """A table without a single row of a task."""


class NoFile(Mistake):
    """A file that is not there."""


@dataclass(frozen=True)
class Rows:
    """What a task reads from a table: N ids, one or two columns of N texts, and N rows of labels where it has any."""

    name: str
    id_cells: pa.ChunkedArray  # as in the table: as text only when asked for, which training never does
    texts: tuple[pa.ChunkedArray, ...]
    labels: Labels | None
    skipped: list[str]  # each bad row that was left out, with its place and what is wrong
    task: Task  # with the classes or the range that its labels have, where the recipe names none
    kept: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)  # other columns that were asked for, as they are
    words: pa.ChunkedArray | None = None  # (N,) lists of the words of each text, where the task reads words
    # (N,) which row of the file each is, and the file, by which tasks that read one find each other
    places: NDArray[np.int64] | None = None
    file: object = None

    def __len__(self) -> int:
        return len(self.id_cells)

    @property
    def ids(self) -> list[str]:
        """The ids as text, empty where a row has none; or the rows' numbers in the file, counted from 0."""
        return as_texts(self.id_cells).fill_null("").to_pylist()  # type: ignore[no-any-return]

    @property
    def given(self) -> list[list[Any]]:
        """Each column as a list of N texts, or of N lists of words."""
        columns = self.texts if self.words is None else (self.words,)
        return [column.to_pylist() for column in columns]

    def slice(self, start: int, end: int) -> Rows:
        """The rows from `start` to before `end`, without a copy."""
        size = end - start
        return replace(
            self,
            id_cells=self.id_cells.slice(start, size),
            texts=tuple(cells.slice(start, size) for cells in self.texts),
            labels=None if self.labels is None else self.labels[start:end],
            places=None if self.places is None else self.places[start:end],
            words=None if self.words is None else self.words.slice(start, size),
            kept={name: cells.slice(start, size) for name, cells in self.kept.items()},
        )

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Some of the rows, in the order in which they are named."""
        taken = pa.array(rows)
        return replace(
            self,
            id_cells=self.id_cells.take(taken),
            texts=tuple(cells.take(taken) for cells in self.texts),
            labels=None if self.labels is None else self.labels[rows],
            places=None if self.places is None else self.places[rows],
            words=None if self.words is None else self.words.take(taken),
            kept={name: cells.take(taken) for name, cells in self.kept.items()},
        )


def read_rows(task: Task, source: Any, labelled: bool = True, found_in: str = "") -> Rows:
    """Read the rows of a task from a file, a folder of files, or any object that offers the Arrow C stream.

    Every labelled row is checked: bad rows raise Mistakes, which name each sort once with file, line, column and value,
    or are left out and listed if the task says `bad_rows: skip`. Unlabelled rows are all kept, even with an empty text,
    and a number among their texts is a text; a row that cannot be read for certain raises Mistake.

    `found_in` names the table from which the task has its classes or range, where the recipe does not say them.
    """
    return rows_of(task, read_table(source, asked_by(task, labelled)), labelled, found_in)


def rows_of(
    task: Task,
    table: Table,
    labelled: bool = True,
    found_in: str = "",
    keep: Sequence[str] = (),
    *,
    settled: bool = False,
) -> Rows:
    """The rows of a task in a table that was read, and the columns to `keep`; raises Mistakes as `read_rows`, and
    NoLabels where there is no label for any row, unless more is wrong.

    Where the recipe is `settled`, as that of a trained model is, no message advises to change it.
    """
    if table.doubts and not (labelled and table.columns.num_rows):
        raise Mistakes(_doubtful(task, table, settled=settled or not labelled))
    if not table.names or (table.columns.num_columns and not table.columns.num_rows):
        raise Mistake(f"{table.name} is empty: it has no rows below its header")
    places = np.arange(table.start, table.start + table.columns.num_rows)
    if task.where and (labelled or {*task.where} & {*table.names}):  # texts to answer need not say whose they are
        table, kept_rows = _selected(table, task.where)
        places = places[kept_rows]

    gathering, texts = Gathering(), {}
    words: pa.ChunkedArray | None = None
    for column in task.text:
        with gathering.going_on():
            if task.reads_words:
                words = _words(table, column)
                texts[column] = pa.compute.binary_join(words, " ").cast(pa.string())
            else:
                texts[column] = _texts(table, column, labelled)
    numbers = np.arange(table.columns.num_rows)
    with gathering.going_on():
        ids = _ids(table, task.id, labelled, places)
        kept = {name: table.column(name, "the columns to keep") for name in keep}
    if not labelled:
        gathering.stop()
        filled = tuple(column.fill_null("") for column in texts.values())
        return Rows(table.name, ids, filled, None, [], task, kept, words, places)

    labels: Labels | None = None
    problems, unlabelled = list[_Problem](), list[int]()
    lacking = not {*task.label_columns} & {*table.names}
    with gathering.going_on():
        read = _read_labels(task, table, words, gathering)
        lacking = len(read.missing) == len(numbers)
        if _kept_back(read, len(numbers)):
            raise NoLabels([f"{table.name}: every label is -1, as where labels are kept back; task '{task.name}'"])
        unlabelled = read.missing if task.missing == "skip" else []
        task, labels, problems = read.task, read.labels, [*_label_problems(read, found_in)]
    problems += [_Problem(dict.fromkeys(_empty(cells), f"column '{name}' is empty")) for name, cells in texts.items()]
    doubts = {doubt.row: doubt.message for doubt in table.doubts if doubt.row is not None}
    if task.bad_rows == "error":
        gathering.messages += _said(task, table, problems, doubts, settled)
        for lines in table.taken_in:
            with gathering.going_on(), suppress(NoRows):
                rows_of(task, lines, labelled, found_in, settled=settled)
    if lacking and len(gathering.messages) == 1:
        raise NoLabels(gathering.messages)
    gathering.stop()

    messages = {row: message for problem in reversed(problems) for row, message in problem.messages.items()} | doubts
    unread = [f"{doubt.place}: {doubt.message}" for doubt in table.doubts if doubt.row is None]
    rows = Rows(table.name, ids, tuple(texts.values()), labels, unread, task, kept, words, places)
    if not messages and not unlabelled:
        return rows
    bad = sorted(messages)
    named = dict(zip(bad, table.where(bad), strict=True))
    if table.where_word is not None:
        words_at = {row: word for problem in problems for row, word in problem.words.items() if row not in doubts}
        named |= {row: table.where_word(row, word) for row, word in words_at.items()}
    described = [f"{named[row]}: {messages[row]}" for row in bad]
    left = np.setdiff1d(numbers, [*bad, *unlabelled])
    if not len(left) and not described:
        raise NoRows([f"{table.name}: no row has a label; task '{task.name}'"])
    if not len(left):
        whose = f"; task '{task.name}'" if unlabelled else ""
        raise Mistake(f"{table.name}: every row is bad, the first at {described[0]}{whose}")
    return replace(rows.take(left), skipped=unread + described)


@dataclass(frozen=True)
class _Problem:
    """Rows that are bad in the same way, each with what is wrong with it, and the ways out."""

    messages: dict[int, str]
    settings: Sequence[str] = ()  # of the task, beside `bad_rows: skip`
    mend: str = MEND
    found: str = ""  # how often each value stands there
    proposal: str = ""  # what the recipe should say, where so many are bad that it is at fault, not the rows
    words: Mapping[int, int] = field(default_factory=dict)  # row -> the word of it that is bad, where that is one

    def said(self, task: Task, name: str, place: str, few: bool = False, settled: bool = False) -> str:
        """The first of the rows, how many there are, and the remedy, which is to skip them only if all are `few`, and
        no key of a recipe that is `settled`.
        """
        count = len(self.messages)
        more = f" ({self.found})" if self.found else f" ({count - 1:,} more like it)"
        settings = [*([SKIP] if few else []), *self.settings]
        remedy = self.mend + (f", or set {' or '.join(settings)} on task '{task.name}'" if settings else "")
        if settled:
            remedy = self.mend + (f", or {OTHER_QUOTES}" if self.settings == QUOTES else "")
        elif self.proposal:
            more, remedy = f" (and in {count - 1:,} more rows)", f"{self.proposal} on task '{task.name}'"
        first = next(iter(self.messages.values()))
        return f"{name}, {place}: {first}{more if count > 1 else ''}; {remedy}"


def _said(
    task: Task, table: Table, problems: Sequence[_Problem], doubts: Mapping[int, str], settled: bool
) -> Iterator[str]:
    """Each sort of bad rows in one message; what a doubtful row holds is not looked at."""
    unread = sum(doubt.row is None for doubt in table.doubts)
    bad, rows = unread + len({*doubts}.union(*(one.messages for one in problems))), unread + table.columns.num_rows
    few = bad <= max(1, FEW * rows)
    yield from _doubtful(task, table, few, settled)
    for problem in problems:
        left = {row: message for row, message in sorted(problem.messages.items()) if row not in doubts}
        if left:
            first = next(iter(left))
            place = table.place(first, problem.words.get(first))
            proposal = problem.proposal if len(left) > max(1, FEW * rows) else ""
            yield replace(problem, messages=left, proposal=proposal).said(task, table.name, place, few, settled)


def _doubtful(task: Task, table: Table, few: bool = False, settled: bool = False) -> Iterator[str]:
    """Each sort of doubtful rows in one message."""
    for sort in dict.fromkeys(doubt.sort for doubt in table.doubts):
        alike = [doubt for doubt in table.doubts if doubt.sort == sort]
        messages, settings = dict(enumerate(doubt.message for doubt in alike)), QUOTES if alike[0].quoted else ()
        problem = _Problem(messages, settings, mend=alike[0].remedy)
        yield problem.said(task, table.name, alike[0].place, few, settled)


def forget(rows: dict[str, dict[str, Rows]]) -> None:
    """Drop all these rows and return their memory to the system; Arrow would hold it for the next table."""
    rows.clear()
    pa.default_memory_pool().release_unused()


def read_table(source: Any, asked: Asked = EVERYTHING) -> Table:
    """Read a file in the format of its ending, a folder of files, or an object that holds a table."""
    several = _several(source)
    if several is not None:
        return read_files(several, asked, _read_file)
    if not isinstance(source, (str, Path)):
        return read_object(source, asked)
    path = Path(source)
    with _there(path):
        return read_folder(path, asked, _read_file) if path.is_dir() else _read_file(path, asked)


def table_pieces(source: Any, asked: Asked = EVERYTHING) -> Iterator[Table]:
    """What `read_table` reads, a piece of whole rows at a time; the pieces may differ in their columns and types."""
    several = _several(source)
    if several is None and not isinstance(source, (str, Path)):
        yield read_object(source, asked)
        return
    start = 0
    for path in several or [Path(source)]:
        with _there(path):
            for file in files_of(path) if path.is_dir() else [path]:
                with unpacked(file) as plain:
                    for table in _format_of(plain).pieces(plain, asked):
                        yield replace(table, name=table.name.replace(str(plain), str(file)), start=start)
                        start += table.columns.num_rows


def _several(source: Any) -> list[Path] | None:
    """The files of a list or of a pattern with *, in order; None for what is one file, folder or table."""
    if isinstance(source, (list, tuple)) and source and all(isinstance(one, (str, Path)) for one in source):
        return [path for one in source for path in _several(one) or [Path(one)]]
    if not isinstance(source, (str, Path)) or "*" not in str(source) or Path(source).exists():
        return None
    pattern = Path(source)
    anchor = next(parent for parent in pattern.parents if "*" not in str(parent))
    found = sorted(anchor.glob(str(pattern.relative_to(anchor))))
    if not found:
        raise NoFile(f"no file fits {source}")
    return found


@contextmanager
def _there(path: Path) -> Iterator[None]:
    """What the system refuses of a file or folder that is read is a Mistake, and so is one that is not there."""
    try:
        if not path.exists():
            beside = sorted(p.name for p in path.parent.glob("*") if p.suffix in FORMATS)
            raise NoFile(f"there is no file {path}" + (f" (there: {', '.join(beside)})" if beside else ""))
        yield
    except OSError as error:
        raise Mistake(f"{error.filename or path} cannot be read: {error.strerror or error}") from None


def _read_file(path: Path, asked: Asked) -> Table:
    with unpacked(path) as plain:
        table = _format_of(plain).whole(plain, asked)
    return table if plain == path else _renamed(table, str(path))


def _renamed(table: Table, name: str) -> Table:
    return replace(table, name=name, taken_in=[_renamed(lines, name) for lines in table.taken_in])


def _format_of(path: Path) -> Format:
    if path.suffix.lower() not in FORMATS:
        raise Mistake(f"{path}: " + unknown("file ending", path.suffix, FORMATS))
    if path.stat().st_size == 0:
        raise Mistake(f"{path} is empty")
    return FORMATS[path.suffix.lower()]


def asked_by(task: Task, labelled: bool = True, keep: Sequence[str] = ()) -> Asked:
    """The columns that a task names, and those to `keep`, so that no other one is looked at."""
    labels = task.label_columns if labelled else ()
    return Asked({*task.text, task.id or "id", *task.where, *labels, *keep}, *task.format)


def _selected(table: Table, where: Mapping[str, str]) -> tuple[Table, NDArray[np.int64]]:
    """The rows of a table that have these values in these columns, and their numbers in it."""
    kept = np.arange(table.columns.num_rows)
    for name, value in where.items():
        cells = table.column(name, "`where`")
        if not is_value(cells.type):
            raise Mistake(f"{table.name}: column '{name}' of `where` holds {cells.type}, neither text nor numbers")
        there = [(cell or "").strip() for cell in as_texts(cells).take(pa.array(kept)).to_pylist()]
        kept = kept[[cell == value for cell in there]]
        if not len(kept):
            held = counted(Counter(there))
            raise NoRows([f"{table.name}: no row has {value} in column '{name}' (it holds {held})"])
    place = {int(row): index for index, row in enumerate(kept)}
    selected = replace(
        table,
        columns=table.columns.take(pa.array(kept)),
        where=lambda rows: table.where([int(kept[row]) for row in rows]),
        doubts=[
            doubt if doubt.row is None else replace(doubt, row=place[doubt.row])
            for doubt in table.doubts
            if doubt.row is None or doubt.row in place
        ],
    )
    return selected, kept


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


def _words(table: Table, name: str) -> pa.ChunkedArray:
    """A column of lists of words; of texts, the words that white space parts or that a list in JSON holds."""
    cells = table.column(name, "the words")
    if not (is_list(cells.type) or is_text(cells.type)):
        raise Mistake(f"{table.name}: column '{name}' holds {cells.type}; words are lists of texts, or texts")
    lists, wrong = as_lists(cells, " ")
    if wrong:
        row, message = next(iter(wrong.items()))
        raise Mistake(f"{table.name}, {table.where([row])[0]}: column '{name}': {message}")
    words = as_texts(pa.chunked_array([lists.flatten()])).fill_null("").combine_chunks()
    lengths = pa.compute.fill_null(pa.compute.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return pa.chunked_array([pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), words)])


def _read_labels(task: Task, table: Table, words: pa.ChunkedArray | None, gathering: Gathering) -> ReadLabels:
    """The labels of a table; where no classes or range can be made of them, that is noted, and the rows are read."""
    lengths = None if words is None else _lengths(words)
    try:
        return task.read(table, lengths)
    except NotFound as mistake:
        if mistake.stand_in is None:
            raise
        gathering.messages.append(str(mistake))
        return mistake.stand_in.read(table, lengths)


def _kept_back(read: ReadLabels, rows: int) -> bool:
    """Whether what stands for the label of each row is what stands for one that is kept back, and nothing else."""
    cells = sum(read.found.values())
    return read.found.keys() <= KEPT_BACK and 0 < rows == len(read.wrong) <= cells


def _lengths(words: pa.ChunkedArray) -> NDArray[np.int64]:
    """How many words each text has: (N,)."""
    lengths: NDArray[np.int64] = pa.compute.list_value_length(words).to_numpy().astype(np.int64)
    return lengths


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


def _ids(table: Table, column: str | None, labelled: bool, places: NDArray[np.int64]) -> pa.ChunkedArray:
    """The column of ids, by default 'id'; the rows' numbers in the file if there is none.

    Rows to answer may lack the column that the recipe names; a note says so.
    """
    numbers = pa.chunked_array([places])
    if (column or "id") not in table.names and (column is None or not labelled):
        if column is not None:
            NOTES.warning("%s has no column '%s' of ids: its rows are named by their number", table.name, column)
        return numbers
    cells = table.column(column or "id", "the id")
    if is_value(cells.type) or is_time(cells.type):
        return cells
    if column is None and labelled:
        return numbers  # nobody named the column, and training asks for no ids
    raise Mistake(f"{table.name}: id column '{column or 'id'}' holds {cells.type}, which cannot be written as text")


def _label_problems(read: ReadLabels, found_in: str) -> Iterator[_Problem]:
    """Each way in which the labels of some rows are wrong, and which rows have none."""
    origin = f" (as found in {found_in})" if found_in else ""
    sorts: dict[str, dict[int, str]] = {}
    for row, message in read.wrong.items():
        sorts.setdefault(_sort_of(message), {})[row] = message + origin
    for messages in sorts.values():
        cells = {cell[1].strip() for message in messages.values() if (cell := _CELL.search(message))}
        found = {cell: count for cell, count in read.found.items() if cut(cell) in cells}
        yield _Problem(messages, found=counted(found), proposal=read.proposal, words=read.words)
    if read.task.missing == "error":
        columns = " and ".join(f"'{name}'" for name in read.task.label_columns[:3])
        yield _Problem(dict.fromkeys(read.missing, f"column {columns}: there is no label"), [GAPS])


# the cell that is wrong, behind the column that it stands in
_CELL = re.compile(r"(?<=: )[^']*'(.*)'", re.DOTALL)


def _sort_of(message: str) -> str:
    """What is wrong with a label, whichever label it is and wherever it stands in its row."""
    return re.sub(r"\d+", "", _CELL.sub("", message))


def _empty(cells: pa.ChunkedArray) -> list[int]:
    """The rows whose text is missing or nothing but white space."""
    empty: list[int] = []
    for start in range(0, len(cells), BLOCK):  # trimming copies
        blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(cells.slice(start, BLOCK).fill_null("")), "")
        empty += [start + int(row) for row in np.flatnonzero(blank.to_numpy())]
    return empty
