"""The same rows, ids and rules whatever the format; only named columns are touched."""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.table import KINDS
from mtbert.data.streams import stream_rows
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake
from tests.support.cases import each


def task(**settings: Any) -> Task:
    given = {"name": "mood", "text": "text", "label": "label", "classes": 2, **settings}
    return KINDS["classification"](**given)


def labels_of(task: Task, source: Any) -> list[float]:
    labels = read_rows(task, source).labels
    assert labels is not None
    return labels.tolist()


# ---- writers, each an independent one


def write_csv(path: Path, records: list[dict[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for record in records for name in record))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(records)
    return path


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_parquet(path: Path, records: list[dict[str, Any]]) -> Path:
    pa.parquet.write_table(pa.Table.from_pylist(records), path)
    return path


def write_arrow(path: Path, table: pa.Table, begin: Callable[..., Any] = pa.ipc.new_stream) -> Path:
    with begin(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


WRITERS = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
    ".arrow": lambda path, records: write_arrow(path, pa.Table.from_pylist(records)),
}


# ---- labels


@each(
    ending=list(WRITERS),
    classes=[2, [False, True], ["false", "true"], ["False", "True"], [0, 1], ["0", "1"]],
    truths=[(False, True), ("False", "True"), ("FALSE", "true"), (0, 1), ("0", "1"), (0.0, 1.0)],
)
def test_true_and_false_mean_the_same_in_every_format(
    ending: str, classes: Any, truths: tuple[Any, Any], tmp_path: Path
) -> None:
    records = [{"text": f"text {i}", "label": truths[i % 2]} for i in range(4)]
    path = WRITERS[ending](tmp_path / f"a{ending}", records)
    assert labels_of(task(classes=classes), path) == [0, 1, 0, 1]


def test_the_order_of_truths_is_that_of_their_names() -> None:
    assert [task(classes=[True, False]).read_label(cell) for cell in (True, "FALSE", 1, "0")] == [0, 1, 0, 1]
    assert [task(classes=[1, 0]).read_label(cell) for cell in (True, "False", "1", 0)] == [0, 1, 0, 1]


@each(cell=["True", True, "false"])
def test_truths_are_no_labels_of_other_classes(cell: Any) -> None:
    for classes in (["low", "high"], 3, [1, 2]):
        with pytest.raises(Mistake, match="is not one of"):
            task(classes=classes).read_label(cell)


@each(classes=[["-1", "1", "unclear"], ["01", "b"], ["true", "maybe"], ["+1", "x"], ["1.0", "x"]], cell=["0", 0])
def test_an_index_counts_only_where_no_class_has_a_number_for_a_name(classes: list[str], cell: Any) -> None:
    with pytest.raises(Mistake) as caught:
        task(classes=classes).read_label(cell)
    assert "nor an index" not in str(caught.value)


def test_names_are_read_as_they_are_written() -> None:
    assert [task(classes=["010", "8", "10"]).read_label(cell) for cell in ("010", "8", "10")] == [0, 1, 2]
    for classes, cell in ((["8", "x"], "010"), (["10", "x"], "010"), (["10", "x"], "1_0"), (5, "03"), (5, "0x1")):
        with pytest.raises(Mistake, match=f"label '{cell}' is not one of"):
            task(classes=classes).read_label(cell)


def test_a_score_is_no_number_with_signs_between_its_digits() -> None:
    near = KINDS["regression"](name="near", text="text", label="label", range=[0, 100])
    with pytest.raises(Mistake, match="label '4_6' is not a number"):
        near.read_label("4_6")


@each(
    case=[
        ("not\u00a0good", "U+00A0 (NO-BREAK SPACE)"),
        ("go\u200bod", "U+200B (ZERO WIDTH SPACE)"),
        ("g\u043eod", "U+043E (CYRILLIC SMALL LETTER O)"),
        ("cafe\u0301", "U+0301 (COMBINING ACUTE ACCENT)"),
        ("don\u2019t", "U+2019 (RIGHT SINGLE QUOTATION MARK)"),
    ]
)
def test_a_label_that_only_looks_right_shows_its_code_point_and_the_remedy(case: tuple[str, str]) -> None:
    cell, point = case
    names = ["not good", "good", "caf\u00e9", "don't"]
    with pytest.raises(Mistake) as caught:
        task(classes=names).read_label(cell)
    assert point in str(caught.value)
    assert "write the same in the file and under `classes`" in str(caught.value)


def test_a_label_that_looks_like_none_has_no_code_point() -> None:
    with pytest.raises(Mistake, match=r"label 'bad' is not one of good, fine, nor an index from 0 to 1$"):
        task(classes=["good", "fine"]).read_label("bad")


def test_a_column_that_only_looks_right_shows_its_code_point(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{"text\u200b": "x", "label": 1}])
    with pytest.raises(Mistake, match=r"did you mean .*has nothing where that has U\+200B \(ZERO WIDTH SPACE\)"):
        read_rows(task(), path)


