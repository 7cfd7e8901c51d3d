"""Predictions as files: CSV, TSV, JSONL and Parquet, by the ending of the file's name, written as they are made."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mtbert.data.formats.cells import as_texts, is_value, plain
from mtbert.errors import Mistake, unknown
from mtbert.serving.predictor import Predictions

STANDARD_OUTPUT = Path("-")


def write_predictions(path: Path, parts: Iterable[Predictions]) -> int:
    """Write predictions to a file, whole or not at all, or to standard output (`-`) as CSV; how many there are.

    Raises Mistake for an ending that is no format's, before the first part is asked for, and where the disk refuses.
    """
    write = writer_for(path)
    with _opened(path) as file:
        return write(file, parts)


def writer_for(path: Path) -> Callable[[BinaryIO, Iterable[Predictions]], int]:
    """What writes a file of this name; raises Mistake naming the endings there are."""
    if path == STANDARD_OUTPUT or str(path).startswith("/dev/"):
        return WRITERS[".csv"]
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise Mistake(f"{path}: {unknown('ending of an output file', path.suffix, WRITERS)}")
    if path.is_dir():
        raise Mistake(f"{path} is a folder; name a file in it")
    return WRITERS[ending]


def _write_csv(file: BinaryIO, parts: Iterable[Predictions], delimiter: str = ",") -> int:
    """One row an input; scores and probabilities with six digits."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    written = 0
    for part in parts:
        columns = part.columns
        if not written:
            writer.writerow(columns)
        writer.writerows(zip(*map(_cells, columns.values()), strict=True))
        written += len(part.ids)
    text.detach()
    return written


def _write_tsv(file: BinaryIO, parts: Iterable[Predictions]) -> int:
    return _write_csv(file, parts, "\t")


def _write_jsonl(file: BinaryIO, parts: Iterable[Predictions]) -> int:
    """One object an input, its values as they are."""
    written = 0
    for part in parts:
        columns = part.columns
        for row in zip(*map(_values, columns.values()), strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str).encode())
            file.write(b"\n")
        written += len(part.ids)
    return written


def _write_parquet(file: BinaryIO, parts: Iterable[Predictions]) -> int:
    writer, written = None, 0
    try:
        for part in parts:
            table = pa.table(dict(part.columns))
            writer = writer or pa.parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            written += len(part.ids)
    finally:
        if writer is not None:
            writer.close()
    return written


WRITERS: Mapping[str, Callable[[BinaryIO, Iterable[Predictions]], int]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def _cells(column: Any) -> Sequence[str]:
    """A column as a table without types holds it."""
    if isinstance(column, np.ndarray):
        return [f"{value:.6f}" for value in column]
    if isinstance(column, pa.ChunkedArray):
        if is_value(column.type):
            return as_texts(column).fill_null("").to_pylist()  # type: ignore[no-any-return]
        return ["" if value is None else str(value) for value in plain(column).to_pylist()]
    return list(column)


def _values(column: Any) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.ChunkedArray) else list(map(_plain, column))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name once it is whole; standard output and devices are written to as they are."""
    if path == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    path = path.resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    unfinished = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise Mistake(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
