"""What stands in the column of a label: one cell a row, or a list of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtbert.data.formats.base import Table
from mtbert.data.formats.cells import is_text, is_value, plain
from mtbert.data.labels import Ragged
from mtbert.errors import Mistake, shown


@dataclass(frozen=True)
class LabelCells:
    """The cells of a label column: each distinct one once, so that a million rows of five classes cost five reads."""

    name: str
    distinct: list[Any]
    codes: NDArray[np.int64]  # (N,) into `distinct`, or of the M entries of all lists; its length where one is null

    @classmethod
    def of(cls, table: Table, name: str) -> LabelCells:
        """One cell a row; raises Mistake where they hold something else than text and numbers."""
        cells = table.column(name, "the label")
        if not is_value(cells.type):
            remedy = (
                "; several labels a row are for `kind: multilabel`, a label for each word for `kind: tokens`"
                if pa.types.is_nested(cells.type)
                else ""
            )
            raise Mistake(f"{table.name}: label column '{name}' holds {cells.type}, neither text nor numbers{remedy}")
        return cls(name, *_encoded(plain(cells)))

    def counted(self, among: Sequence[int] | None = None) -> dict[str, int]:
        """How often each cell stands there as text, of all of them or of some; empty ones are left out."""
        rows: Counter[str] = Counter()
        counts = np.bincount(self.codes, minlength=len(self.distinct) + 1)
        for code in range(len(self.distinct)) if among is None else among:
            text = str(self.distinct[code]).strip()
            if text and counts[code]:
                rows[text] += int(counts[code])
        return rows


@dataclass(frozen=True)
class ListCells:
    """A column of lists: the entries of all rows end to end, and where each row starts."""

    entries: LabelCells
    starts: NDArray[np.int64]  # (N + 1,)
    missing: NDArray[np.bool_]  # (N,) rows without a list
    wrong: dict[int, str]  # row -> why what stands there is no list

    @classmethod
    def of(cls, table: Table, name: str, separator: str) -> ListCells:
        """From lists, or from texts: lists as JSON writes them, or what stands between separators (any white space for
        " "); raises Mistake where the column holds neither.
        """
        cells = table.column(name, "the label")
        if not (is_list(cells.type) or is_text(cells.type) or pa.types.is_null(cells.type)):
            raise Mistake(f"{table.name}: label column '{name}' holds {cells.type}, not lists")
        lists, wrong = as_lists(cells, separator)
        return cls(LabelCells(name, *_encoded(plain(pa.chunked_array([lists.flatten()])))), *_places(lists), wrong)

    def __len__(self) -> int:
        return len(self.missing)

    def rows_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row that each of these entries stands in."""
        return np.searchsorted(self.starts, entries, side="right") - 1


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists of texts or numbers."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(one(kind) for one in lists) and is_value(kind.value_type)


def as_lists(cells: pa.ChunkedArray, separator: str) -> tuple[pa.Array, dict[int, str]]:
    """Lists (N) from a column of lists or of texts; row -> why its text is no list. A missing one stays missing."""
    if is_list(cells.type):
        whole = cells.combine_chunks()
        whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
        return whole.cast(pa.large_list(whole.type.value_type)), {}
    distinct, codes = _encoded(plain(cells))
    parts: list[list[str] | None] = []
    wrong: dict[int, str] = {}
    for code, text in enumerate(distinct):
        try:
            parts.append(_parts(str(text), separator))
        except Mistake as mistake:
            parts.append(None)
            wrong[code] = str(mistake)
    values = pa.array([*parts, None], pa.large_list(pa.string()))
    bad = {int(row): wrong[int(codes[row])] for row in np.flatnonzero(np.isin(codes, list(wrong)))}
    return values.take(pa.array(codes)), bad


def _parts(text: str, separator: str) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            read = json.loads(text)
        except ValueError:
            raise Mistake(f'{shown(text)} begins as a list and is none: write ["a", "b"], or a{separator}b') from None
        if any(not isinstance(one, (str, int, float, bool)) for one in read):
            raise Mistake(f"{shown(text)} holds more than texts and numbers")
        return [one if isinstance(one, str) else json.dumps(one) for one in read]
    if text.lstrip().startswith("{"):
        raise Mistake(f"{shown(text)} is no list")
    parts = text.split() if separator == " " else [part.strip() for part in text.split(separator)]
    return [part for part in parts if part] if re.search(r"\S", text) else []


def _encoded(cells: pa.ChunkedArray) -> tuple[list[Any], NDArray[np.int64]]:
    """The distinct cells, and which of them each row has: their number where it has none."""
    encoded = cells.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    distinct = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
    return distinct, codes.astype(np.int64, copy=False)


def _places(lists: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged.cut(np.empty(0), lengths).starts, pc.is_null(lists).to_numpy(zero_copy_only=False)