def test_ten_thousand_classes_are_read_in_time(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(10_000)]
    path = write_csv(tmp_path / "a.csv", [{"text": f"text {i}", "label": names[i // 2]} for i in range(20_000)])
    begun = time.perf_counter()
    labels = labels_of(task(classes=names), path)
    assert labels == [i // 2 for i in range(20_000)]
    assert time.perf_counter() - begun < 5
    with pytest.raises(Mistake) as caught:
        task(classes=names).read_label("x" * 10_000)
    assert len(str(caught.value)) < 2_000


# ---- separators


def test_excels_line_names_the_separator_and_is_no_row(tmp_path: Path) -> None:
    for name, first, separator in (("a.csv", "sep=;", ";"), ("b.txt", '"sep=^"', "^"), ("c.csv", "SEP=\t", "\t")):
        content = f"\ufeff{first}\r\ntext{separator}label\r\nwarm, or so{separator}1\r\nx{separator}bad\r\n"
        (tmp_path / name).write_bytes(content.encode())
        rows = read_rows(task(bad_rows="skip"), tmp_path / name)
        assert rows.texts[0].to_pylist() == ["warm, or so"]
        assert rows.skipped[0].startswith("line 4:")


@each(
    case=[
        ('"text";"label";"score, 0 to 5, mean, all"\nwarm;1;3\n', "text"),
        ('"text, in all, and more";label\nwarm;1\n', "text, in all, and more"),
        ("text;label;score, 0 to 5, mean, all\nwarm;1;3\n", "text"),  # where more commas stand than semicolons
        ('text;label;6" or more, 7", 8", or 9"\nwarm;1;3\n', "text"),
        ('"te,xt\n,,,";label\nwarm;1\n', "te,xt\n,,,"),
    ]
)
def test_the_separator_is_the_one_that_the_columns_are_found_by(case: tuple[str, str], tmp_path: Path) -> None:
    content, name = case
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert read_rows(task(text=name, quotes="trusted"), tmp_path / "a.csv").texts[0].to_pylist() == ["warm"]


# ---- rows and ids of unlabelled tables


@each(ending=list(WRITERS))
def test_missing_ids_stay_empty_and_whole_ones_have_no_point(ending: str, tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"a{ending}", [{"id": i, "text": f"text {i}"} for i in (1, None, 12345678901)])
    assert read_rows(task(), path, labelled=False).ids == ["1", "", "12345678901"]


def test_ids_that_became_fractions_for_their_gaps_are_whole() -> None:
    for kind in (pa.float64(), pa.float32(), pa.decimal128(10, 0)):
        table = pa.table({"id": pa.array([1, None, 33], pa.int32()).cast(kind), "text": ["a", "b", "c"]})
        assert read_rows(task(), table, labelled=False).ids == ["1", "", "33"]
    table = pa.table({"id": [0.5, 2.0, -3.0], "text": ["a", "b", "c"]})
    assert read_rows(task(), table, labelled=False).ids == ["0.5", "2", "-3"]


def test_ids_of_json_may_be_absent_null_or_mixed(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"id": "a", "text": "x"},
        {"id": None, "text": "y"},
        {"text": "z"},
        {"id": 1.0, "text": "w"},
    ]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    assert read_rows(task(), path, labelled=False).ids == ["a", "", "", "1"]


@each(ending=list(WRITERS), numbers=[[2020, 7], [2020, None], [0.5, 7.25]])
def test_numbers_are_texts_where_a_model_predicts(ending: str, numbers: list[Any], tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"a{ending}", [{"id": i, "text": one} for i, one in enumerate(numbers)])
    texts = read_rows(task(), path, labelled=False).texts[0].to_pylist()
    assert texts == ["" if one is None else str(one) for one in numbers]


@each(ending=list(WRITERS), texts=[[None, None], [None, "x"]])
def test_missing_texts_are_empty_ones_where_a_model_predicts(ending: str, texts: list[Any], tmp_path: Path) -> None:
    path = WRITERS[ending](tmp_path / f"a{ending}", [{"id": i, "text": text} for i, text in enumerate(texts)])
    rows = read_rows(task(), path, labelled=False)
    assert rows.texts[0].to_pylist() == [text or "" for text in texts]
    assert rows.ids == ["0", "1"]


# ---- columns and types


STRANGE = {
    "uuid": pa.array([uuid.uuid4().bytes] * 2, pa.uuid()),
    "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
    "intervals": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    "bytes": pa.array([b"\xff", b"a"]),
    "lists": pa.array([[1], [2]]),
    "days": pa.array([datetime.date(2020, 1, 1)] * 2),
    "durations": pa.array([1, 2], pa.duration("ns")),
}


@each(kind=list(STRANGE), role=["text", "label"], labelled=[True, False])
def test_a_type_that_cannot_be_read_is_named_with_its_column(
    kind: str, role: str, labelled: bool, tmp_path: Path
) -> None:
    columns = {"text": pa.array(["x", "y"]), "label": pa.array([0, 1])} | {role: STRANGE[kind]}
    path = write_arrow(tmp_path / "a.arrow", pa.table(columns))
    if role == "label" and not labelled:
        assert len(read_rows(task(), path, labelled)) == 2  # predicting looks at no labels
        return
    with pytest.raises(Mistake) as caught:
        read_rows(task(), path, labelled)
    assert f"column '{role}' holds {STRANGE[kind].type}" in str(caught.value)


@each(kind=list(STRANGE))
def test_columns_that_no_task_names_may_be_of_any_type(kind: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["x", "y"], "label": [0, 1], "more": STRANGE[kind], "id": STRANGE[kind]})
    for begin in (pa.ipc.new_stream, pa.ipc.new_file):
        assert labels_of(task(), write_arrow(tmp_path / "a.arrow", table, begin)) == [0, 1]
    assert labels_of(task(), table) == [0, 1]


def test_days_and_times_may_name_rows() -> None:
    days = pa.array([datetime.date(2020, 1, 31), None])
    assert read_rows(task(), pa.table({"id": days, "text": ["x", "y"]}), False).ids == ["2020-01-31", ""]
    with pytest.raises(Mistake, match=r"id column 'id' holds extension<arrow\.uuid>"):
        read_rows(task(), pa.table({"id": STRANGE["uuid"], "text": ["x", "y"]}), False)


@each(
    kind=[
        pa.dictionary(pa.uint32(), pa.string_view()),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.string_view(),
        pa.large_string(),
    ]
)
def test_every_type_of_text_is_text(kind: pa.DataType, tmp_path: Path) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    long = "warm and long enough for a view"
    texts = pa.array([long, None, "cold", long], value)
    if pa.types.is_dictionary(kind):
        codes = pa.array([0, None, 1, 0], kind.index_type)
        texts = pa.DictionaryArray.from_arrays(codes, pa.array([long, "cold"], value))
    table = pa.table({"text": texts, "label": ["0", "1", "1", "0"]})
    for source in (table, write_arrow(tmp_path / "a.arrow", table)):
        rows = read_rows(task(), source, labelled=False)
        assert rows.texts[0].to_pylist() == [long, "", "cold", long]
        assert len(read_rows(task(bad_rows="skip"), source)) == 3


def test_labels_of_any_number_are_read() -> None:
    for labels in (
        pa.array([0, 1], pa.uint8()),
        pa.array([0.0, 1.0], pa.float32()),
        pa.array([decimal.Decimal("0.0"), decimal.Decimal("1.0")]),
        pa.array([0, 1]).dictionary_encode(),
    ):
        assert labels_of(task(), pa.table({"text": ["x", "y"], "label": labels})) == [0, 1]


def test_json_objects_with_keys_of_their_own_are_read_in_time(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"text": f"text {i}", "label": i % 2, f"note {i}": i} for i in range(12_000)]
    )
    begun = time.perf_counter()
    assert len(read_rows(task(), path)) == 12_000
    assert time.perf_counter() - begun < 2
    with pytest.raises(Mistake, match="unknown column for the text: 'txt'; did you mean 'text'"):
        read_rows(task(text="txt"), path)


@each(ending=[".csv", ".jsonl"])
def test_a_line_of_30_megabytes_is_a_text(ending: str, tmp_path: Path) -> None:
    long = "word " * 6_000_000
    path = WRITERS[ending](tmp_path / f"a{ending}", [{"text": long, "label": 1}, {"text": "short", "label": 0}])
    assert read_rows(task(), path).texts[0].to_pylist() == [long, "short"]


# ---- streams, folders, datasets


def table(rows: range) -> pa.Table:
    return pa.table({"text": [f"text {i}" for i in rows], "label": [i % 2 for i in rows]})


@each(begin=[pa.ipc.new_stream, pa.ipc.new_file], compression=[None, "lz4", "zstd"])
def test_arrow_streams_and_files_are_told_apart_by_their_content(
    begin: Callable[..., Any], compression: str | None, tmp_path: Path
) -> None:
    content = table(range(7))
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with begin(tmp_path / "a.arrow", content.schema, options=options) as writer:
        writer.write_table(content, max_chunksize=2)
    assert read_rows(task(), tmp_path / "a.arrow").texts[0].to_pylist() == content["text"].to_pylist()


def test_a_folder_is_read_as_its_state_says(tmp_path: Path) -> None:
    for name, rows in (("b", range(4)), ("a", range(4, 6)), ("cache-1", range(100, 120))):
        write_arrow(tmp_path / f"{name}.arrow", table(rows))
    state = {"_data_files": [{"filename": "b.arrow"}, {"filename": "a.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    read = read_rows(task(), tmp_path)
    assert read.texts[0].to_pylist() == [f"text {i}" for i in range(6)]
    assert read.name == str(tmp_path)

    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(Mistake, match=r"state\.json is damaged: it names no data files"):
        read_rows(task(), tmp_path)
    state["_data_files"].append({"filename": "c.arrow"})
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(Mistake, match=r"c\.arrow cannot be read"):
        read_rows(task(), tmp_path)


def test_a_folder_of_parts_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, rows in (("part-1", range(3, 5)), ("part-0", range(3))):
        pa.parquet.write_table(table(rows), tmp_path / f"{name}.parquet")
    assert read_rows(task(), tmp_path).texts[0].to_pylist() == [f"text {i}" for i in range(5)]
    pa.parquet.write_table(pa.table({"text": ["x", "y"], "label": [0, 0]}), tmp_path / "part-0.parquet")
    with pytest.raises(Mistake, match=r"row 1 of part-1\.parquet: column 'label': label '1' is not one of 0, 7"):
        read_rows(task(classes=[0, 7]), tmp_path)


def test_a_folder_of_splits_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(Mistake, match=r"holds a set for each split; name one of .*train"):
        read_rows(task(), tmp_path)


class Dataset:
    """Speaks as a datasets.Dataset does: indices of its own, and Arrow only when asked."""

    features: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, held: pa.Table, indices: list[int], columns: list[str] | None = None) -> None:
        self._held, self._indices, self._columns = held, indices, columns

    def __len__(self) -> int:
        return len(self._indices)

    def with_format(self, kind: str, columns: list[str] | None = None) -> Dataset:
        assert kind == "arrow"
        return Dataset(self._held, self._indices, columns)

    def __getitem__(self, rows: slice) -> pa.Table:
        return self._held.take(pa.array(self._indices[rows], pa.int64())).select(
            self._columns or self._held.column_names
        )


def test_a_dataset_is_read_in_its_own_order() -> None:
    held = table(range(6)).append_column("more", pa.array([uuid.uuid4().bytes] * 6, pa.uuid()))
    rows = read_rows(task(), Dataset(held, [5, 0, 3]))
    assert rows.texts[0].to_pylist() == ["text 5", "text 0", "text 3"]
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0, 1]


def test_the_datasets_library_is_read_shuffled_and_filtered(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(20)], "label": [i % 2 for i in range(20)]})
    odd = whole.shuffle(seed=1).filter(lambda row: row["label"] == 1)
    assert read_rows(task(), odd).texts[0].to_pylist() == odd["text"][:]
    odd.save_to_disk(str(tmp_path / "odd"))
    assert read_rows(task(), tmp_path / "odd").texts[0].to_pylist() == odd["text"][:]


