"""Parquet, Arrow files and streams, folders of them, and tables in memory: typed columns, checked before use.

Arrow trusts what it maps: offsets and codes that point outside their buffers would read other memory, or end the
process. So every column that is read is validated in full, once, before anything else looks at it.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from mtbert.data.formats.base import GET_AGAIN, Asked, Table, row_numbers
from mtbert.data.formats.cells import is_text
from mtbert.data.formats.hub import HubSplit
from mtbert.errors import Mistake

ROWS = 1 << 16  # of a Parquet file that are read at a time where it is read in pieces
MAGIC = b"ARROW1"  # with which an Arrow file begins, and a stream does not

# pyarrow's own errors; OSError and ValueError (as for names that are no UTF-8) are what it raises besides
_REFUSED = (pa.ArrowException, OSError, ValueError)


def read_parquet(path: Path, asked: Asked) -> Table:
    """Read the columns asked for of a Parquet file; raises Mistake where it is damaged."""
    try:
        # a mapped file needs no buffer
        with pa.parquet.ParquetFile(path, memory_map=True, pre_buffer=False, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            columns = file.read(columns=asked.among(schema.names) or None)
            return _checked(str(path), columns, schema, asked)
    except _REFUSED as error:
        raise _damaged(path, "a Parquet", error) from None


def pieces_of_parquet(path: Path, asked: Asked) -> Iterator[Table]:
    """The rows of `read_parquet` in tables of ROWS rows."""
    try:
        with pa.parquet.ParquetFile(path, memory_map=True, pre_buffer=False, page_checksum_verification=True) as file:
            schema, start = file.schema_arrow, 0
            for batch in file.iter_batches(ROWS, columns=asked.among(schema.names) or None):
                yield _checked(str(path), pa.table(batch), schema, asked, start)
                start += batch.num_rows
    except _REFUSED as error:
        raise _damaged(path, "a Parquet", error) from None


def pieces_of_arrow(path: Path, asked: Asked) -> Iterator[Table]:
    """The table of `read_arrow` in one piece, since it is mapped and not held."""
    yield read_arrow(path, asked)


def read_arrow(path: Path, asked: Asked) -> Table:
    """Map the columns asked for of an Arrow file or stream into memory, so that its texts may be larger than memory.

    A stream is what `datasets` writes into its folders. Raises Mistake where the file is damaged.
    """
    try:
        with path.open("rb") as file:
            begin = pa.ipc.open_file if file.read(len(MAGIC)) == MAGIC else pa.ipc.open_stream
        columns = begin(pa.memory_map(str(path))).read_all()
        return _checked(str(path), columns, columns.schema, asked)
    except _REFUSED as error:
        raise _damaged(path, "an Arrow", error) from None


def read_folder(folder: Path, asked: Asked, read: Callable[[Path, Asked], Table]) -> Table:
    """Read a folder of Arrow or Parquet files as one table, in the order of their names or of datasets' state.json."""
    return replace(read_files(files_of(folder), asked, read), name=str(folder))


