"""Quotes in delimited files: nothing is swallowed in silence, and files are cut between rows only."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mtbert.data.formats.quoting import doubtful_cells, end_of_rows
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake
from tests.support.cases import each

SIGNS = ["a", "b ", ",", '"', '""', "\n", "\r\n", "\r", "\t", "é", "\\"]


def task(**settings: Any) -> Task:
    given = {"name": "mood", "text": "text", "label": "label", "classes": 2, **settings}
    return KINDS["classification"](**given)


def written(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def doubts_by_the_book(text: str, delimiter: str) -> list[tuple[int, int]]:
    """A plain machine, sign by sign: where each doubtful quoted cell begins and ends."""
    found, at, begins = [], 0, True
    while at < len(text):
        if not (begins and text[at] == '"'):
            begins = text[at] in f"{delimiter}\r\n"
            at += 1
            continue
        start, at, closed = at, at + 1, False
        while at < len(text) and not closed:
            if text[at : at + 2] == '""':
                at += 2
            else:
                closed = text[at] == '"'
                at += 1
        inside = text[start:at]
        both = delimiter in inside and ("\n" in inside or "\r" in inside)
        early = at < len(text) and text[at] not in f"{delimiter}\r\n"
        if both or early or not closed:
            found.append((start, at))
        begins = False
    return found


@each(delimiter=[",", "\t"], seed=range(150))
def test_doubtful_cells_are_those_that_a_plain_machine_finds(delimiter: str, seed: int) -> None:
    generator = Random(seed)
    text = "".join(generator.choices(SIGNS, k=generator.randrange(40))).replace("é", "e")
    found = [(cell.start, cell.end) for cell in doubtful_cells(text.encode(), delimiter)]
    assert found == doubts_by_the_book(text, delimiter), repr(text)


@each(quoted=[True, False], seed=range(100))
def test_a_file_is_cut_where_the_csv_module_ends_a_row(quoted: bool, seed: int) -> None:
    generator = Random(seed)
    text = "x" + "".join(generator.choices(SIGNS, k=60)).replace("é", "e") + "\n"
    end = generator.randrange(1, len(text))
    cut = end_of_rows(text.encode(), 0, end, ",", quoted)
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE

    def rows(part: str) -> list[list[str]]:
        return [row for row in csv.reader(io.StringIO(part, newline=""), quoting=quoting) if row]

    assert 0 <= cut <= end
    assert rows(text[:cut]) + rows(text[cut:]) == rows(text)


@each(
    case=[
        ("a text led by a quote", 'text\tlabel\n"Never, she said\t0\nwarm\t1\n"Lovely" is no word\t0\ncold\t1\n', "\t"),
        ("the same with commas", 'text,label\n"Never; she said,0\nwarm,1\n"Lovely" is no word,0\ncold,1\n', ","),
        ("swallowed up to a cell that ends in a quote", 'text,label\n"Never,0\nwarm,1\nshe said "no",0\ncold,1\n', ","),
    ]
)
def test_rows_are_not_swallowed_by_a_quote(case: tuple[str, str, str], tmp_path: Path) -> None:
    _, content, delimiter = case
    path = written(tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv"), content)
    for labelled in (True, False):
        with pytest.raises(Mistake, match=r"line 2: the cell that begins with \"Never.* takes in 2 more lines"):
            read_rows(task(), path, labelled)

    plain = read_rows(task(quotes="none"), path)
    lines = [line.rpartition(delimiter) for line in content.splitlines()[1:]]
    assert plain.texts[0].to_pylist() == [text for text, _, _ in lines]
    assert plain.labels is not None
    assert plain.labels.tolist() == [float(label) for _, _, label in lines]


def test_a_doubtful_row_is_a_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'text,label\nwarm,1\n"to, two\nlines",0\n"a" b,1\nmuddle,x\ncold,0\n')
    with pytest.raises(Mistake) as caught:
        read_rows(task(), path)
    assert "line 3: " in str(caught.value)
    assert "(1 more like it)" in str(caught.value)
    for way in ("`quotes: none`", "`quotes: trusted`"):
        assert way in str(caught.value)
    assert "`bad_rows: skip`" not in str(caught.value)  # which would drop three of five

    rows = read_rows(task(bad_rows="skip"), path)
    assert rows.texts[0].to_pylist() == ["warm", "cold"]
    assert [said.split(":")[0] for said in rows.skipped] == ["line 3", "line 5", "line 6"]

    trusted = read_rows(task(bad_rows="skip", quotes="trusted"), path)
    assert trusted.texts[0].to_pylist() == ["warm", "to, two\nlines", "a b", "cold"]


def test_rows_that_fall_apart_are_skipped_with_their_lines(tmp_path: Path) -> None:
    content = 'text,label\n"She said \\"hi\\" to me",1\n"Says \\"new\\", it is not",0\none,2,3\nwarm,1\n'
    path = written(tmp_path / "a.csv", content)
    with pytest.raises(Mistake, match=r"line 2: .*a quote inside quotes is written twice, not after a backslash"):
        read_rows(task(), path)
    rows = read_rows(task(bad_rows="skip"), path)
    assert rows.texts[0].to_pylist() == ["warm"]
    assert sorted(said.split(":")[0] for said in rows.skipped) == ["line 2", "line 3", "line 4"]


def test_a_doubtful_header_is_no_header(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", '"text" x,label\nwarm,1\n')
    with pytest.raises(Mistake, match=r"a\.csv, line 1: the cell that begins with \"text\""):
        read_rows(task(bad_rows="skip"), path)


@each(seed=range(20), quotes=["trusted", "none"])
def test_a_file_read_in_pieces_is_the_file_read_whole(
    seed: int, quotes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Random(seed)
    signs = SIGNS if quotes == "trusted" else [sign for sign in SIGNS if not set(sign) & set(",\r\n")]
    cells = [["x" + "".join(generator.choices(signs, k=generator.randrange(9))) for _ in "ab"] for _ in range(60)]
    buffer = io.StringIO()
    if quotes == "trusted":
        csv.writer(buffer).writerows([["a", "b"], *cells])
    else:
        buffer.write("".join(f"{a},{b}\n" for a, b in [["a", "b"], *cells]))
    monkeypatch.setattr("mtbert.data.formats.delimited.PIECE", generator.choice([1, 7, 64, 500]))
    path = written(tmp_path / "a.csv", buffer.getvalue())
    rows = read_rows(task(text=["a", "b"], quotes=quotes), path, labelled=False)
    assert [column.to_pylist() for column in rows.texts] == [list(column) for column in zip(*cells, strict=True)]


def test_lines_are_right_in_every_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtbert.data.formats.delimited.PIECE", 20)
    content = "text,label\n" + "".join(f'"text\n{i}",{"x" if i % 7 == 3 else 1}\n' for i in range(30))
    rows = read_rows(task(bad_rows="skip"), written(tmp_path / "a.csv", content))
    assert len(rows) == 26
    assert [said.split(":")[0] for said in rows.skipped] == [f"line {2 + 2 * i}" for i in (3, 10, 17, 24)]
