"""TSV and CSV: every cell as text, rows by their line."""

from __future__ import annotations

import csv
import io
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from mtbert.data.formats.base import BOM, Asked, Doubt, Quotes, Table, lines_in, readable, stretches
from mtbert.data.formats.quoting import DoubtfulCell, doubtful_cells, end_of_rows
from mtbert.errors import Mistake

DELIMITERS = ",\t;|"
LINE_END = re.compile(rb"\r\n|\r|\n")
FEW_QUOTES = 10  # left open, at most, in a file whose quotes mean what they do in RFC 4180
HEADER = 1 << 20  # bytes at the beginning of a file in which its header ends
PIECE = 1 << 28  # bytes that Arrow parses at a time; it counts a block's bytes in 32 bits


def read_delimited(path: Path, asked: Asked) -> Table:
    """Read TSV or CSV, every cell as text; rows with the wrong number of cells and doubtful quotes are its doubts."""
    return _table(_opened(path, path.read_bytes(), asked), asked)


def pieces_of_delimited(path: Path, asked: Asked) -> Iterator[Table]:
    """The rows of `read_delimited` in tables of a few megabytes; its columns are those of the first one."""
    with path.open("rb") as stream:
        beginning = stream.read(HEADER)
        file = _opened(path, beginning[: max(beginning.rfind(b"\n"), beginning.rfind(b"\r")) + 1], asked)
        header = _header(file)
        if not header:
            yield read_delimited(path, asked)  # a single line, or one of a megabyte
            return
        line, above = 1, lines_in(header)

        def end_of_whole_rows(held: bytes) -> int:
            return end_of_rows(held, 0, len(held), file.delimiter, asked.quotes != "none" and b'"' in held)

        stream.seek(len(BOM) if beginning.startswith(BOM) else 0)
        for content in stretches(stream, end_of_whole_rows):
            if line == 1:
                yield _table(_opened(path, content, asked), asked)
            else:
                rows, unreadable = readable(path, content, line)
                begun = replace(file, content=header + rows, first_line=line - above, unreadable=unreadable)
                yield _table(begun, asked)
            line += lines_in(content)


def _table(file: _File, asked: Asked) -> Table:
    header = _first_row(file)
    if not header:
        raise Mistake(f"{file.path} is empty")
    pieces, ragged = [], 0
    for start, end in file.pieces():
        columns, left_out = _parsed(file, header, asked.among(header), start, end)
        pieces.append(columns)
        ragged += left_out
    suspicious = list(doubtful_cells(file.content, file.delimiter)) if file.checked else []
    doubts = _doubts(file, header, suspicious) if ragged or suspicious or file.unreadable else ()

    def where(rows: Sequence[int]) -> list[str]:
        lines = [line for line, cells in file.rows() if len(cells) == len(header)][1:]
        return [f"line {lines[row]}" for row in rows]

    taken_in = [_table(lines, asked) for lines in _taken_in(file, suspicious)]
    return Table(
        str(file.path), pa.concat_tables(pieces), header, header, where, typed=False, doubts=doubts, taken_in=taken_in
    )


@dataclass(frozen=True)
class _File:
    """A delimited file: its bytes from the header on, the line on which that stands, and how it is written."""

    path: Path
    content: bytes
    first_line: int
    delimiter: str
    quotes: Quotes
    header_given: bool = False  # by the task, where the file has no line of names
    unreadable: Mapping[int, Doubt] = field(default_factory=dict)  # line -> the doubt, where it is not UTF-8

    @property
    def quoted(self) -> bool:
        """Whether quotes mean something in it."""
        return self.quotes != "none" and b'"' in self.content

    @property
    def checked(self) -> bool:
        """Whether its quotes are to be checked."""
        return self.quotes == "checked" and b'"' in self.content

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The first line and the cells of every row, header included, by the standard library's reader, which has line
        numbers.
        """
        quoting: Any = csv.QUOTE_NONE if self.quotes == "none" else csv.QUOTE_MINIMAL
        with _fields_as_long_as(self.content):
            lines = io.TextIOWrapper(io.BytesIO(self.content), "utf-8", newline="")
            reader = csv.reader(lines, delimiter=self.delimiter, quoting=quoting)
            line = self.first_line - 1
            for cells in reader:
                if cells:
                    yield line + 1, cells
                line = self.first_line - 1 + reader.line_num

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Stretches of whole rows, of PIECE bytes at most unless a row is longer."""
        start, end = 0, min(PIECE, len(self.content))
        while end < len(self.content):
            cut = end_of_rows(self.content, start, end, self.delimiter, self.quoted)
            if cut > start:
                yield start, cut
                start, end = cut, cut + PIECE
            else:
                end += end - start
        if start == 0 or self.content[start:].strip(b"\r\n"):  # Arrow takes blank lines alone for a mistake
            yield start, len(self.content)


