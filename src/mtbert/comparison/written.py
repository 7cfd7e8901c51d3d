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
        "scores.csv": _csv(comparison.scores().lines),
        "costs.csv": _csv(comparison.costs().lines),
        "differences.csv": _csv(comparison.in_full().lines),
        "result.json": json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def as_markdown(comparison: Comparison) -> str:
    """The tables and the sentences below them."""
    tables = [comparison.scores(), comparison.costs(), comparison.in_full()]
    parts = [_markdown(table.lines) for table in tables if table.cells]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in comparison.words())]) + "\n"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, ["---"] * len(head), *rows)
    )


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
