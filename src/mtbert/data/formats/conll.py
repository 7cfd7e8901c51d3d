"""CoNLL files: a word a line with its labels in columns, a blank line between texts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from mtbert.data.formats.base import Asked, Doubt, Table, readable
from mtbert.errors import Mistake

DOCUMENT = "-DOCSTART-"  # stands for a word where a document begins


def read_conll(path: Path, asked: Asked) -> Table:
    """Read texts as lists of words. The first column is `words`, the last `tags`, those between `column_2` and so on.

    White space parts the columns. Lines that begin with `# ` before a text are comments. A text with a line that has
    another number of columns than the first one, or that is not UTF-8, is a doubt. Raises Mistake where the first line
    has fewer than two columns.

    Source: Tjong Kim Sang and De Meulder, 2003, https://doi.org/10.3115/1119176.1119195
    """
    texts: list[list[list[str]]] = []
    lines: list[list[int]] = []  # text -> the line of each word
    begun, width = False, 0
    content, unreadable = readable(path, path.read_bytes())
    doubts: list[Doubt] = []
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(content), "utf-8"), start=1):
        cells = line.split()
        if not cells or cells[0] == DOCUMENT:
            begun = False
            continue
        if not begun and line.startswith("# "):
            continue
        width = width or len(cells)
        if width < 2:
            raise Mistake(f"{path}, line {number}: 1 column, where words and tags in at least 2 are due")
        if not begun:
            texts.append([[] for _ in range(width)])
            lines.append([])
            begun = True
        if len(cells) != width:
            message = f"{len(cells)} columns, where words and tags in {width} are due"
            doubts.append(Doubt(len(texts) - 1, f"line {number}", message, "columns"))
        elif number in unreadable:
            doubts.append(replace(unreadable[number], row=len(texts) - 1))
        lines[-1].append(number)
        for column, cell in zip(texts[-1], cells, strict=False):
            column.append(cell)
    if not texts:
        raise Mistake(f"{path} is empty")
    names = ["words", *(f"column_{place}" for place in range(2, width)), "tags"]
    chosen = asked.among(names)
    columns = {
        name: pa.array([text[place] for text in texts], pa.list_(pa.string()))
        for place, name in enumerate(names)
        if name in chosen
    }
    table = pa.table(columns) if columns else pa.table({"": pa.nulls(len(texts))})
    return Table(
        str(path),
        table,
        names,
        [],
        lambda rows: [f"line {lines[row][0]}" for row in rows],
        typed=True,
        doubts=doubts,
        where_word=lambda row, word: f"line {lines[row][word]}",
    )


def pieces_of_conll(path: Path, asked: Asked) -> Iterator[Table]:
    """The whole of the file: it is small beside what is made of it."""
    yield read_conll(path, asked)
