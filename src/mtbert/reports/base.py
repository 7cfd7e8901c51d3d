"""What every report has in common: it can be shown, read by a program, and sometimes drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


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


def plain(text: str) -> Text:
    """A line in which square brackets are no markup."""
    return Text(text)


def grid(
    corner: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[Any]], form: str = ""
) -> Table:
    """A table with a name at every row and column, its cells formatted alike."""
    table = Table(box=None, pad_edge=False)
    table.add_column(corner)
    for column in columns:
        table.add_column(column, justify="right")
    for row, values in zip(rows, cells, strict=True):
        table.add_row(row, *(format(value, form) for value in values))
    return table
