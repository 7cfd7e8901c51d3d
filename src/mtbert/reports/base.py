"""What every report has in common: it can be shown, read by a program, and sometimes drawn.

What is shown fits the width at hand: prose is broken between words, a table that is too wide goes on below itself, and
a name that is too long is cut. A number is never cut.
"""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

NAME, TITLE = 40, 24  # the longest name of a row, and title of a column, that are shown whole
LEAST = 8  # characters of a name that are shown, however narrow the terminal is
GAP = "  "


class Report(ABC):
    """An account of a recipe or a run. `rich.print(report)` shows it to a person."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Everything that it says, as JSON can hold it."""

    @abstractmethod
    def shown(self) -> Iterable[RenderableType]:
        """What a person reads, from top to bottom; texts of the user's own stand in `plain`."""

    def draw(self, folder: Path) -> list[Path]:
        """Write its pictures into a folder and return their paths; a report without pictures writes none."""
        return []

    def __rich_console__(self, *_: object) -> Iterable[RenderableType]:
        return self.shown()


class Prose:
    """Lines in which square brackets are no markup; what does not fit goes on, indented, on the next line."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.text.split("\n"):
            yield Text("\n".join(_wrapped(line, options.max_width)))


class Grid:
    """A table with a name at every row and column; columns that do not fit beside the others stand below them."""

    def __init__(
        self, corner: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]]
    ) -> None:
        self.corner, self.columns, self.rows, self.cells = corner, columns, rows, cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        words = [not any(sign.isdigit() for row in self.cells for sign in row[at]) for at in range(len(self.columns))]
        numbers = [max((len(row[place]) for row in self.cells), default=0) for place in range(len(self.columns))]
        room = options.max_width - len(GAP) - max(numbers, default=0)
        first = min(max(map(len, [self.corner, *self.rows])), NAME, max(LEAST, room))
        titles = [cut(column, max(width, TITLE)) for column, width in zip(self.columns, numbers, strict=True)]
        widths = [max(width, len(title)) for width, title in zip(numbers, titles, strict=True)]
        if first + len(GAP) + max(widths, default=0) > options.max_width:  # a title is cut before a number
            most = max(options.max_width - first - len(GAP), *numbers)
            titles = [cut(title, most) for title in titles]
            widths = [max(width, len(title)) for width, title in zip(numbers, titles, strict=True)]
        for page in _pages(widths, options.max_width - first):
            for name, values in zip([self.corner, *self.rows], [titles, *self.cells], strict=True):
                cells = [f"{values[at]:{'<' if words[at] else '>'}{widths[at]}}" for at in page]
                line = [f"{cut(name, first):<{first}}", *cells]
                yield Text(GAP.join(line).rstrip())


def plain(text: str) -> Prose:
    """Prose in which square brackets are no markup."""
    return Prose(text)


def grid(
    corner: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[Any]], form: str = ""
) -> Grid:
    """A table with a name at every row and column, its cells formatted alike."""
    return Grid(corner, columns, rows, [[format(value, form) for value in values] for values in cells])


def cut(name: str, room: int) -> str:
    """A name, cut with an ellipsis where it is longer than `room` characters."""
    return name if len(name) <= room else f"{name[: room - 1]}…"


def count(number: int, thing: str, things: str = "") -> str:
    """So many things, in the singular where it is one.

    >>> count(1, "row"), count(2_000, "row"), count(2, "class", "classes")
    ('1 row', '2,000 rows', '2 classes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def listed(names: Sequence[str], most: int) -> str:
    """Names in a line, the first `most` of them where there are more.

    >>> listed(["a", "b", "c"], 3), listed(["a", "b", "c"], 1)
    ('a, b, c', 'a and 2 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(59.6), duration(100), duration(7300)
    ('60 s', '1.7 min', '2.0 h')
    """
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _wrapped(line: str, width: int) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [""]


def _pages(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The columns of each part of a table, one at least."""
    page: list[int] = []
    used = 0
    for place, width in enumerate(widths):
        if page and used + len(GAP) + width > room:
            yield page
            page, used = [], 0
        page.append(place)
        used += len(GAP) + width
    if page:
        yield page
