"""Predictions as files: CSV, TSV, JSONL and Parquet, by the ending of the file's name, written as they are made."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from mtbert.data.formats.cells import as_texts, is_value, plain
from mtbert.errors import Mistake, unknown
from mtbert.runs.output import Output
from mtbert.serving.predictor import Predictions, Together

Part = Predictions | Together
Writer = Callable[[BinaryIO, Iterable[Part]], int]  # writes all parts, and says how many predictions they are


def writer_for(place: Output) -> Writer:
    """What writes a file of this name, and CSV to a stream; raises Mistake naming the endings there are."""
    if place.streams:
        return WRITERS[".csv"]
    ending = place.path.suffix.lower()
    if ending not in WRITERS:
        raise Mistake(f"{place.path}: {unknown('ending of an output file', place.path.suffix, WRITERS)}")
    return WRITERS[ending]


def _write_csv(file: BinaryIO, parts: Iterable[Part], delimiter: str = ",") -> int:
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


def _write_tsv(file: BinaryIO, parts: Iterable[Part]) -> int:
    return _write_csv(file, parts, "\t")


def _write_jsonl(file: BinaryIO, parts: Iterable[Part]) -> int:
    """One object an input, its values as they are."""
    written = 0
    for part in parts:
        columns = part.columns
        for row in zip(*map(_values, columns.values()), strict=True):
            file.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, default=str).encode())
            file.write(b"\n")
        written += len(part.ids)
    return written


def _write_parquet(file: BinaryIO, parts: Iterable[Part]) -> int:
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


WRITERS: Mapping[str, Writer] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def _cells(column: Any) -> Sequence[str]:
    """A column as a table without types holds it."""
    if isinstance(column, np.ndarray):
        return [f"{value:z.6f}" for value in column]
    if isinstance(column, pa.ChunkedArray):
        if is_value(column.type):
            return as_texts(column).fill_null("").to_pylist()  # type: ignore[no-any-return]
        return ["" if value is None else str(value) for value in plain(column).to_pylist()]
    return [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in column]


def _values(column: Any) -> list[Any]:
    return column.to_pylist() if isinstance(column, pa.ChunkedArray) else list(map(_plain, column))


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value
