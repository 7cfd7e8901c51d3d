"""Rows as people keep them: packed, in several files, in arrays, with fields inside fields."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtbert.data.kinds.classification import Classification
from mtbert.data.labels import plain
from mtbert.data.streams import stream_rows
from mtbert.data.tables import read_rows
from mtbert.errors import Mistake, Mistakes
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.small import recipe_over, write_small_data

TASK = Classification(name="t", text=("text",), label="label", classes=("x", "y"))
CSV = "text,label\na,x\nb,y\n"


def pack(path: Path, content: str) -> Path:
    """The content compressed by the library that the ending names, not by the reader under test."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_bytes(pa.compress(content.encode(), codec="zstd", asbytes=True))
    return path


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_files_are_read_as_what_they_hold(tmp_path: Path, ending: str) -> None:
    path = pack(tmp_path / f"rows.csv{ending}", CSV)
    found = read_rows(TASK, path)
    assert found.labels is not None
    assert (found.name, plain(found.labels).tolist()) == (str(path), [0, 1])
    assert stream_rows(TASK, path).whole().texts[0].to_pylist() == ["a", "b"]
    with pytest.raises(Mistake, match=r"rows.csv\.(gz|zst), line 3: .*'z' is not one of"):
        read_rows(TASK, pack(tmp_path / f"rows.csv{ending}", CSV.replace("y", "z")))


def test_a_damaged_archive_is_a_message(tmp_path: Path) -> None:
    path = pack(tmp_path / "rows.csv.gz", CSV)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(Mistake, match=r"rows.csv.gz cannot be unpacked as gzip \(.+\)") as caught:
        read_rows(TASK, path)
    assert_remedied(str(caught.value), path, "gzip")


@pytest.mark.parametrize(("ending", "tool"), [(".gz", "gzip"), (".zst", "zstd")])
def test_what_is_no_archive_is_a_message_with_a_remedy(tmp_path: Path, ending: str, tool: str) -> None:
    path = tmp_path / f"my rows.csv{ending}"
    path.write_text(CSV)
    with pytest.raises(Mistake, match=rf"my rows.csv{ending} cannot be unpacked as {tool} \(.+\)") as caught:
        read_rows(TASK, path)
    assert_remedied(str(caught.value), path, tool)


def assert_remedied(said: str, path: Path, tool: str) -> None:
    """It says to get the file again, and the command that it names refuses this file and not a whole one."""
    assert said.endswith("download or write it again")
    (words,) = re.findall(r"`(.+?)`", said)
    asked = shlex.split(words)
    assert (asked[0], asked[-1]) == (tool, str(path))
    if shutil.which(tool) is not None:
        assert subprocess.run(asked, capture_output=True).returncode != 0
        pack(path, CSV)
        assert subprocess.run(asked, capture_output=True).returncode == 0


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_damaged_table_is_a_message_with_a_remedy(tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"rows{ending}", pa.table({"text": ["a"] * 500, "label": ["x"] * 500})
    if ending == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    path.write_bytes(path.read_bytes()[:-200])
    for _ in range(2):  # cut off, then something else
        with pytest.raises(
            Mistake, match=rf"rows\{ending} is not an? \w+ file, or is damaged \(.+\); .*ending"
        ) as caught:
            read_rows(TASK, path)
        assert str(caught.value).endswith("download or write it again")
        path.write_text(CSV)


def test_several_files_are_one_set(tmp_path: Path) -> None:
    for name, text in {"b": "c,y", "a": "a,x\nb,y"}.items():
        (tmp_path / f"part-{name}.csv").write_text(f"text,label\n{text}\n")
    by_pattern = read_rows(TASK, tmp_path / "part-*.csv")
    by_list = read_rows(TASK, [tmp_path / "part-b.csv", tmp_path / "part-a.csv"])
    assert by_pattern.texts[0].to_pylist() == ["a", "b", "c"]
    assert by_list.texts[0].to_pylist() == ["c", "a", "b"]
    assert stream_rows(TASK, tmp_path / "part-*.csv").whole().texts[0].to_pylist() == ["a", "b", "c"]
    with pytest.raises(Mistake, match=r"no file fits .*other-\*.csv"):
        read_rows(TASK, tmp_path / "other-*.csv")


@pytest.mark.parametrize("missing", ["error", "skip"])
def test_of_several_files_one_without_a_column_that_others_have_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "part-a.csv").write_text(CSV)
    (tmp_path / "part-b.csv").write_text("text,mood\nc,y\n")
    with pytest.raises(Mistake, match=r"part-b\.csv has no column 'label' \(there: text, mood\), which other files"):
        read_rows(TASK.model_copy(update={"missing": missing}), tmp_path / "part-*.csv")


def test_of_several_files_every_row_in_doubt_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-a.csv").write_text(CSV)
    (tmp_path / "part-b.csv").write_bytes(b'text,label\ncaf\xe9,x\n"b,y\nc,z\n"d, e",y\nf,x,x\ng,x\n')
    with pytest.raises(Mistakes) as caught:
        read_rows(TASK, tmp_path / "part-*.csv")
    wrong = ["line 2 of part-b.csv: byte 0xe9", "line 3 of part-b.csv: the cell", "line 6 of part-b.csv: 3 columns"]
    for message, part in zip(caught.value.messages, [*wrong, "part-b.csv, line 4: column 'label'"], strict=True):
        assert part in message
    left = read_rows(TASK.model_copy(update={"bad_rows": "skip"}), tmp_path / "part-*.csv")
    assert left.texts[0].to_pylist() == ["a", "b", "g"]
    assert len(left.skipped) == 3
    with pytest.raises(Mistakes, match=r"line 6 of part-b\.csv"):  # a row left out would have no answer
        stream_rows(TASK, tmp_path / "part-*.csv", labelled=False)


def test_lines_that_a_quote_took_in_are_said_of_the_packed_file(tmp_path: Path) -> None:
    path = pack(tmp_path / "rows.csv.gz", 'text,label\n"b,y\nc,z\n"d, e",y\ng,x\n')
    with pytest.raises(Mistakes) as caught:
        read_rows(TASK, path)
    assert [message.partition(":")[0] for message in caught.value.messages] == [f"{path}, line 2", f"{path}, line 3"]


def test_an_array_of_objects_and_fields_inside_fields(tmp_path: Path) -> None:
    records = [{"review": {"text": "a"}, "label": "x"}, {"review": {"text": "b"}, "label": "y"}]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    nested = TASK.model_copy(update={"text": ("review.text",)})
    for ending in (".json", ".jsonl"):
        assert read_rows(nested, tmp_path / f"rows{ending}").texts[0].to_pylist() == ["a", "b"]
    (tmp_path / "rows.json").write_text('{"text": "a"}')
    with pytest.raises(Mistake, match="holds no array of objects"):
        read_rows(TASK, tmp_path / "rows.json")


def test_a_recipe_names_several_files(tmp_path: Path) -> None:
    data = write_small_data(tmp_path / "data")
    recipe = recipe_over(data)
    recipe["tasks"]["mood"]["train"] = ["mood-train.tsv", "mood-test.tsv"]
    read = read_recipe(recipe)
    assert "mood-test.tsv" in read.as_yaml()
    assert len(build(read).rows["train"]["mood"]) == 45
