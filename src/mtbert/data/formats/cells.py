"""Cells of Arrow's many types as texts and labels, and which types are neither."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mtbert.data.formats.base import whole_text

EXACT = 2.0**53  # up to here every whole number has a float of its own


def plain(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dictionaries as what they stand for, and every type of text as string; other cells as they are."""
    if pa.types.is_dictionary(cells.type):
        kind = cells.type.value_type
        chunks = [_plain(chunk.dictionary).take(chunk.indices) for chunk in cells.chunks]
        return pa.chunked_array(chunks, pa.string() if is_text(kind) else kind)
    return cells.cast(pa.string()) if is_text(cells.type) else cells


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.string()) if is_text(values.type) else values


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, directly or as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_value(kind: pa.DataType) -> bool:
    """Whether its cells can be written as text without loss: text, numbers, true and false, or nothing at all."""
    if pa.types.is_dictionary(kind):
        return is_value(kind.value_type)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return is_text(kind) or any(one(kind) for one in kinds)


def is_time(kind: pa.DataType) -> bool:
    """Whether it holds days or times of day, which may name a row but are neither text nor label."""
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind))


def as_texts(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each cell written as text; a whole number has no point, whether it was stored as a float or not.

    >>> as_texts(pa.chunked_array([[1.0, None, 2.5]])).to_pylist()
    ['1', None, '2.5']
    """
    cells = plain(cells)
    if pa.types.is_floating(cells.type):
        wide = cells.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.trunc(wide), wide), pc.less(pc.abs(wide), EXACT))
        integers = pc.if_else(whole, wide, pa.scalar(None, pa.float64())).cast(pa.int64())
        return pc.coalesce(integers.cast(pa.string()), cells.cast(pa.string()))
    return cells.cast(pa.string())


def json_column(cells: list[Any]) -> pa.Array:
    """A column of JSON values: as text if any of them is a string or if they have no common type."""
    if not any(isinstance(cell, str) for cell in cells):
        try:
            return pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            pass  # numbers too large, half-characters in a list, a list beside a number
    return pa.array([None if cell is None else whole_text(_json_text(cell)) for cell in cells], pa.string())


def _json_text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < EXACT:
        return str(int(cell))
    return json.dumps(cell)