def read_files(files: Sequence[Path], asked: Asked, read: Callable[[Path, Asked], Table]) -> Table:
    """Read several files as one table, one after the other; raises Mistake where their columns cannot be joined."""
    folder = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    tables = [read(file, asked) for file in files]
    for name in sorted(asked.columns or ()):
        lacking = [file for file, table in zip(files, tables, strict=True) if name not in table.names]
        if 0 < len(lacking) < len(files):
            there = ", ".join(tables[files.index(lacking[0])].names)
            raise Mistake(f"{lacking[0]} has no column '{name}' (there: {there}), which other files of the split have")
    try:
        columns = pa.concat_tables([table.columns for table in tables], promote_options="permissive")
    except _REFUSED as error:
        raise Mistake(f"the files in {folder} differ in their columns: {error}") from None
    starts = [0, *accumulate(table.columns.num_rows for table in tables)]

    def where(rows: Sequence[int]) -> list[str]:
        parts = [bisect_right(starts, row) - 1 for row in rows]
        return [f"row {row - starts[part] + 1} of {files[part].name}" for row, part in zip(rows, parts, strict=True)]

    def where_word(row: int, word: int) -> str:
        part = bisect_right(starts, row) - 1
        if tables[part].where_word is None:
            return where([row])[0]
        return f"{tables[part].place(row - starts[part], word)} of {files[part].name}"

    doubts = [
        replace(
            doubt,
            row=None if doubt.row is None else start + doubt.row,
            place=f"{doubt.place} of {file.name}",
        )
        for file, table, start in zip(files, tables, starts, strict=False)
        for doubt in table.doubts
    ]
    taken_in = [lines for table in tables for lines in table.taken_in]

    names = list(dict.fromkeys(name for table in tables for name in table.names))
    texts = [name for name in names if all(name in table.texts for table in tables if name in table.names)]
    return Table(
        str(folder),
        columns,
        names,
        texts,
        where,
        typed=True,
        doubts=doubts,
        taken_in=taken_in,
        where_word=where_word,
    )


def read_object(source: Any, asked: Asked, name: str = "the table given") -> Table:
    """Read an object that offers the Arrow C stream, or a datasets.Dataset with its rows in their order there."""
    if isinstance(source, HubSplit):
        return read_object(source.load(), asked, str(source))
    try:
        if hasattr(source, "__arrow_c_stream__"):
            columns = pa.table(source)
            return _checked(name, columns, columns.schema, asked)
        if hasattr(source, "with_format") and hasattr(source, "features") and hasattr(source, "__len__"):
            return _dataset(source, name, asked)
    except _REFUSED as error:
        raise Mistake(f"{name} is damaged ({_line(error)})") from None
    raise Mistake(
        f"a table of type {type(source).__name__} does not speak the Arrow C stream; "
        "give a file, a pyarrow, pandas or polars table, or a datasets.Dataset"
    )


def _dataset(source: Any, name: str, asked: Asked) -> Table:
    """A datasets.Dataset, shuffled or filtered as it may be: asked for Arrow, it follows its own indices."""
    schema = source.with_format("arrow")[:0].schema
    columns = source.with_format("arrow", columns=asked.among(schema.names) or schema.names)[:]
    return _checked(name, columns, schema, asked)


def _checked(name: str, columns: pa.Table, schema: pa.Schema, asked: Asked, start: int = 0) -> Table:
    """The columns asked for, validated down to every offset, code and letter; raises ValueError where one is wrong."""
    columns = columns.select([name for name in asked.among(schema.names) if name in columns.column_names] or [])
    columns.validate(full=True)
    texts = [field.name for field in schema if is_text(field.type)]

    def where(rows: Sequence[int]) -> list[str]:
        return row_numbers([start + row for row in rows])

    return Table(name, columns, schema.names, texts, where, typed=True)


def _damaged(path: Path, kind: str, error: Exception) -> Mistake:
    remedy = f"give it the ending of what it holds, or {GET_AGAIN}"
    return Mistake(f"{path} is not {kind} file, or is damaged ({_line(error)}); {remedy}")


def _line(error: Exception) -> str:
    """The first line of an error, cut."""
    return str(error).strip().split("\n")[0][:200]


def files_of(folder: Path) -> list[Path]:
    """The files of Arrow or Parquet that are one table; raises Mistake where there are none."""
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(sorted(str(path) for path in folder.iterdir() if path.is_dir()))
        raise Mistake(f"{folder} holds a set for each split; name one of {splits}")
    state = folder / "state.json"
    if state.exists():  # other files there are caches of datasets'
        try:
            return [folder / part["filename"] for part in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
        except (ValueError, KeyError, TypeError):
            raise Mistake(f"{state} is damaged: it names no data files") from None
    for ending in (".arrow", ".parquet"):
        if files := sorted(path for path in folder.iterdir() if path.suffix == ending):
            return files
    raise Mistake(f"{folder} is a folder, not a file, and holds no .arrow or .parquet files")
