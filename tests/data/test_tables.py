"""Files and tables become rows, and every bad row is named."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.streams import stream_rows
from mtbert.data.tables import NoLabels, Rows, forget, read_rows
from mtbert.errors import Mistake, Mistakes

COURSE = Path(__file__).parents[3] / "shared" / "data"

# what tears naive readers: separators, quotes, line ends inside a text, other scripts, signs beyond 16 bits
TEXTS = [
    "plain",
    'she said "go", then left',
    "two\nlines",
    "windows\r\nline",
    "tab\there; semicolon | bar",
    "  blanks around  ",
    "🙂 emoji 👩‍👩‍👧‍👦",
    "שלום عالم",  # right to left
    "naïve Zoë — 東京",
    "007",
    "NA",
    "null",
    "a\0b",
]


def classify(**settings: Any) -> Task:
    given = {"name": "mood", "text": "text", "label": "label", "classes": ["low", "high"], **settings}
    return KINDS["classification"](**given)


def score(**settings: Any) -> Task:
    return KINDS["regression"](**{"name": "near", "text": "text", "label": "label", "range": [0, 5], **settings})


def texts_of(rows: Rows) -> list[list[str]]:
    return [column.to_pylist() for column in rows.texts]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- writers: an independent one for every file ending


def delimited(delimiter: str) -> Callable[[Path, list[dict[str, Any]]], None]:
    def write(path: Path, records: list[dict[str, Any]]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)

    return write


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(records), path)


def write_arrow(path: Path, records: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


WRITERS = {
    ".tsv": delimited("\t"),
    ".csv": delimited(","),
    ".txt": delimited(";"),
    ".jsonl": write_jsonl,
    ".ndjson": write_jsonl,
    ".parquet": write_parquet,
    ".arrow": write_arrow,
}


class Streamed:
    """Not pyarrow's: speaks the Arrow C stream and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def records() -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "text": text, "other": f"{text} again", "label": ["low", "high"][i % 2]}
        for i, text in enumerate(TEXTS)
    ]


# ---- every way in gives the same rows


@pytest.mark.parametrize("ending", WRITERS)
def test_every_file_format_gives_the_rows_that_were_written(ending: str, tmp_path: Path) -> None:
    WRITERS[ending](tmp_path / f"rows{ending}", records())
    rows = read_rows(classify(text=["text", "other"]), tmp_path / f"rows{ending}")
    assert texts_of(rows) == [TEXTS, [f"{text} again" for text in TEXTS]]
    assert rows.ids == [f"r{i}" for i in range(len(TEXTS))]
    assert rows.labels is not None
    assert rows.labels.tolist() == [i % 2 for i in range(len(TEXTS))]
    assert rows.skipped == []
    assert len(rows) == len(TEXTS)


@pytest.mark.parametrize("ending", WRITERS)
def test_file_endings_are_read_in_either_case(ending: str, tmp_path: Path) -> None:
    WRITERS[ending](tmp_path / f"rows{ending.upper()}", records())
    assert texts_of(read_rows(classify(), tmp_path / f"rows{ending.upper()}")) == [TEXTS]


def as_type(kind: pa.DataType) -> pa.Table:
    table = pa.Table.from_pylist(records())
    return table.set_column(1, "text", table.column("text").cast(kind))


TABLES: dict[str, Callable[[], Any]] = {
    "pyarrow table": lambda: pa.Table.from_pylist(records()),
    "record batch": lambda: pa.RecordBatch.from_pylist(records()),
    "record batch reader": lambda: pa.Table.from_pylist(records()).to_reader(max_chunksize=3),
    "any Arrow stream": lambda: Streamed(pa.Table.from_pylist(records())),
    "large texts": lambda: as_type(pa.large_string()),
    "text views": lambda: as_type(pa.string_view()),
    "dictionary of texts": lambda: as_type(pa.dictionary(pa.int32(), pa.string())),
    "chunks": lambda: pa.concat_tables(pa.Table.from_pylist([record]) for record in records()),
    "slice": lambda: pa.Table.from_pylist([*records(), *records()]).slice(len(TEXTS)),
}


