"""What is given to predict, in whatever form: lists of texts, pairs or dicts, and tables of other libraries."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.interchange

from mtbert.data.formats.base import Asked, whole_text
from mtbert.data.kinds.base import Task
from mtbert.data.tables import read_rows, read_table, table_pieces
from mtbert.errors import Mistake, shown

Text = str | Sequence[str] | Mapping[str, Any]  # one text, or a pair, or a row with the task's columns

# how the bytes of a format begin
BEGINNINGS = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"{": ".jsonl"}


def columns_of(task: Task, texts: Any) -> list[list[Any]]:
    """The texts of a task as one or two lists of N, or of N lists of words; raises Mistake for what is no list of its
    texts.
    """
    _check_list(texts)
    if is_table(texts):
        return read_rows(task.model_copy(update={"id": None}), as_arrow(texts), labelled=False).given
    if task.reads_words:
        return [[_words(task, text, number) for number, text in enumerate(texts)]]
    columns: list[list[Any]] = [[] for _ in task.text]
    for number, text in enumerate(texts):
        for column, part in zip(columns, _parts(task, text, number), strict=True):
            column.append(whole_text(str(part)))
    return columns


def texts_by_reader(tasks: Mapping[str, Task], texts: Any) -> list[tuple[list[str], list[list[str]]]]:
    """The tasks that texts are for, those that read the same of them together, and what these read as `columns_of`.

    Tables and dicts are for every task whose columns they have, texts for the tasks that read one, pairs for those that
    read two. Raises Mistake where they are for none.
    """
    _check_list(texts)
    if not is_table(texts):
        texts = list(texts)
        if not texts:
            return []
    readers: dict[object, list[str]] = {}
    for name, task in tasks.items():
        if _can_read(task, texts):
            read = task.text if _names_columns(texts) else len(task.text)
            readers.setdefault((read, task.reads_words), []).append(name)
    if not readers:
        raise Mistake(f"no task reads what is given: {_reading(tasks)}")
    return [(names, columns_of(tasks[names[0]], texts)) for names in readers.values()]


def readers_of(tasks: Mapping[str, Task], source: Any) -> list[str]:
    """The tasks whose text columns a file, a folder or a table has; raises Mistake where there are none."""
    asked = {column for task in tasks.values() for column in task.text}
    names = dict[tuple[str, ...], set[str]]()
    for header in {task.header for task in tasks.values()}:
        first = islice(table_pieces(source, Asked(asked, header=header)), 1)
        names[header] = {name for table in first for name in table.names}
    found = [name for name, task in tasks.items() if set(task.text) <= names[task.header]]
    if not found:
        there = ", ".join(sorted(set[str]().union(*names.values()))) or "none"
        raise Mistake(f"{source} has the columns of no task (there: {there}); {_reading(tasks)}")
    return found


def is_table(given: Any) -> bool:
    """Whether it is a table of pyarrow, pandas, polars or datasets, and not a column of one."""
    if hasattr(given, "__dataframe__") or hasattr(given, "with_format"):
        return True
    return hasattr(given, "__arrow_c_stream__") and (hasattr(given, "schema") or hasattr(given, "columns"))


def as_arrow(given: Any) -> Any:
    """A table that speaks the Arrow C stream; an older pandas table is taken over by the dataframe protocol."""
    if isinstance(given, (str, Path)) or hasattr(given, "__arrow_c_stream__") or not hasattr(given, "__dataframe__"):
        return given
    return pa.interchange.from_dataframe(given)


@contextmanager
def file_of(source: Any) -> Iterator[Any]:
    """The source itself; in the place of `-` a file of what comes on standard input, in the format that it begins as.

    Text that is not JSONL is taken for CSV, whatever separates its cells. Mistakes in it name standard input.
    """
    if source != Path("-") and source != "-":
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        stream: BinaryIO = sys.stdin.buffer
        first = stream.read(1 << 16)
        text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
        ending = next((ending for begin, ending in BEGINNINGS.items() if text.startswith(begin)), ".csv")
        path = Path(folder) / f"standard-input{ending}"
        with path.open("wb") as file:
            while first:
                file.write(first)
                first = stream.read(1 << 20)
        try:
            yield path
        except Mistake as mistake:
            raise Mistake(str(mistake).replace(str(path), "standard input")) from None


def _reading(tasks: Mapping[str, Task]) -> str:
    return "; ".join(f"{name} reads {' and '.join(task.text)}" for name, task in tasks.items())


def _words(task: Task, text: Any, number: int) -> list[str]:
    """The words of a list, or of a text that white space parts."""
    if isinstance(text, Mapping):
        if task.text[0] not in text:
            raise Mistake(f"item {number} has no '{task.text[0]}'; task '{task.name}' reads words there")
        text = text[task.text[0]]
    words = text.split() if isinstance(text, str) else text
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise Mistake(f"task '{task.name}' reads lists of words, or texts; item {number} is {shown(text)}")
    return [whole_text(word) for word in words]


def _check_list(texts: Any) -> None:
    if isinstance(texts, (str, Mapping)):
        raise Mistake(f"give a list of texts, not {'one text' if isinstance(texts, str) else 'one row'}: [...]")


def _names_columns(texts: Any) -> bool:
    return is_table(texts) or isinstance(texts[0], Mapping)


def _can_read(task: Task, texts: Any) -> bool:
    """Whether texts look like those of a task, by their columns or the first of them."""
    if is_table(texts):
        return set(task.text) <= set(read_table(as_arrow(texts), Asked(task.text)).names)
    first = texts[0]
    if isinstance(first, Mapping):
        return set(task.text) <= set(first)
    return len(task.text) == (len(first) if isinstance(first, (list, tuple)) else 1)


def _parts(task: Task, text: Any, number: int) -> tuple[str, ...]:
    if isinstance(text, Mapping):
        absent = [column for column in task.text if column not in text]
        if absent:
            raise Mistake(f"item {number} has no '{absent[0]}'; task '{task.name}' reads {' and '.join(task.text)}")
        text = tuple(text[column] for column in task.text)
    parts = tuple(text) if isinstance(text, (list, tuple)) else (text,)
    if len(parts) != len(task.text) or not all(isinstance(part, str) for part in parts):
        due = "a pair of texts" if len(task.text) == 2 else "one text"
        raise Mistake(f"task '{task.name}' reads {due}; item {number} is {shown(text)}")
    return parts