def _opened(path: Path, content: bytes, asked: Asked) -> _File:
    """A file of this content, or that begins with it."""
    content, unreadable = readable(path, content)
    first_line, delimiter = 1, ""
    # Excel's way to name the separator; what it writes there is no row
    if named := re.match(rb'"?sep=([ -~\t])"?(?:\r\n|\r|\n)', content, re.IGNORECASE):
        content, first_line, delimiter = content[named.end() :], 2, named[1].decode()
    if not re.search(rb"[\r\n]", content):
        content += b"\n"  # Arrow takes a header without a line end for no header
    delimiter = delimiter or _delimiter(path, content, asked)
    file = _File(path, content, first_line, delimiter, asked.quotes, unreadable=unreadable)
    needed = {*asked.header}.intersection(asked.columns or asked.header)
    if not asked.header or (needed and needed <= {*_first_row(file)}):
        return file  # where a file names its columns all the same, as one to predict may
    names = delimiter.join(asked.header).encode() + b"\n"  # in names that a recipe gives there is no delimiter or quote
    return replace(file, content=names + content, first_line=first_line - 1, header_given=True)


def _first_row(file: _File) -> list[str]:
    return next((cells for _, cells in file.rows()), [])


def _header(file: _File) -> bytes:
    """The first row with its line end, and the blank lines above it; empty where it does not end."""
    for found in LINE_END.finditer(file.content):
        end = found.end()
        if file.content[:end].strip(b"\r\n") and end_of_rows(file.content, 0, end, file.delimiter, file.quoted) == end:
            return file.content[:end]
    return b""


def _delimiter(path: Path, content: bytes, asked: Asked) -> str:
    """The tab for .tsv; otherwise the one by which most of the columns asked for are in the header, or by which there
    are as many as the header has that is given, and of these the one that it has most of outside quotes.
    """
    if path.suffix.lower() == ".tsv":
        return "\t"
    cell = rb'(?<![^,\t;|\r\n])"(?:[^"]|"")*+"(?=[,\t;|\r\n]|\Z)' if asked.quotes != "none" else rb"(?!)"
    found = re.match(rb"[\r\n]*+((?:%b|[^\r\n])*+)" % cell, content)
    header = found[1] if found else b""
    bare = re.sub(cell, b"", header)

    def fits(delimiter: str) -> tuple[int, int]:
        names = _first_row(_File(path, header, 1, delimiter, asked.quotes))
        fitting = len({*names}.intersection(asked.columns or ())) + (0 < len(asked.header) == len(names))
        return fitting, bare.count(delimiter.encode())

    return max(DELIMITERS, key=fits)


