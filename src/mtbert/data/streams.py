"""The rows of a file that may be larger than memory, read as often as they are asked for, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mtbert.data.formats.cells import as_texts
from mtbert.data.kinds.base import Task
from mtbert.data.labels import joined
from mtbert.data.tables import NoRows, Rows, asked_by, read_table, rows_of, table_pieces
from mtbert.errors import Mistake

SEED = 20_220_502


class Share(NamedTuple):
    """One of several equal shares of some rows: row r is in share r modulo `of`."""

    number: int  # from 0
    of: int


WHOLE = Share(0, 1)


def share_named(written: str) -> Share:
    """The share that a person writes as `2/8`, the second of eight; raises Mistake where it is none."""
    number, _, of = written.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise Mistake(f"'{written}' is no share of the rows: write I/N with I from 1 to N, such as 1/4")
    return Share(int(number) - 1, int(of))


@dataclass(frozen=True)
class RowStream:
    """N rows of a task, of which one piece is held at a time."""

    rows: int
    pieces: Callable[[], Iterator[Rows]]  # from the first on, each time

    @classmethod
    def of(cls, rows: Rows) -> RowStream:
        """Rows that are held anyway."""
        return cls(len(rows), lambda: iter([rows]))

    def __len__(self) -> int:
        return self.rows

    def mapped(self, change: Callable[[Rows], Rows]) -> RowStream:
        """The same rows, each piece changed as it is read."""
        return RowStream(self.rows, lambda: map(change, self.pieces()))

    def share(self, share: Share) -> RowStream:
        """A share of the rows, in their order; raises Mistake where there are too few for it to have any."""
        if share == WHOLE:
            return self
        if self.rows <= share.number:
            raise Mistake(f"there is no row for share {share.number + 1} of {share.of}: there are {self.rows:,}")

        def pieces() -> Iterator[Rows]:
            start = 0
            for rows in self.pieces():
                chosen = np.arange((share.number - start) % share.of, len(rows), share.of)
                start += len(rows)
                if len(chosen):
                    yield rows.take(chosen)

        return RowStream(len(range(share.number, self.rows, share.of)), pieces)

    def slices(self, size: int) -> Iterator[Rows]:
        """The rows, so many at a time, wherever the pieces end."""
        held: list[Rows] = []
        for piece in self.pieces():
            held.append(piece)
            while sum(map(len, held)) >= size:
                together = _joined(held)
                yield together.slice(0, size)
                held = [together.slice(size, len(together))]
        if any(map(len, held)):
            yield _joined(held)

    def sample(self, most: int) -> Rows:
        """So many of the rows in their order, always the same; all of them where there are no more."""
        if self.rows <= most:
            return self.whole()
        chosen = np.sort(np.random.default_rng(SEED).permutation(self.rows)[:most])
        taken, start = [], 0
        for piece in self.pieces():
            inside = chosen[(chosen >= start) & (chosen < start + len(piece))] - start
            taken.append(piece.take(inside))
            start += len(piece)
        return _joined(taken)

    def whole(self) -> Rows:
        """All of them together."""
        return _joined(list(self.pieces()))


def stream_rows(
    task: Task, source: Any, labelled: bool = True, keep: Sequence[str] = (), *, settled: bool = False
) -> RowStream:
    """The rows that `read_rows` reads, with the columns to `keep`; all of them are looked through before one is used.

    Raises Mistakes as `rows_of`, of the whole file. Read whole are files whose pieces differ in their columns or
    types, as those of JSONL may, and labels from which classes or a range are to be found.
    """
    asked = asked_by(task, labelled, keep)
    kinds: dict[str, pa.DataType] = {}

    def pieces() -> Iterator[Rows]:
        for table in table_pieces(source, asked):
            if not table.columns.num_rows:
                continue
            alike = replace(table, columns=_alike(table.columns, kinds))
            try:
                rows = rows_of(task, alike, labelled, keep=keep, settled=settled)
            except NoRows:  # of this task in this piece
                continue
            yield rows

    try:
        if labelled and not task.complete:
            raise _Whole
        count, first = 0, None
        for number, rows in enumerate(pieces()):
            first = None if number else rows
            count += len(rows)
        if count and first is None:
            return RowStream(count, lambda: _as_counted(pieces(), count, source))
        if first is not None:
            return RowStream.of(first)
    except (Mistake, _Whole):
        pass
    return RowStream.of(rows_of(task, read_table(source, asked), labelled, keep=keep, settled=settled))


def _as_counted(pieces: Iterator[Rows], count: int, source: Any) -> Iterator[Rows]:
    """Pieces of a source that was looked through before; raises Mistake where it has other rows or types by now."""
    changed, seen = Mistake(f"{source} has changed while it was read; start again once nobody writes to it"), 0
    try:
        for rows in pieces:
            seen += len(rows)
            if seen > count:
                raise changed
            yield rows
    except _Whole:
        raise changed from None
    if seen != count:
        raise changed


class _Whole(Exception):
    """A file that only the whole of it can be read from."""


def _alike(columns: pa.Table, kinds: dict[str, pa.DataType]) -> pa.Table:
    """The columns of a piece with the types of the pieces before it, and these are noted; raises _Whole where it has
    others.
    """
    if kinds and kinds.keys() != set(columns.column_names):
        raise _Whole
    for place, (name, kind) in enumerate(zip(columns.column_names, columns.schema.types, strict=True)):
        if pa.types.is_null(kinds.setdefault(name, kind)):
            kinds[name] = kind  # nothing was there so far
        elif pa.types.is_null(kind):
            columns = columns.set_column(place, name, columns.column(place).cast(kinds[name]))
        elif kind != kinds[name]:
            raise _Whole
    return columns


def _joined(parts: Sequence[Rows]) -> Rows:
    first = parts[0]
    if len(parts) == 1:
        return first
    ids = [part.id_cells for part in parts]
    if len({cells.type for cells in ids}) > 1:
        ids = [as_texts(cells) for cells in ids]
    return replace(
        first,
        id_cells=_end_to_end(ids),
        texts=tuple(_end_to_end([part.texts[place] for part in parts]) for place in range(len(first.texts))),
        labels=None if first.labels is None else joined([part.labels for part in parts if part.labels is not None]),
        skipped=[row for part in parts for row in part.skipped],
        places=None if first.places is None else np.concatenate([p.places for p in parts if p.places is not None]),
        words=None if first.words is None else _end_to_end([part.words for part in parts if part.words is not None]),
        kept={name: _end_to_end([part.kept[name] for part in parts]) for name in first.kept},
    )


def _end_to_end(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)