@pytest.mark.parametrize("make", TABLES.values(), ids=list(TABLES))
def test_every_arrow_stream_gives_the_rows_it_holds(make: Callable[[], Any]) -> None:
    rows = read_rows(classify(), make())
    assert texts_of(rows) == [TEXTS]
    assert rows.ids == [f"r{i}" for i in range(len(TEXTS))]
    assert rows.labels is not None
    assert rows.labels.tolist() == [i % 2 for i in range(len(TEXTS))]


def test_an_object_without_the_arrow_stream_is_told_what_to_give() -> None:
    with pytest.raises(Mistake, match=r"type list does not speak the Arrow C stream; give a file, a pyarrow"):
        read_rows(classify(), [{"text": "x", "label": "low"}])


@pytest.mark.parametrize("seed", range(5))
def test_random_csv_reads_as_the_csv_module_reads_it(seed: int, tmp_path: Path) -> None:
    generator = random.Random(seed)
    signs = ["a", "b ", ",", '"', "\n", "\r\n", ";", "\t", "é", "🙂", "'"]
    cells = [["x" + "".join(generator.choices(signs, k=generator.randrange(9))) for _ in "ab"] for _ in range(60)]
    buffer = io.StringIO()
    csv.writer(buffer, quoting=generator.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows([["a", "b"], *cells])

    path = written(tmp_path / "random.csv", buffer.getvalue())
    expected = list(csv.DictReader(io.StringIO(buffer.getvalue(), newline="")))
    assert texts_of(read_rows(classify(text=["a", "b"], quotes="trusted"), path, labelled=False)) == [
        [row["a"] for row in expected],
        [row["b"] for row in expected],
    ]


@pytest.mark.skipif(not COURSE.is_dir(), reason="the course's data is not here")
@pytest.mark.parametrize(
    ("file", "text", "label", "kept"),
    # row counts as published with the starter code (methods.md 1)
    [
        ("ids-sst-train", ["sentence"], "sentiment", 8544),
        ("ids-sst-dev", ["sentence"], "sentiment", 1101),
        ("ids-sst-test-student", ["sentence"], None, 2210),
        ("ids-cfimdb-train", ["sentence"], "sentiment", 1707),
        ("ids-cfimdb-dev", ["sentence"], "sentiment", 245),
        ("ids-cfimdb-test-student", ["sentence"], None, 488),
        ("quora-train", ["sentence1", "sentence2"], "is_duplicate", 13986),
        ("quora-dev", ["sentence1", "sentence2"], "is_duplicate", 2222),
        ("quora-test-student", ["sentence1", "sentence2"], None, 4004),
        ("sts-train", ["sentence1", "sentence2"], "similarity", 6040),
        ("sts-dev", ["sentence1", "sentence2"], "similarity", 863),
        ("sts-test-student", ["sentence1", "sentence2"], None, 1725),
    ],
)
def test_the_courses_files_read_as_csv_dictreader_reads_them(
    file: str, text: list[str], label: str | None, kept: int
) -> None:
    path = COURSE / f"{file}.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        expected = list(csv.DictReader(lines, delimiter="\t"))
    if label:
        expected = [row for row in expected if row[label] and all(row[column].strip() for column in text)]

    settings = {"text": text, "label": label or "none", "bad_rows": "skip"}
    task = score(**settings) if label == "similarity" else classify(classes=5, **settings)
    rows = read_rows(task, path, labelled=label is not None)
    assert len(rows) == len(expected) == kept
    assert rows.ids == [row["id"] for row in expected]
    assert texts_of(rows) == [[row[column] for row in expected] for column in text]
    if label:
        assert rows.labels is not None
        assert rows.labels.tolist() == [float(row[label]) for row in expected]
        if file == "ids-sst-train":
            counts = [int((rows.labels == index).sum()) for index in range(5)]
            assert counts == [1092, 2218, 1624, 2322, 1288]


# ---- bad rows


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.tsv", "text\tlabel\nx\tlow\ny\tmiddle\n", "line 3"),
        ("crlf.csv", "text,label\r\nx,low\r\ny,middle\r\n", "line 3"),
        ("no_last_newline.csv", "text,label\nx,low\ny,middle", "line 3"),
        ("quoted_newlines.csv", 'text,label\n"one\ntwo\n\nfour",low\ny,middle\nz,low\n', "line 6"),
        ("starts_there.csv", 'text,label\nx,low\n"one\ntwo",middle\n', "line 3"),
        ("newline_in_header.csv", '"te\nxt",text,label\n1,x,low\n2,y,middle\n', "line 4"),
        ("blank_lines.csv", "text,label\n\nx,low\n\n\ny,middle\n", "line 6"),
        ("blank_first_line.csv", "\ntext,label\nx,low\ny,middle\n", "line 4"),
        ("blank_crlf.csv", "text,label\r\n\r\nx,low\r\ny,middle\r\n", "line 4"),
        ("mark.csv", "\ufefftext,label\nx,low\ny,middle\n", "line 3"),
        ("old_mac.csv", "text,label\rx,low\ry,middle\r", "line 3"),
        ("a.jsonl", '{"text": "x", "label": "low"}\n\n{"text": "y\\nz", "label": "middle"}\n', "line 3"),
    ],
    ids=lambda given: given if given.endswith(("v", "l")) else "",
)
def test_a_bad_label_names_file_line_column_and_value(name: str, content: str, place: str, tmp_path: Path) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(Mistake) as caught:
        read_rows(classify(), path)
    message = str(caught.value)
    assert message.startswith(f"{path}, {place}: column 'label': label 'middle' is not one of low, high")
    assert "`bad_rows: skip` on task 'mood'" in message


