"""Reads the texts and labels of a task from TSV, CSV, JSONL, Parquet or Arrow, and says which rows are bad and why."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from mtbert.data.tasks import Task
from mtbert.errors import Mistake, unknown
from mtbert.registry import Registry

BLOCK = 100_000  # texts checked at a time, which bounds the memory of the copies that a check makes


@dataclass(frozen=True)
class Table:
    """A table as it was read, and how to name a row of it in a message: by its line or its number."""

    name: str
    columns: pa.Table
    where: Callable[[Sequence[int]], list[str]]  # row indices -> 'line 17', ...
    typed: bool  # False where every cell was read as text

    def column(self, name: str, use: str) -> pa.ChunkedArray:
        """One column by name; raises Mistake listing the columns there are."""
        if name not in self.columns.column_names:
            there = [column for column in self.columns.column_names if column]
            raise Mistake(f"{self.name}: {unknown(f'column for {use}:', name, there)}")
        if self.columns.column_names.count(name) > 1:
            raise Mistake(f"{self.name}: several columns are named '{name}'; rename all but one")
        return self.columns.column(self.columns.column_names.index(name))


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
        """The ids as text; the rows' numbers, counted from 0, if the table has no ids."""
        return [str(value) for value in self.id_cells.to_pylist()]


def read_rows(task: Task, source: Any, labelled: bool = True) -> Rows:
    """Read the rows of a task from a file, or from any object that offers the Arrow C stream.

    Every labelled row is checked: a bad row raises Mistake naming file, line, column and value, or is left out and
    listed if the task says `bad_rows: skip`. Unlabelled rows are all kept, even with an empty text.
    """
    table = read_table(source)
    if table.columns.num_rows == 0:
        raise Mistake(f"{table.name} is empty: it has no rows below its header")

    texts = tuple(_texts(table, column, check_numbers=labelled) for column in task.text)
    ids = _ids(table, task.id)
    if not labelled:
        return Rows(table.name, ids, tuple(column.fill_null("") for column in texts), None, [])

    labels, problems = _labels(table, task)
    for column, cells in zip(task.text, texts, strict=True):
        for row in _empty(cells):
            problems.setdefault(row, f"column '{column}' is empty")
    if not problems:
        return Rows(table.name, ids, texts, labels, [])

    bad = sorted(problems)
    described = [f"{place}: {problems[row]}" for place, row in zip(table.where(bad), bad, strict=True)]
    if task.bad_rows == "error":
        more = f" ({len(bad) - 1:,} more like it)" if len(bad) > 1 else ""
        raise Mistake(
            f"{table.name}, {described[0]}{more}; mend the file, or set `bad_rows: skip` on task '{task.name}'"
        )
    if len(bad) == len(ids):
        raise Mistake(f"{table.name}: every row is bad, the first at {described[0]}")

    good = np.setdiff1d(np.arange(len(ids)), bad)
    kept = pa.array(good)
    return Rows(table.name, ids.take(kept), tuple(cells.take(kept) for cells in texts), labels[good], described)


def forget(rows: dict[str, dict[str, Rows]]) -> None:
    """Drop all these rows and return their memory to the system; Arrow would hold it for the next table."""
    rows.clear()
    pa.default_memory_pool().release_unused()


def read_table(source: Any) -> Table:
    """Read a file in the format of its ending, or an object that has `__arrow_c_stream__`."""
    if not isinstance(source, (str, Path)):
        if not hasattr(source, "__arrow_c_stream__"):
            raise Mistake(
                f"a table of type {type(source).__name__} does not speak the Arrow C stream; "
                "give a file, a pyarrow, pandas or polars table, or a datasets.Dataset"
            )
        return Table("the table given", _strings(pa.table(source)), _row_numbers, typed=True)

    path = Path(source)
    if path.is_dir():
        raise Mistake(f"{path} is a folder, not a file")
    if not path.exists():
        beside = sorted(p.name for p in path.parent.glob("*") if p.suffix in FORMATS) if path.parent.is_dir() else []
        raise Mistake(f"there is no file {path}" + (f" (there: {', '.join(beside)})" if beside else ""))
    if path.suffix.lower() not in FORMATS:
        raise Mistake(f"{path}: " + unknown("file ending", path.suffix, FORMATS))
    if path.stat().st_size == 0:
        raise Mistake(f"{path} is empty")
    return FORMATS[path.suffix.lower()](path)


