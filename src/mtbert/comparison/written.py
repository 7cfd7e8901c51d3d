"""A comparison as files: Markdown for people, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from mtbert.comparison.result import Comparison
from mtbert.runs.folder import write_whole


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write table.md, table.csv, differences.csv and result.json into the folder of a comparison."""
    head, names, cells = comparison.table()
    scores = [head, *([name, *row] for name, row in zip(names, cells, strict=True))]
    head, names, cells = comparison.differences()
    differences = [head, *([name, *row] for name, row in zip(names, cells, strict=True))]
    files = {
        "table.md": as_markdown(comparison),
        "table.csv": _csv(scores),
        "differences.csv": _csv(differences),
        "result.json": json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def as_markdown(comparison: Comparison) -> str:
    """Both tables and the sentences below them."""
    parts = [
        _markdown(head, names, cells) for head, names, cells in (comparison.table(), comparison.differences()) if cells
    ]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in comparison.words())]) + "\n"


def _markdown(head: Sequence[str], names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *([name, *row] for name, row in zip(names, cells, strict=True))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