def test_a_bad_label_in_a_table_names_its_row() -> None:
    with pytest.raises(Mistake, match=r"^the table given, row 2: column 'label': label '5.5' is outside the range 0"):
        read_rows(score(), pa.table({"text": ["x", "y"], "label": [1.0, 5.5]}))


def test_lines_are_right_after_random_quoted_newlines(tmp_path: Path) -> None:
    generator = random.Random(3)
    rows = [[f"text {i}" + "\n" * generator.randrange(4), generator.choice(["low", f"bad{i}"])] for i in range(50)]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([["text", "label"], *rows])
    path = written(tmp_path / "rows.csv", buffer.getvalue())

    # the line in which 'text 7' stands, counted in the file itself
    line_of = {i: buffer.getvalue().split(f"text {i}", 1)[0].count("\n") + 1 for i in range(50)}
    bad = [i for i, (_, label) in enumerate(rows) if label != "low"]
    skipped = read_rows(classify(bad_rows="skip"), path).skipped
    assert [place.split(":")[0] for place in skipped] == [f"line {line_of[i]}" for i in bad]
    assert all(f"'bad{i}'" in place for i, place in zip(bad, skipped, strict=True))


def test_bad_rows_are_counted_in_the_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,label\nx,q\ny,low\nz,\n ,low\nu,q\nv,r\nw,\n")
    with pytest.raises(Mistakes) as caught:
        read_rows(classify(), path)
    label, missing, empty = caught.value.messages
    assert f"{path}, line 2: column 'label': label 'q' is not one of low, high" in label
    assert "(and in 2 more rows); the file holds low 2, q 2, r 1: write `classes: [low, q, r]` on task 'mood'" in label
    assert f"{path}, line 4: column 'label': there is no label (1 more like it)" in missing
    assert f"{path}, line 5: column 'text' is empty" in empty


def test_rows_without_an_id_are_named_by_their_place_in_the_file_whole_and_in_pieces(tmp_path: Path) -> None:
    lines = [f"text {row},{['low', 'high', 'odd'][row % 3]},{'ab'[row % 2]}" for row in range(12)]
    path = written(tmp_path / "parts.csv", "\n".join(["text,label,part", *lines]) + "\n")
    task = classify(where={"part": "b"}, bad_rows="skip")
    wanted = [str(row) for row in range(12) if row % 2 and row % 3 != 2]
    assert read_rows(task, path).ids == wanted
    assert stream_rows(task, path).whole().ids == wanted