# ---- TSV and CSV without a line of names


def nameless(header: tuple[str, ...] = ("label", "text"), **more: Any) -> Classification:
    return Classification(name="mood", text=("text",), label="label", classes=("a", "b"), header=header, **more)


def test_the_recipe_names_the_columns_of_a_file_that_does_not(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'\xef\xbb\xbfa,"one, two"\r\nb,three\r\nc,four\r\n')
    with pytest.raises(Mistake, match=r"in\.csv, line 3: column 'label': label 'c'"):
        read_rows(nameless(), path)
    rows = read_rows(nameless(bad_rows="skip"), path)
    assert rows.given == [["one, two", "three"]]
    assert rows.ids == ["0", "1"]
    pieces = stream_rows(nameless(bad_rows="skip"), path)
    assert pieces.whole().given == rows.given
    with pytest.raises(Mistake, match=r"in\.csv, line 1: 2 columns where `header` names 3 \(label, text, more\)"):
        read_rows(nameless(("label", "text", "more")), path)
    texts = tmp_path / "texts.csv"
    texts.write_text("one\ntwo\n")
    with pytest.raises(Mistake, match=r"line 1: 1 columns .*; other columns need a first line with their names"):
        read_rows(nameless(), texts, labelled=False)
    texts.write_text("text\none\ntwo\n")
    assert read_rows(nameless(), texts, labelled=False).given == [["one", "two"]]


def test_a_file_with_names_is_read_by_them_though_the_recipe_names_columns(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_text("text\tlabel\nx y\ta\nz\tb\n")
    assert read_rows(nameless(), path).given == [["x y", "z"]]
    assert read_rows(nameless(), path, labelled=False).given == [["x y", "z"]]
    path.write_text("a\tx y\nb\tz\n")
    assert read_rows(nameless(), path).given == [["x y", "z"]]


def test_a_long_file_without_names_has_them_in_every_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtbert.data.formats.base.STRETCH", 256)
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{'ab'[n % 2]};text number {n}\n" for n in range(200)))
    stream = stream_rows(nameless(), path)
    assert len(list(stream.pieces())) > 10
    assert stream.whole().given == [[f"text number {n}" for n in range(200)]]
    path.write_text(path.read_text() + "c;bad\n")
    with pytest.raises(Mistake, match=r"in\.txt, line 201"):
        stream_rows(nameless(), path)


@pytest.mark.parametrize("header", [["label", "te,xt"], ["text", "text"], ['a"b', "text"], ["", "text"]])
def test_names_of_columns_are_such_as_a_line_can_hold(header: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot name a column"):
        nameless(tuple(header))