def _parsed(file: _File, header: list[str], chosen: Collection[str], start: int, end: int) -> tuple[pa.Table, int]:
    """The chosen columns of a stretch of rows, and how many rows were left out for their number of cells."""
    left_out = 0

    def skip(row: Any) -> str:
        nonlocal left_out
        left_out += 1
        return "skip"

    try:
        columns = pa.csv.read_csv(
            pa.BufferReader(pa.py_buffer(memoryview(file.content)[start:end])),
            read_options=pa.csv.ReadOptions(
                block_size=max(end - start, 1 << 20),  # one block, so that a text longer than a block is no error
                column_names=header if start else None,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=file.delimiter,
                quote_char='"' if file.quoted else False,
                newlines_in_values=file.quoted,
                invalid_row_handler=skip,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=list(chosen),
                strings_can_be_null=False,
            ),
        )
    except OverflowError:
        raise Mistake(f"{file.path} holds a row of more than 2 GiB; is a quote left open?") from None
    except pa.ArrowInvalid as error:
        raise Mistake(f"{file.path} cannot be read as a table separated by {file.delimiter!r}: {error}") from None
    return columns, left_out


def _doubts(file: _File, header: Sequence[str], suspicious: Sequence[DoubtfulCell]) -> list[Doubt]:
    """One for each row that has a suspicious cell, else for one with another number of cells, else for one with bytes
    that are not UTF-8; raises Mistake where the header is such a row.
    """
    width = len(header)
    lines, widths = zip(*((line, len(cells)) for line, cells in file.rows()), strict=True)
    question = " (is a quote left open?)" if file.quoted else ""
    due = f"the header has {width}"
    if file.header_given:
        due = f"`header` names {width} ({', '.join(header)}); other columns need a first line with their names"

    def row_of(line: int) -> int:
        return bisect_right(lines, line) - 1

    by_row: dict[int, Doubt] = {}
    for row, cells in enumerate(widths):
        if cells != width:
            message = f"{cells} columns where {due}{question}"
            by_row[row] = Doubt(None, f"line {lines[row]}", message, "columns", file.quoted)
    for line, cell in reversed(list(zip(_lines_of(file, suspicious), suspicious, strict=True))):
        row = row_of(line)  # the first such cell of a row is said
        by_row[row] = Doubt(None, f"line {lines[row]}", cell.message, "quotes", file.quoted)
    for line, doubt in file.unreadable.items():
        by_row.setdefault(row_of(line), doubt)
    if 0 in by_row:
        raise by_row[0].refusal(file.path)
    place_in_table = list(accumulate(width == cells for cells in widths[1:]))
    return [
        replace(by_row[row], row=place_in_table[row - 1] - 1 if widths[row] == width else None)
        for row in sorted(by_row)
    ]


def _taken_in(file: _File, suspicious: Sequence[DoubtfulCell]) -> Iterator[_File]:
    """For each cell whose quote seems to be left open, the lines below its first one that it took in, as a file of its
    own with the same header. None where there are many such cells: then quotes mean something else in this file.
    """
    left_open = [
        (line, cell) for line, cell in zip(_lines_of(file, suspicious), suspicious, strict=True) if cell.left_open
    ]
    if len(left_open) > FEW_QUOTES:
        return
    header = _header(file)
    for line, cell in left_open:
        start, end = _end_of_line(file.content, cell.start), _end_of_line(file.content, cell.end - 1)
        first, inside = line + 1, file.content[start:end]
        if inside.strip(b"\r\n"):
            unreadable = {at: doubt for at, doubt in file.unreadable.items() if first <= at < first + lines_in(inside)}
            yield replace(file, content=header + inside, first_line=first - lines_in(header), unreadable=unreadable)


def _end_of_line(content: bytes, place: int) -> int:
    found = LINE_END.search(content, place)
    return found.end() if found else len(content)


def _lines_of(file: _File, cells: Sequence[DoubtfulCell]) -> Iterator[int]:
    """The line on which each cell begins."""
    line, counted = file.first_line, 0
    for cell in cells:
        between = counted, cell.start
        line += file.content.count(b"\n", *between) + file.content.count(b"\r", *between)
        line -= file.content.count(b"\r\n", *between)
        counted = cell.start
        yield line


@contextmanager
def _fields_as_long_as(content: bytes) -> Iterator[None]:
    """Raise the standard library's limit on the length of a cell while reading, so that no long text is an error."""
    usual = csv.field_size_limit(len(content) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(usual)
