"""JSONL: one object a line, of which only the keys that were asked for are kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from mtbert.data.formats.base import Asked, Doubt, Table, readable, row_numbers, stretches, utf8, whole_text
from mtbert.data.formats.cells import json_column
from mtbert.errors import Mistake


def read_jsonl(path: Path, asked: Asked) -> Table:
    """Read one JSON object per line; blank lines are skipped, absent keys are empty cells, and lines that hold no
    object are its doubts.
    """
    return _table(path, asked, path.read_bytes(), 1)


def pieces_of_jsonl(path: Path, asked: Asked) -> Iterator[Table]:
    """The rows of `read_jsonl` in tables of a few megabytes, each with the columns and types that its rows have."""
    line = 1
    with path.open("rb") as stream:
        for content in stretches(stream, lambda held: held.rfind(b"\n") + 1):
            yield _table(path, asked, content, line)
            line += content.count(b"\n")


def read_json(path: Path, asked: Asked) -> Table:
    """Read an array of JSON objects; rows are named by their number, as an array has no lines of its own."""
    try:
        records = json.loads(utf8(path, path.read_bytes()).decode())
    except ValueError as error:
        raise Mistake(f"{path} cannot be read: not JSON ({error})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise Mistake(f"{path} holds no array of objects: [{{...}}, {{...}}]; one object a line is .jsonl")
    lines = "".join(json.dumps(record) + "\n" for record in records)
    return replace(_table(path, asked, lines.encode(), 1), where=row_numbers)


def pieces_of_json(path: Path, asked: Asked) -> Iterator[Table]:
    """The whole of the array, which has no pieces of whole rows."""
    yield read_json(path, asked)


def _table(path: Path, asked: Asked, content: bytes, first_line: int) -> Table:
    """What stands in these lines of a file; raises Mistake where none of them holds an object."""
    cells: dict[str, list[Any]] = {}
    names: dict[str, None] = {}
    texts: set[str] = set()
    lines: list[int] = []
    content, unreadable = readable(path, content, first_line, io.BytesIO)
    doubts = [*unreadable.values()]
    for number, line in enumerate(io.BytesIO(content), start=first_line):
        if not line.strip() or number in unreadable:
            continue
        try:
            record = _with_nested(_object(line), asked)
        except Mistake as mistake:
            doubts.append(Doubt(None, f"line {number}", str(mistake), "json"))
            continue
        names.update(dict.fromkeys(record))
        texts.update(name for name, cell in record.items() if isinstance(cell, str))
        for name in record if asked.columns is None else asked.columns:
            if name in record and name not in cells:
                cells[name] = [None] * len(lines)
        for name, column in cells.items():
            column.append(record.get(name))
        lines.append(number)

    if doubts and not lines:
        raise doubts[0].refusal(path)
    columns = {whole_text(name): json_column(column) for name, column in cells.items()}
    if not columns and lines:  # none of those asked for is there, but the rows are
        columns = {"": pa.nulls(len(lines))}
    return Table(
        str(path),
        pa.table(columns),
        [*map(whole_text, names)],
        [whole_text(name) for name in names if name in texts],
        lambda rows: [f"line {lines[row]}" for row in rows],
        typed=True,
        doubts=doubts,
    )


def _with_nested(record: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """The record with fields inside its objects that were asked for as `a.b`."""
    for name in asked.columns or ():
        first, *inner = name.split(".")
        if not inner or name in record or not isinstance(record.get(first), dict):
            continue
        found: Any = record[first]
        for part in inner:
            found = found.get(part) if isinstance(found, dict) else None
        record = {**record, name: found}
    return record


def _object(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode().rstrip())
    except json.JSONDecodeError as error:
        raise Mistake(f"not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise Mistake(f"cannot be read ({error})") from None
    if not isinstance(record, dict):
        raise Mistake(f"holds {line.decode().strip()[:40]}, not an object with columns")
    return record