def test_rows_are_skipped_on_advice_only_where_they_are_few(tmp_path: Path) -> None:
    for bad, advised in ((1, True), (5, True), (6, False), (60, False)):
        lines = [f"text {row},{'middle' if row < bad else 'low'}" for row in range(100)]
        path = written(tmp_path / f"{bad}.csv", "\n".join(["text,label", *lines]) + "\n")
        with pytest.raises(Mistake) as caught:
            read_rows(classify(), path)
        assert ("bad_rows: skip" in str(caught.value)) == advised, bad
        assert ("write `classes: [low, middle]` on task 'mood'" in str(caught.value)) != advised, bad


def test_names_where_a_number_of_classes_is_given_are_proposed(tmp_path: Path) -> None:
    names = ["bug", "feature", "help", "other", "praise", "spam"]
    rows = [{"text": f"text {row}", "label": names[row % 6]} for row in range(60)]
    WRITERS[".jsonl"](tmp_path / "a.jsonl", rows)
    with pytest.raises(Mistake) as caught:
        read_rows(classify(classes=6), tmp_path / "a.jsonl")
    message = str(caught.value)
    assert "line 1: column 'label': label 'bug' is not one of 0, 1, 2, 3, 4, 5" in message
    assert "the file holds bug 10, feature 10, help 10, other 10, praise 10, spam 10: " in message
    assert "write `classes: [bug, feature, help, other, praise, spam]` on task 'mood'" in message
    assert read_rows(classify(classes=names), tmp_path / "a.jsonl").labels is not None


@pytest.mark.parametrize("ending", WRITERS)
def test_skip_leaves_the_bad_rows_out_and_lists_each(ending: str, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one", "label": "low"},
        {"id": "b", "text": " ", "label": "high"},
        {"id": "c", "text": "three", "label": "nothing"},
        {"id": "d", "text": "four", "label": "high"},
    ]
    WRITERS[ending](tmp_path / f"a{ending}", rows)
    kept = read_rows(classify(bad_rows="skip"), tmp_path / f"a{ending}")
    assert kept.ids == ["a", "d"]
    assert texts_of(kept) == [["one", "four"]]
    assert kept.labels is not None
    assert kept.labels.tolist() == [0, 1]
    assert len(kept.skipped) == 2
    assert "column 'text' is empty" in kept.skipped[0]
    assert "label 'nothing'" in kept.skipped[1]

    with pytest.raises(Mistake, match="column 'text' is empty"):
        read_rows(classify(), tmp_path / f"a{ending}")


def test_skip_does_not_accept_a_file_of_bad_rows_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,label\nx,q\ny,\n")
    with pytest.raises(Mistake, match="every row is bad, the first at line 2: column 'label': label 'q'"):
        read_rows(classify(bad_rows="skip"), path)


def test_unlabelled_rows_are_all_kept_in_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,text\n7,x\n5,\n6,12\n")
    rows = read_rows(classify(), path, labelled=False)
    assert rows.ids == ["7", "5", "6"]
    assert texts_of(rows) == [["x", "", "12"]]
    assert rows.labels is None


def test_null_texts_of_unlabelled_rows_are_empty_texts() -> None:
    table = pa.table({"text": ["x", None]})
    assert texts_of(read_rows(classify(), table, labelled=False)) == [["x", ""]]


def test_rows_without_an_id_column_are_numbered(tmp_path: Path) -> None:
    assert read_rows(classify(), written(tmp_path / "a.csv", "text,label\nx,low\ny,low\n")).ids == ["0", "1"]


def test_an_id_column_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "key,id,text,label\nk1,0,x,low\nk2,1,y,low\n")
    assert read_rows(classify(id="key"), path).ids == ["k1", "k2"]


@pytest.mark.parametrize("null", [None, pa.nulls(2)], ids=["some", "all"])
def test_missing_labels_are_bad_rows(null: Any) -> None:
    labels = ["low", None] if null is None else null
    with pytest.raises(Mistake, match=r"row [12]: column 'label': there is no label"):
        read_rows(classify(), pa.table({"text": ["x", "y"], "label": labels}))


