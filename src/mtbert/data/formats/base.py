"""What a file format gives: the columns that were asked for, and how to name a row of them in a message."""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa

from mtbert.data.lookalikes import told_apart
from mtbert.errors import Mistake, unknown

CHECKED = 1 << 24  # bytes of a file that are checked to be UTF-8 at a time
STRETCH = 1 << 21  # bytes of a file that are read at a time where it is read in pieces
BOM = b"\xef\xbb\xbf"
UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
ANY_LINES = partial(bytes.splitlines, keepends=True)  # that end in any of the three ways
MEND = "mend the file"
GET_AGAIN = "download or write it again"
NOT_TEXT = "save the file as UTF-8 (or name it .parquet if it is one)"

Quotes = Literal["checked", "trusted", "none"]


@dataclass(frozen=True)
class Asked:
    """What is asked of a file: the columns to read (None for all of them), what its quotes mean, and the names of the
    columns of TSV and CSV without a line of names.
    """

    columns: Collection[str] | None = None
    quotes: Quotes = "checked"
    header: tuple[str, ...] = ()

    def among(self, names: Sequence[str]) -> list[str]:
        """The columns to read of those there are; a name that stands twice is nobody's."""
        return [name for name in names if (self.columns is None or name in self.columns) and names.count(name) == 1]


@dataclass(frozen=True)
class Doubt:
    """A row of a file that may not hold what its author wrote, and why."""

    row: int | None  # of the table; None where the row could not be read at all
    place: str  # 'line 17'
    message: str
    sort: Literal["columns", "quotes", "json", "bytes"]
    quoted: bool = False  # whether the file has quotes, which may mean something else
    remedy: str = MEND

    def refusal(self, path: Path) -> Mistake:
        """The mistake to raise where the file cannot be read because of it."""
        return Mistake(f"{path}, {self.place}: {self.message}; {self.remedy}")


@dataclass(frozen=True)
class Table:
    """A table as it was read."""

    name: str
    columns: pa.Table  # those that were asked for and are there
    names: Sequence[str]  # of all columns, in order
    texts: Sequence[str]  # the names of those that hold text
    where: Callable[[Sequence[int]], list[str]]  # row indices -> 'line 17', ...
    typed: bool  # False where every cell was read as text
    doubts: Sequence[Doubt] = field(default=())
    start: int = 0  # how many rows of the source come before these
    # the lines that doubtful cells took in, read once more as rows: to find what is wrong with them, not to be used
    taken_in: Sequence[Table] = field(default=())
    where_word: Callable[[int, int], str] | None = None  # row, its word -> 'line 19', where words have lines

    def place(self, row: int, word: int | None = None) -> str:
        """How a message names a row, or a word of it."""
        return self.where([row])[0] if word is None or self.where_word is None else self.where_word(row, word)

    def column(self, name: str, use: str) -> pa.ChunkedArray:
        """One column by name; raises Mistake listing the columns there are."""
        if name not in self.names:
            there = [column for column in self.names if column]
            hint = told_apart(name, there)
            said = unknown(f"column for {use}:", name, there)
            raise Mistake(f"{self.name}: {said}" + (f"; {hint}" if hint else ""))
        if self.names.count(name) > 1:
            raise Mistake(f"{self.name}: several columns are named '{name}'; rename all but one")
        return self.columns.column(name)


def row_numbers(rows: Sequence[int]) -> list[str]:
    """How rows are named where a table has no lines."""
    return [f"row {row + 1}" for row in rows]


def stretches(stream: BinaryIO, end_of_rows: Callable[[bytes], int]) -> Iterator[bytes]:
    """The rest of a stream in stretches of whole rows, of about STRETCH bytes unless a row is longer.

    `end_of_rows` says where in the bytes read so far, which begin with a row, the last whole row ends; 0 if none does.
    """
    held = b""
    while more := stream.read(max(STRETCH, len(held))):
        if more.endswith(b"\r"):
            more += stream.read(1)  # so that no line end is cut in two
        held += more
        if end := end_of_rows(held):
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def lines_in(content: bytes) -> int:
    """How many line ends bytes hold, whichever of the three sorts they are."""
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


def utf8(path: Path, content: bytes) -> bytes:
    """The bytes of a file with lone surrogates replaced; raises Mistake naming a line that is not in UTF-8."""
    text, doubts = readable(path, content)
    for doubt in doubts.values():
        raise doubt.refusal(path)
    return text


def readable(
    path: Path,
    content: bytes,
    first_line: int = 1,
    lines: Callable[[bytes], Iterable[bytes]] = ANY_LINES,
) -> tuple[bytes, dict[int, Doubt]]:
    """The bytes of a file from a line on, those that are not UTF-8 replaced, and a doubt for each line that holds some.

    Raises Mistake where such a file seems to be binary or UTF-16.
    """
    if first_line == 1:
        content = content.removeprefix(BOM)
    if _is_utf8(content):
        return content, {}
    texts, doubts = [], {}
    for number, line in enumerate(lines(content), start=first_line):
        try:
            texts.append(whole_text(line.decode(errors="surrogatepass")))
        except UnicodeDecodeError as error:
            texts.append(line.decode(errors="replace"))
            doubts[number] = _not_utf8(path, f"line {number}", line, error.start)
    if doubts and b"\0" in content:
        remedy = _saved_anew(path, "UTF-16") if content.startswith(UTF_16) else NOT_TEXT
        raise replace(next(iter(doubts.values())), remedy=remedy).refusal(path)
    return "".join(texts).encode(), doubts


def _not_utf8(path: Path, place: str, line: bytes, where: int) -> Doubt:
    """What is wrong with a line, of which the byte at `where` is the first that is not UTF-8.

    In Windows-1252 a letter with an accent is one byte, and seldom stands beside another; letters of other scripts do.
    """
    message = f"byte 0x{line[where]:02x} is not UTF-8 text"
    alone = max(map(len, re.findall(rb"[\x80-\xff]+", line))) == 1
    try:
        said = line.decode("cp1252") if alone else ""
    except UnicodeDecodeError:
        said = ""
    if not said:
        return Doubt(None, place, message, "bytes", remedy=NOT_TEXT)
    before = re.split(r"\W", said[max(0, where - 20) : where])[-1]
    after = re.split(r"\W", said[where + 1 : where + 21])[0]
    message += f" ({before}{said[where]}{after} in Windows-1252)"
    return Doubt(None, place, message, "bytes", remedy=_saved_anew(path, "WINDOWS-1252"))


def _saved_anew(path: Path, encoding: str) -> str:
    return f"save the file as UTF-8 (iconv -f {encoding} -t UTF-8 {shlex.quote(path.name)} > new)"


def _is_utf8(content: bytes) -> bool:
    """Whether bytes are UTF-8, without a copy of them all."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(content)
    try:
        for start in range(0, len(view), CHECKED):
            decoder.decode(view[start : start + CHECKED])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def whole_text(text: str) -> str:
    """The text with lone surrogates (half-characters) replaced, so that it can be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", errors="replace")
