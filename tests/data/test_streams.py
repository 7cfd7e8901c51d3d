"""Rows that are read a piece at a time are the rows of the whole file, in its order, with the same messages."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mtbert.data.formats import base, columnar
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.streams import RowStream, stream_rows
from mtbert.data.tables import Rows, read_rows, table_pieces
from mtbert.errors import Mistake

SIGNS = ["a", "b", "ü", "😀", " ", '"', "\n", "\r\n", ",", "\t"]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "STRETCH", 300)
    monkeypatch.setattr(columnar, "ROWS", 7)


def task(**settings: Any) -> Task:
    given = {"name": "mood", "text": "text", "label": "label", "classes": ["low", "high"], **settings}
    return KINDS["classification"](**given)


def records(rows: int, seed: int = 1) -> list[dict[str, Any]]:
    """Rows whose texts hold whatever a format may trip over, all with a letter."""
    draw = random.Random(seed)
    texts = ["x" + "".join(draw.choices(SIGNS, k=draw.randrange(0, 40))) for _ in range(rows)]
    return [
        {"id": f"r{n}", "text": text, "label": draw.choice(["low", "high"]), "weight": n / 2}
        for n, text in enumerate(texts)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=11)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, pa.Table.from_pylist(rows).schema) as file:
            file.write_table(pa.Table.from_pylist(rows), max_chunksize=5)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            lines.writeheader()
            lines.writerows(rows)
    return path


def contents(rows: Rows) -> list[tuple[Any, ...]]:
    labels = [None] * len(rows) if rows.labels is None else rows.labels.tolist()
    texts = [column.to_pylist() for column in rows.texts]
    return list(zip(rows.ids, *texts, labels, strict=True))


def same_rows(stream: RowStream, whole: Rows) -> None:
    assert len(stream) == len(whole)
    assert contents(stream.whole()) == contents(whole)
    for size in (1, 5, 16, 1000):
        parts = list(stream.slices(size))
        assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
        assert [row for part in parts for row in contents(part)] == contents(whole)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow"])
def test_a_file_in_pieces_holds_the_rows_of_the_whole(tmp_path: Path, ending: str, labelled: bool) -> None:
    path = written(tmp_path / f"in{ending}", records(60))
    asked = task(quotes="trusted")
    if ending != ".arrow":
        assert sum(1 for _ in table_pieces(path)) > 3
    same_rows(stream_rows(asked, path, labelled), read_rows(asked, path, labelled))
    # an oracle of its own: the rows that were written
    texts = stream_rows(asked, path, labelled).whole().texts[0].to_pylist()
    assert texts == [row["text"] for row in records(60)]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("above", ["", "\ufeff", "sep=;\n", "\ufeffsep=;\n", "\n\n"])
def test_bad_rows_are_named_by_their_lines_in_the_file_whatever_stands_above(
    tmp_path: Path, ends: str, above: str
) -> None:
    lines = ["id;text;label", *(f"r{n};text {n};{'low' if n % 2 else 'high'}" for n in range(80))]
    lines[70] = "r69;text 69;mid"
    path = tmp_path / "in.csv"
    path.write_text(above.replace("\n", ends) + ends.join(lines) + ends, encoding="utf-8", newline="")
    with pytest.raises(Mistake) as whole:
        read_rows(task(), path)
    with pytest.raises(Mistake) as pieces:
        stream_rows(task(), path)
    assert str(pieces.value) == str(whole.value)
    assert f"line {71 + above.count(chr(10))}:" in str(pieces.value)
    skipping = task(bad_rows="skip")
    stream, rows = stream_rows(skipping, path), read_rows(skipping, path)
    same_rows(stream, rows)
    assert stream.whole().skipped == rows.skipped
    assert len(rows) == 79


def test_rows_without_ids_are_numbered_through(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("text", "label")} for row in records(50)]
    for ending in (".jsonl", ".csv", ".parquet"):
        path = written(tmp_path / f"in{ending}", rows)
        assert stream_rows(task(quotes="trusted"), path, labelled=False).whole().ids == [str(n) for n in range(50)]


def test_rows_of_one_task_among_several_are_found_in_every_piece(tmp_path: Path) -> None:
    rows = [row | {"of": "mood" if 20 <= n < 40 else "other"} for n, row in enumerate(records(60))]
    path = written(tmp_path / "in.jsonl", rows)
    chosen = task(where={"of": "mood"})
    same_rows(stream_rows(chosen, path), read_rows(chosen, path))
    assert stream_rows(chosen, path, labelled=False).whole().ids == [f"r{n}" for n in range(20, 40)]
    with pytest.raises(Mistake, match="no row has none in column 'of'"):
        stream_rows(task(where={"of": "none"}), path)


def test_columns_to_keep_come_with_their_types_and_in_order(tmp_path: Path) -> None:
    for ending in (".jsonl", ".parquet"):
        path = written(tmp_path / f"in{ending}", records(60))
        parts = list(stream_rows(task(), path, labelled=False, keep=["weight"]).slices(16))
        kept = [part.kept["weight"] for part in parts]
        assert [value for column in kept for value in column.to_pylist()] == [n / 2 for n in range(60)]
        assert {column.type for column in kept} == {pa.float64()}


@pytest.mark.parametrize("late", ["a word", 0.5, [1, 2], True])
def test_jsonl_whose_types_change_on_the_way_is_read_as_its_whole(tmp_path: Path, late: Any) -> None:
    rows = [row | {"weight": late if n > 40 else 1} for n, row in enumerate(records(60))]
    path = written(tmp_path / "in.jsonl", rows)
    kept = [part.kept["weight"] for part in stream_rows(task(), path, labelled=False, keep=["weight"]).slices(16)]
    assert len({column.type for column in kept}) == 1
    assert sum(map(len, kept)) == 60


def test_nothing_but_missing_cells_for_a_while_changes_no_type(tmp_path: Path) -> None:
    rows = [row | {"weight": None if n < 20 or n > 40 else n / 2} for n, row in enumerate(records(60))]
    path = written(tmp_path / "in.jsonl", rows)
    parts = list(stream_rows(task(), path, labelled=False, keep=["weight"]).slices(16))
    assert {part.kept["weight"].type for part in parts} == {pa.float64()}
    assert [value for part in parts for value in part.kept["weight"].to_pylist()] == [row["weight"] for row in rows]


def test_a_sample_is_of_the_rows_and_the_same_however_they_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "in.jsonl", records(60))
    sample = stream_rows(task(), path).sample(20)
    assert len(sample) == 20
    assert sample.ids == sorted(sample.ids, key=lambda name: int(name[1:]))
    assert contents(RowStream.of(read_rows(task(), path)).sample(20)) == contents(sample)


def test_letters_that_are_no_utf8_are_named_by_their_line_in_any_piece(tmp_path: Path) -> None:
    for ending, row in ((".csv", b"r,some text,low\n"), (".jsonl", b'{"text": "some text", "label": "low"}\n')):
        path = tmp_path / f"in{ending}"
        head = b"id,text,label\n" if ending == ".csv" else b""
        path.write_bytes(head + row * 50 + row.replace(b"some", b"s\xffme") + row * 9)
        with pytest.raises(Mistake, match=rf"line {51 + (ending == '.csv')}: byte 0xff is not UTF-8"):
            stream_rows(task(), path)


def test_no_more_is_held_than_a_few_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "STRETCH", 1 << 16)
    monkeypatch.setattr(columnar, "ROWS", 1 << 11)
    rows = [{"text": f"a text with some words {n}", "label": "low"} for n in range(60_000)]
    for ending in (".csv", ".jsonl", ".parquet"):
        path = written(tmp_path / f"in{ending}", rows)
        before = pa.total_allocated_bytes()
        held = [pa.total_allocated_bytes() - before for _ in stream_rows(task(), path).slices(1000)]
        assert len(held) == 60
        assert np.max(held) < 1 << 20  # of about 2 MB of texts


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("later", [25, 39, 41, 80])
def test_a_file_that_changes_while_it_is_read_is_a_mistake(tmp_path: Path, ending: str, later: int) -> None:
    path = written(tmp_path / f"rows{ending}", records(40))
    stream = stream_rows(task(quotes="trusted"), path)
    assert len(stream.whole()) == 40
    written(path, records(later))
    with pytest.raises(Mistake, match="has changed while it was read"):
        stream.whole()


def test_a_file_whose_types_change_while_it_is_read_is_a_mistake(tmp_path: Path) -> None:
    rows = records(40)
    path = written(tmp_path / "rows.jsonl", rows)
    stream = stream_rows(task(), path, keep=["weight"])
    written(path, [row | {"weight": "heavy"} for row in rows])
    with pytest.raises(Mistake, match="has changed while it was read"):
        stream.whole()
