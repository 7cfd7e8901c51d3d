"""What a notebook shows of an object: a table in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A title and a table below it, every text escaped."""
    head = "".join(f"<th style='text-align: left'>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align: left'>{escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<p>{escape(title)}</p><table><tr>{head}</tr>{body}</table>"