def _delimited(path: Path) -> Table:
    """Read TSV or CSV, every cell as text; a row with the wrong number of cells raises Mistake naming its line."""
    content = _utf8(path)
    if not re.search(rb"[\r\n]", content):
        content += b"\n"  # Arrow takes a header without a line end for no header
    delimiter = _delimiter(content, path)
    _, header = next(_csv_rows(content, delimiter), (0, []))
    if not header:
        raise Mistake(f"{path} is empty")
    ragged: list[str] = []

    def skip(row: Any) -> str:
        ragged.append(f"{row.actual_columns} columns where the header has {row.expected_columns}")
        return "skip"

    try:
        columns = pa.csv.read_csv(
            pa.BufferReader(content),
            # one block, so that a text longer than a block is no error
            read_options=pa.csv.ReadOptions(block_size=max(len(content), 1 << 20)),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise Mistake(f"{path} cannot be read as a table separated by {delimiter!r}: {error}") from None
    if ragged:
        line = next((line for line, cells in _csv_rows(content, delimiter) if len(cells) != len(header)), 1)
        raise Mistake(f"{path}, line {line}: {ragged[0]} ({len(ragged)} such rows in all); is a quote left open?")

    def where(rows: Sequence[int]) -> list[str]:
        lines = [line for line, _ in _csv_rows(content, delimiter)][1:]
        return [f"line {lines[row]}" for row in rows]

    return Table(str(path), columns, where, typed=False)


def _utf8(path: Path) -> bytes:
    """The bytes of a UTF-8 file with lone surrogates replaced; raises Mistake naming the line that is not UTF-8."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        try:
            return whole_text(content.decode(errors="surrogatepass")).encode()
        except UnicodeDecodeError:
            line = content.count(b"\n", 0, error.start) + 1
            raise Mistake(
                f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8 text; "
                "save the file as UTF-8 (or name it .parquet if it is one)"
            ) from None
    return content


def _delimiter(content: bytes, path: Path) -> str:
    """The tab for .tsv; otherwise whichever of `,`, tab, `;` and `|` the header has most of."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = re.match(rb"[\r\n]*([^\r\n]*)", content)
    header = first[1].decode() if first else ""
    return max(",\t;|", key=header.count)


def _csv_rows(content: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first line and the cells of every row, header included, by the standard library's reader, which has line
    numbers.
    """
    with _fields_as_long_as(content):
        reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""), delimiter=delimiter)
        line = 0
        for cells in reader:
            if cells:
                yield line + 1, cells
            line = reader.line_num


@contextmanager
def _fields_as_long_as(content: bytes) -> Iterator[None]:
    """Raise the standard library's limit on the length of a cell while reading, so that no long text is an error."""
    usual = csv.field_size_limit(len(content) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _jsonl(path: Path) -> Table:
    """Read one JSON object per line; blank lines are skipped and absent keys are empty cells."""
    records, lines = [], []
    for number, line in enumerate(_utf8(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
        except json.JSONDecodeError as error:
            raise Mistake(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
        except (ValueError, RecursionError) as error:
            raise Mistake(f"{path}, line {number}: cannot be read ({error})") from None
        if not isinstance(record, dict):
            raise Mistake(f"{path}, line {number}: holds {line.decode()[:40]}, not an object with columns")
        records.append(record)
        lines.append(number)

    names = dict.fromkeys(name for record in records for name in record)
    columns = {whole_text(name): _json_column([record.get(name) for record in records]) for name in names}
    return Table(str(path), pa.table(columns), lambda rows: [f"line {lines[row]}" for row in rows], typed=True)


def _json_column(cells: list[Any]) -> pa.Array:
    """A column of JSON values: as text if any of them is a string or if they have no common type."""
    if any(isinstance(cell, str) for cell in cells):
        return pa.array([None if cell is None else whole_text(_json_text(cell)) for cell in cells], pa.string())
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.array([None if cell is None else _json_text(cell) for cell in cells], pa.string())


def _json_text(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def whole_text(text: str) -> str:
    """The text with lone surrogates (half-characters) replaced, so that it can be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", errors="replace")


def _parquet(path: Path) -> Table:
    try:
        columns = pa.parquet.read_table(path, memory_map=True, pre_buffer=False)  # a mapped file needs no buffer
    except (pa.ArrowInvalid, OSError) as error:
        raise Mistake(f"{path} is not a Parquet file ({error})") from None
    return Table(str(path), _strings(columns), _row_numbers, typed=True)


def _arrow(path: Path) -> Table:
    """Map an Arrow file into memory, so that its texts may be larger than memory."""
    try:
        columns = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Mistake(f"{path} is not an Arrow file ({error})") from None
    return Table(str(path), _strings(columns), _row_numbers, typed=True)


def _strings(columns: pa.Table) -> pa.Table:
    """Cast Arrow's other types for text (large, view, dictionary) to string."""
    for index, field in enumerate(columns.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or (kind != field.type):
            columns = columns.set_column(index, field.name, columns.column(index).cast(pa.string()))
    return columns


def _row_numbers(rows: Sequence[int]) -> list[str]:
    return [f"row {row + 1}" for row in rows]


def _texts(table: Table, name: str, check_numbers: bool) -> pa.ChunkedArray:
    """A column of text; raises Mistake if it holds numbers, which is how a wrong column's name usually shows."""
    cells = table.column(name, "the text")
    numbers = cells.type != pa.string() if table.typed else check_numbers and _all_numbers(cells)
    if numbers:
        held = str(cells.type) if table.typed else "only numbers"
        texts = [
            field.name for field in table.columns.schema if field.type == pa.string() and field.name not in ("", name)
        ]
        raise Mistake(f"{table.name}: text column '{name}' holds {held}; columns of text: {', '.join(texts) or 'none'}")
    return cells


def _all_numbers(cells: pa.ChunkedArray) -> bool:
    """Whether every cell is a number; the first few are tried before all of them."""
    for batch in (cells[:20], cells):
        try:
            batch.cast(pa.float64())
        except pa.ArrowInvalid:
            return False
    return True


def _ids(table: Table, column: str | None) -> pa.ChunkedArray:
    """The column of ids, by default 'id'; the rows' numbers if there is none."""
    if column is None and "id" not in table.columns.column_names:
        return pa.chunked_array([np.arange(table.columns.num_rows)])
    return table.column(column or "id", "the id")


def _labels(table: Table, task: Task) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Labels (N,), and for each row without a valid label what is wrong with it.

    Each distinct cell is read only once, so that a million rows of five classes cost five reads.
    """
    cells = table.column(task.label, "the label")
    if pa.types.is_nested(cells.type):
        cells = pa.chunked_array([_json_column([*map(_shown, cells.to_pylist())])])
    cells = cells.combine_chunks().dictionary_encode()
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


def _shown(cell: Any) -> str | None:
    """A nested cell as JSON, to be named in a message."""
    return None if cell is None else json.dumps(cell, default=str)


def _empty(cells: pa.ChunkedArray) -> list[int]:
    """The rows whose text is missing or nothing but white space."""
    empty: list[int] = []
    for start in range(0, len(cells), BLOCK):  # trimming copies
        blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(cells.slice(start, BLOCK).fill_null("")), "")
        empty += [start + int(row) for row in np.flatnonzero(blank.to_numpy())]
    return empty


FORMATS: Registry[Table] = Registry(
    "file ending",
    {
        ".tsv": _delimited,
        ".csv": _delimited,
        ".txt": _delimited,
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".parquet": _parquet,
        ".arrow": _arrow,
    },
)
