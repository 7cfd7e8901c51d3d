"""A comparison as files: Markdown for people, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from mtbert.comparison.result import Comparison
from mtbert.runs.writing import write_whole


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write table.md, scores.csv, costs.csv, differences.csv and result.json into the folder of a comparison."""
    files = {
        "table.md": as_markdown(comparison),
        "scores.csv": csv_text(comparison.scores().lines),
        "costs.csv": csv_text(comparison.costs().lines),
        "differences.csv": csv_text(comparison.in_full().lines),
        "result.json": json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def as_markdown(comparison: Comparison) -> str:
    """The tables and the sentences below them."""
    tables = [comparison.scores(), comparison.costs(), comparison.in_full()]
    parts = [markdown(table.lines) for table in tables if table.cells]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in comparison.words())]) + "\n"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Head and rows as a table of Markdown."""
    head, *rows = lines
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, ["---"] * len(head), *rows)
    )


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """Head and rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
