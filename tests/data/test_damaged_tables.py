"""Damaged tables: one message or the rows, whatever was done to the file; never a traceback, a signal or a hang."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake
from tests.support.mutations import mutated

AT_A_TIME = 250  # files that one process reads
ROWS = 40


def columns() -> dict[str, pa.Array]:
    """One column of each type that is read, and of some that are not."""
    return {
        "text": pa.array([f'text "number" {i}, é\nmore' if i % 4 == 0 else f"text {i}; a|b" for i in range(ROWS)]),
        "large": pa.array([f"large {i}" for i in range(ROWS)], pa.large_string()),
        "view": pa.array([f"a view that is rather long {i}" for i in range(ROWS)], pa.string_view()),
        "dictionary": pa.array([f"k{i % 3}" for i in range(ROWS)]).dictionary_encode(),
        "label": pa.array([i % 2 for i in range(ROWS)]),
        "flag": pa.array([None if i % 5 == 0 else i % 2 == 0 for i in range(ROWS)]),
        "none": pa.nulls(ROWS),
    }


def whole_files() -> dict[str, bytes]:
    """Name with ending -> content, of every format, compressed and not."""
    table = pa.table(columns())
    files = {}
    writers: dict[str, Callable[..., Any]] = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}
    for name, begin in writers.items():
        for compression in (None, "lz4", "zstd"):
            sink = io.BytesIO()
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with begin(sink, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=25)
            files[f"{name}-{compression}.arrow"] = sink.getvalue()
    for compression in ("snappy", "none"):
        for version in ("1.0", "2.0"):
            sink = io.BytesIO()
            pa.parquet.write_table(table, sink, compression=compression, row_group_size=25, data_page_version=version)
            files[f"{compression}-{version}.parquet"] = sink.getvalue()
    records = table.select(["text", "label", "flag"]).to_pylist()
    files["rows.jsonl"] = "".join(json.dumps(record) + "\n" for record in records).encode()
    for ending, delimiter in ((".csv", ","), (".tsv", "\t"), (".txt", ";")):
        lines = io.StringIO()
        writer = csv.DictWriter(lines, ["text", "label", "flag"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
        files[f"rows{ending}"] = lines.getvalue().encode()
    return files


def any_task(name: str, generator: Random) -> Task:
    """A task over columns that the file has."""
    texts = ["text"] if name.startswith("rows") else ["text", "large", "view", "dictionary", "none"]
    return KINDS["classification"](
        name="mood",
        text=generator.choice(texts),
        label=generator.choice(["label", "flag"]),
        classes=2,
        quotes=generator.choice(["checked", "trusted", "none"]),
        bad_rows=generator.choice(["error", "skip"]),
    )


def read_damaged(folder: Path, first: int, last: int) -> None:
    """Read the damaged files of these numbers; prints one before it is read, so that a death can be named."""
    files = whole_files()
    for number in range(first, last):
        generator = Random(number)
        name = generator.choice(sorted(files))
        path = folder / name
        path.write_bytes(mutated(files[name], generator))
        print(number, name, flush=True)
        begun = time.perf_counter()
        try:
            rows = read_rows(any_task(name, generator), path, labelled=generator.random() < 0.6)
            assert all(len(column.to_pylist()) == len(rows.ids) for column in rows.texts)
        except Mistake as mistake:
            if str(path) not in str(mistake):
                raise AssertionError(f"{mistake} does not name the file") from mistake
        assert time.perf_counter() - begun < 5


def none_is_fatal(folder: Path, count: int) -> None:
    """Damaged files are read in processes of their own, which must end well."""
    for first in range(0, count, AT_A_TIME):
        arguments = [str(folder), str(first), str(min(first + AT_A_TIME, count))]
        command = [sys.executable, "-m", "tests.data.test_damaged_tables", *arguments]
        root = Path(__file__).parents[2]
        said = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=root, check=False)
        assert said.returncode == 0, f"{said.stdout.splitlines()[-1:]} ended with {said.returncode}: {said.stderr}"


def test_no_damaged_file_is_fatal(tmp_path: Path) -> None:
    none_is_fatal(tmp_path, AT_A_TIME)


@pytest.mark.long
def test_none_of_many_damaged_files_is_fatal(tmp_path: Path) -> None:
    none_is_fatal(tmp_path, 5_000)


def test_whole_files_are_read_by_the_same_tasks(tmp_path: Path) -> None:
    for name, content in whole_files().items():
        (tmp_path / name).write_bytes(content)
        task = any_task(name, Random(0)).model_copy(update={"text": ("text",), "label": "label", "quotes": "trusted"})
        rows = read_rows(task, tmp_path / name)
        assert rows.texts[0].to_pylist() == columns()["text"].to_pylist(), name


@pytest.mark.parametrize("end", ["offsets", "codes", "letters"])
def test_what_points_outside_its_buffer_is_found_before_it_is_followed(end: str, tmp_path: Path) -> None:
    good, texts = pa.py_buffer(b"goodbad"), pa.array(["good", "bad"])
    offsets = [0, 46_343, 7] if end == "offsets" else [0, 4, 7]
    if end == "letters":
        good = pa.py_buffer(b"goo\xffbad")
    if end == "codes":
        damaged: pa.Array = pa.DictionaryArray.from_arrays(pa.array([0, 77], pa.int32()), texts, safe=False)
    else:
        starts = pa.array(offsets, pa.int32()).buffers()[1]
        damaged = pa.Array.from_buffers(pa.string(), 2, [None, starts, good])
    table = pa.table({"text": damaged, "label": [0, 1]})
    task = KINDS["classification"](name="mood", text="text", label="label", classes=2)
    with pytest.raises(Mistake, match="the table given is damaged"):
        read_rows(task, table)
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(Mistake, match=r"a\.arrow is not an Arrow file, or is damaged"):
        read_rows(task, tmp_path / "a.arrow")


def test_a_file_that_may_not_be_read_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = KINDS["classification"](name="mood", text="text", label="label", classes=2)
    for name, content in whole_files().items():
        (tmp_path / name).write_bytes(content)

    def refuse(path: Path, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    for name in ("rows.csv", "rows.jsonl", "file-None.arrow"):
        with pytest.raises(Mistake, match=f"{name}.* (cannot be read|damaged).*Permission denied"):
            read_rows(task, tmp_path / name)
    with pytest.raises(Mistake, match="cannot be read: File name too long"):
        read_rows(task, tmp_path / f"{'x' * 300}.csv")


if __name__ == "__main__":
    read_damaged(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