@pytest.mark.parametrize("task", [classify(), classify(bad_rows="skip"), score(), score(bad_rows="skip")])
def test_labels_that_are_all_minus_one_are_kept_back(task: Task) -> None:
    """As in the test sets of GLUE on the hub."""
    numbers = {"text": ["a", "b"], "label": [-1, -1]}
    with pytest.raises(NoLabels, match="every label is -1, as where labels are kept back; task"):
        read_rows(task, pa.table(numbers))
    with pytest.raises(Mistake) as mixed:
        read_rows(task.model_copy(update={"bad_rows": "error"}), pa.table(numbers | {"label": [-1, -2]}))
    assert not isinstance(mixed.value, NoLabels)


def test_minus_one_is_a_label_where_the_task_has_it() -> None:
    table = pa.table({"text": ["a", "b"], "label": [-1, -1]})
    np.testing.assert_array_equal(read_rows(classify(classes=[-1, 0, 1]), table).labels, [0, 0])
    np.testing.assert_array_equal(read_rows(score(range=[-1, 1]), table).labels, [-1, -1])


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_empty_texts_are_found_in_whatever_blocks_they_are_sought(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtbert.data.tables.BLOCK", block)
    path = written(tmp_path / "a.tsv", "text\tlabel\nx\tlow\n \tlow\ny\tlow\n\u3000\tlow\nz\tlow\n\tlow\n")
    rows = read_rows(classify(bad_rows="skip"), path)
    assert texts_of(rows) == [["x", "y", "z"]]
    assert [said.split(":")[0] for said in rows.skipped] == ["line 3", "line 5", "line 7"]


def test_an_arrow_file_takes_no_memory_for_its_texts(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", [{"text": "x" * 1000, "label": "low"} for _ in range(2000)])
    before = pa.total_allocated_bytes()
    rows = read_rows(classify(), tmp_path / "a.arrow")
    assert len(rows) == 2000
    assert pa.total_allocated_bytes() - before < 200_000


def test_rows_forgotten_give_their_memory_back() -> None:
    before = pa.total_allocated_bytes()
    rows = {"train": {"mood": read_rows(classify(), pa.table({"text": ["x" * 1000] * 2000, "label": ["low"] * 2000}))}}
    assert pa.total_allocated_bytes() - before > 1_000_000
    forget(rows)
    assert pa.total_allocated_bytes() - before < 200_000


# ---- files that are not what they should be


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nothing.csv", b"", ["nothing.csv is empty"]),
        ("nothing.parquet", b"", ["nothing.parquet is empty"]),
        ("mark.csv", b"\xef\xbb\xbf", ["mark.csv"]),
        ("newline.csv", b"\n", ["newline.csv"]),
        ("newline.jsonl", b"\n\n", ["newline.jsonl is empty"]),
        ("header.csv", b"text,label\n", ["header.csv is empty", "no rows below its header"]),
        ("header_alone.csv", b"text,label", ["header_alone.csv is empty", "no rows below its header"]),
        ("binary.csv", bytes(range(256)), ["binary.csv, line 3", "byte 0x80", "UTF-8", ".parquet"]),
        ("utf16.csv", "text,label\nx,low\n".encode("utf-16"), ["utf16.csv, line 1", "UTF-8"]),
        ("utf16.jsonl", '{"text": "x", "label": "low"}\n'.encode("utf-16"), ["utf16.jsonl, line 1", "UTF-8"]),
        ("bare16.jsonl", ('{"text": "x", "label": "low"}\n' * 2).encode("utf-16-le"), ["bare16.jsonl, line 1"]),
        ("latin.csv", "text,label\nx,low\ncaf\xe9,low\n".encode("latin-1"), ["latin.csv, line 3", "byte 0xe9"]),
        ("binary.parquet", bytes(range(256)), ["binary.parquet is not a Parquet file"]),
        ("text.parquet", b"text,label\nx,low\n", ["text.parquet is not a Parquet file"]),
        ("text.arrow", b"text,label\nx,low\n", ["text.arrow is not an Arrow file"]),
        ("unknown.xlsx", b"PK", ["unknown.xlsx", "'.xlsx'", ".csv", ".parquet"]),
        ("no_ending", b"text,label\n", ["no_ending", ".csv", ".parquet"]),
        ("broken.jsonl", b'{"text": "x", "label": "low"}\n{"text"\n', ["broken.jsonl, line 2", "not JSON"]),
        ("list.jsonl", b'["x", "low"]\n', ["list.jsonl, line 1", '["x", "low"]', "not an object"]),
        ("digits.jsonl", b'{"text": "x", "label": ' + b"1" * 5000 + b"}\n", ["digits.jsonl, line 1"]),
        ("wide.csv", b"text,label\nx,low\n\ny,low,z\n", ["wide.csv, line 4", "3 columns", "header has 2"]),
        ("narrow.csv", b'text,label\n"x\ny",low\nz\n', ["narrow.csv, line 4", "1 columns", "header has 2"]),
        ("open_quote.csv", b'text,label\nx,low\n"y,low\nz,low\n', ["open_quote.csv, line 3", "quote left open"]),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_file_that_is_no_table_says_where_and_why(
    name: str, content: bytes, words: list[str], labelled: bool, tmp_path: Path
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(Mistake) as caught:
        read_rows(classify(), path, labelled)
    assert [word for word in words if word not in str(caught.value)] == []
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_lines_that_are_not_utf8_hide_no_other_problem(ending: str, tmp_path: Path) -> None:
    rows = [("fine", "low"), ("caf\xe9", "low"), ("\xfcber", "low"), ("x", "loud"), ("y", "high")] + [("z", "low")] * 60
    lines = (
        ["text,label", *map(",".join, rows)]
        if ending == "csv"
        else [f'{{"text": "{t}", "label": "{label}"}}' for t, label in rows]
    )
    path = written(tmp_path / f"in.{ending}", "\n".join(lines).encode("latin-1"))
    first = 3 if ending == "csv" else 2
    with pytest.raises(Mistakes) as caught:
        read_rows(classify(), path)
    bytes_said, label_said = caught.value.messages
    assert f"line {first}: byte 0xe9 is not UTF-8 text (caf\xe9 in Windows-1252) (1 more like it)" in bytes_said
    assert f"iconv -f WINDOWS-1252 -t UTF-8 in.{ending} > new" in bytes_said
    assert f"line {first + 2}: column 'label': label 'loud'" in label_said
    read = read_rows(classify(bad_rows="skip"), path)
    assert read.texts[0].to_pylist() == ["fine", "y", *["z"] * 60]
    assert [row.partition(": ")[0] for row in read.skipped] == [f"line {first + n}" for n in range(3)]


def test_letters_of_other_scripts_are_not_taken_for_western_ones(tmp_path: Path) -> None:
    path = written(
        tmp_path / "in.csv", "text,label\nx,low\n\u043f\u0440\u0438\u0432\u0435\u0442,low\n".encode("koi8-r")
    )
    with pytest.raises(Mistake, match="line 3: byte 0xd0 is not UTF-8 text; save the file as UTF-8") as caught:
        read_rows(classify(), path)
    assert "1252" not in str(caught.value)


def test_the_encoding_of_files_with_a_mark_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", "text,label\nx,low\n".encode("utf-16"))
    with pytest.raises(Mistake, match=r"line 1: byte 0xff is not UTF-8 text; .*iconv -f UTF-16 -t UTF-8 in\.csv"):
        read_rows(classify(), path)


def test_what_an_open_quote_takes_in_is_looked_at_for_itself(tmp_path: Path) -> None:
    rows = ["a,low", '"b,low', "c,loud", '"d, e",low', '"f,low', ",low", *["g,low"] * 80]
    path = written(tmp_path / "in.csv", "\n".join(["text,label", *rows]).encode())
    with pytest.raises(Mistakes) as caught:
        read_rows(classify(), path)
    said = [message.partition("in.csv, ")[2].partition(";")[0] for message in caught.value.messages]
    assert said == [
        'line 3: the cell that begins with "b,low c,loud " takes in 2 more lines and goes on after its closing quote '
        "(is a quote left open?) (1 more like it)",
        "line 4: column 'label': label 'loud' is not one of low, high, nor an index from 0 to 1",
        "line 7: column 'text' is empty",
    ]


def test_lines_that_a_quote_took_in_may_be_of_other_tasks(tmp_path: Path) -> None:
    rows = ["a,low,us", '"b,low,us', "c,,them", '"d, e",,them', *["g,low,us"] * 80]
    path = written(tmp_path / "in.csv", "\n".join(["text,label,whose", *rows]).encode())
    for task in (classify(where={"whose": "us"}), classify(missing="skip")):
        with pytest.raises(Mistakes) as caught:
            read_rows(task, path)
        (message,) = caught.value.messages
        assert "line 3: the cell that begins with" in message


def test_a_row_that_is_wrong_in_two_ways_is_skipped_once(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", b"text,label\nx,low\ncaf\xe9,low,low\ny,high\n" + b"z,low\n" * 60)
    (skipped,) = read_rows(classify(bad_rows="skip"), path).skipped
    assert skipped == "line 3: 3 columns where the header has 2"


def test_of_a_long_word_with_a_foreign_byte_a_few_letters_are_shown(tmp_path: Path) -> None:
    word = b"a" * 1_000_000  # which a search that tries every letter as a beginning would not get through
    path = written(tmp_path / "in.csv", b"text,label\n" + word + b"\xe9" + word + b",low\n" + b"z,low\n" * 60)
    with pytest.raises(Mistake, match=rf"\({'a' * 20}\xe9{'a' * 20} in Windows-1252\)"):
        read_rows(classify(), path)


def test_of_many_open_quotes_the_lines_inside_are_not_looked_at(tmp_path: Path) -> None:
    rows = [f'"a {n},low\nb,low' for n in range(60)]
    path = written(tmp_path / "in.csv", "\n".join(["text,label", *rows]).encode())
    with pytest.raises(Mistakes) as caught:
        read_rows(classify(), path)
    (message,) = caught.value.messages
    assert "`quotes: none`" in message


def test_a_file_that_is_absent_shows_the_tables_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "train.csv", "text\nx\n")
    written(tmp_path / "notes.md", "x")
    with pytest.raises(Mistake, match=r"there is no file .*tain\.csv \(there: train\.csv\)"):
        read_rows(classify(), tmp_path / "tain.csv")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(Mistake, match="is a folder, not a file"):
        read_rows(classify(), tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("settings", "use"), [({"text": "txt"}, "the text"), ({"label": "txt"}, "the label"), ({"id": "txt"}, "the id")]
)
def test_a_missing_column_is_named_with_those_there_are(settings: dict[str, str], use: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", ",text,label\n0,x,low\n")
    with pytest.raises(Mistake) as caught:
        read_rows(classify(**settings), path)
    message = str(caught.value)
    assert str(path) in message
    assert f"{use}: 'txt'; did you mean 'text'? (valid: text, label)" in message


def test_a_column_that_stands_twice_is_not_chosen_silently(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,text,label\nx,y,low\n")
    with pytest.raises(Mistake, match="'text'"):
        read_rows(classify(), path)


@pytest.mark.parametrize(
    ("source", "held"),
    [
        (pa.table({"text": [1, 2], "title": ["a", "b"], "label": ["low", "low"]}), "int64"),
        (pa.table({"text": [1.5, 2], "title": ["a", "b"], "label": ["low", "low"]}), "double"),
        (pa.table({"text": pa.nulls(2), "title": ["a", "b"], "label": ["low", "low"]}), "null"),
        (pa.table({"text": [["a"], ["b"]], "title": ["a", "b"], "label": ["low", "low"]}), "list"),
        ("text,title,label\n1,a,low\n2.5,b,low\n", "only numbers"),
    ],
    ids=["integers", "fractions", "nulls", "lists", "csv"],
)
def test_a_text_column_of_something_else_says_what_it_holds_and_which_columns_are_text(
    source: Any, held: str, tmp_path: Path
) -> None:
    given = written(tmp_path / "a.csv", source) if isinstance(source, str) else source
    with pytest.raises(Mistake, match=rf"text column 'text' holds {held}.*; columns of text: title, label"):
        read_rows(classify(), given)


@pytest.mark.parametrize("label", ['["low"]', '{"is": "low"}', str(2**70)], ids=["list", "object", "huge number"])
def test_a_label_that_is_no_text_or_number_is_a_bad_row(label: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f'{{"text": "x", "label": {label}}}\n')
    with pytest.raises(Mistake, match=r"a\.jsonl.*column 'label'"):
        read_rows(classify(), path)


@pytest.mark.parametrize(
    "more",
    [f'"m": {2**70}', '"m": ["\\ud800"]', '"m": {"a": [1, "b"]}', '"m": [1, [2]]', '"\\ud800": 1', '"": null'],
    ids=["huge number", "half sign", "object", "uneven list", "half sign for a name", "no name"],
)
def test_columns_that_the_task_does_not_read_may_hold_anything(more: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", f'{{"text": "x", "label": "low", {more}}}\n')
    assert texts_of(read_rows(classify(), path)) == [["x"]]


def test_true_and_false_are_labels_by_their_names(tmp_path: Path) -> None:
    task = classify(classes=["false", "true"])
    path = written(tmp_path / "a.jsonl", '{"text": "x", "label": true}\n{"text": "y", "label": false}\n')
    for source in (path, pa.table({"text": ["x", "y"], "label": [True, False]})):
        labels = read_rows(task, source).labels
        assert labels is not None
        assert labels.tolist() == [1, 0]


# ---- texts that are hard to hold


def test_half_characters_are_replaced_and_whole_pairs_joined(tmp_path: Path) -> None:
    # as three bytes each, the way some programs write the halves of an emoji
    path = written(tmp_path / "a.csv", b"text,label\nx\xed\xa0\x80y,low\n\xed\xa0\xbd\xed\xb8\x80,low\n")
    assert texts_of(read_rows(classify(), path)) == [["x\ufffdy", "\U0001f600"]]

    path = written(tmp_path / "a.jsonl", '{"text": "x\\ud800y", "label": 0}\n{"text": "\\ud83d\\ude00", "label": 0}\n')
    assert texts_of(read_rows(classify(), path)) == [["x\ufffdy", "\U0001f600"]]


@pytest.mark.parametrize("ending", WRITERS)
def test_texts_of_100_000_characters_are_read_whole(ending: str, tmp_path: Path) -> None:
    long = "palabra ñ 🙂 " * 8_334
    WRITERS[ending](tmp_path / f"a{ending}", [{"text": "x", "label": "low"}, {"text": long, "label": "high"}])
    assert texts_of(read_rows(classify(), tmp_path / f"a{ending}")) == [["x", long]]


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".txt"])
def test_a_text_longer_than_arrows_block_is_read_whole(ending: str, tmp_path: Path) -> None:
    long = "w " * (1 << 20)
    WRITERS[ending](tmp_path / f"a{ending}", [{"text": long, "label": "low"}, {"text": "y", "label": "bad"}])
    rows = read_rows(classify(bad_rows="skip"), tmp_path / f"a{ending}")
    assert texts_of(rows) == [[long]]
    assert rows.skipped[0].startswith("line 3:")


def test_reading_leaves_the_csv_modules_settings_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = written(tmp_path / "a.csv", "text,label\nx,bad\ny,low\n")
    try:
        read_rows(classify(bad_rows="skip"), path)
        assert csv.field_size_limit() == before
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize(("delimiter", "ending"), [(",", ".csv"), (";", ".csv"), ("\t", ".csv"), ("|", ".txt")])
def test_the_separator_is_read_from_the_header(delimiter: str, ending: str, tmp_path: Path) -> None:
    delimited(delimiter)(tmp_path / f"a{ending}", records())
    assert texts_of(read_rows(classify(), tmp_path / f"a{ending}")) == [TEXTS]


def test_tsv_is_separated_by_tabs_whatever_its_header_says(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv", "text, or so,,,\tlabel\nx, y\tlow\n")
    assert texts_of(read_rows(classify(text="text, or so,,,"), path)) == [["x, y"]]


def test_cells_of_delimited_files_stay_as_they_are_written(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,text,label\n007,NA,1\n1e3,null,0\n,nan,1.0\n")
    rows = read_rows(classify(), path)
    assert rows.ids == ["007", "1e3", ""]
    assert texts_of(rows) == [["NA", "null", "nan"]]


def test_labels_of_scores_are_read_as_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,label\nx,0\ny,4.6\nz,5e0\n")
    labels = read_rows(score(), path).labels
    assert labels is not None
    assert labels.tolist() == [0.0, 4.6, 5.0]
