"""`table:` names a file once and a task for each of its labels: the same recipe as with every task written out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.recipe_files import complaint, recipe_file
from tests.support.small import recipe_over, with_more_kinds, write_small_data

LINES = """\
table:
  text: text
  train: many-train.parquet
  dev: 20%
  missing: skip
  labels:
    stars: {kind: ordinal, classes: 4}
    topics: multilabel
    more_stars:
      kind: classification
      label: stars
      missing: error
tasks:
  mood: {kind: classification, text: text, label: mood, train: mood-train.tsv, dev: 10%}
  stars: {dropout: 0.3}
"""


def recipe(folder: Path, text: str = LINES, like: str | None = None) -> Path:
    return recipe_file(folder, text, like)


def test_a_table_is_its_tasks_written_out(tmp_path: Path) -> None:
    file = {"text": "text", "train": "many-train.parquet", "dev": "20%"}
    written = yaml.safe_load(LINES)
    del written["table"]
    written["tasks"] = {
        "stars": {"kind": "ordinal", "label": "stars", "classes": 4, "missing": "skip", "dropout": 0.3, **file},
        "topics": {"kind": "multilabel", "label": "topics", "missing": "skip", **file},
        "more_stars": {"kind": "classification", "label": "stars", "missing": "error", **file},
        "mood": written["tasks"]["mood"],
    }
    found = read_recipe(recipe(tmp_path))
    assert found == read_recipe(written | {"data": str(tmp_path)})
    assert list(found.tasks) == list(written["tasks"])
    assert "table" not in yaml.safe_load(found.as_yaml())


def test_several_tables_are_a_list(tmp_path: Path) -> None:
    first = yaml.safe_load(LINES)["table"]
    second = {"text": "body", "train": "other.csv", "dev": "10%", "kind": "classification", "labels": {"tone": None}}
    found = read_recipe({"table": [first, second], "data": str(tmp_path)})
    assert list(found.tasks) == ["stars", "topics", "more_stars", "tone"]
    assert found.tasks["tone"].label == "tone"
    assert found.tasks["tone"].text == ("body",)


def test_overrides_and_recipes_that_are_like_another_reach_tables_and_their_tasks(tmp_path: Path) -> None:
    like = "table: {dev: many-dev.parquet, labels: {topics: {separator: ';'}, more_stars: null}}\n"
    found = read_recipe(
        recipe(tmp_path, like=like), ["tasks.*.weight=2", "table.missing=error", "table.labels.topics.dropout=0.5"]
    )
    assert list(found.tasks) == ["stars", "topics", "mood"]
    assert {task.weight for task in found.tasks.values()} == {2}
    topics: Any = found.tasks["topics"]
    assert (topics.kind, topics.separator, topics.dropout, topics.missing) == ("multilabel", ";", 0.5, "error")
    assert topics.dev == "many-dev.parquet"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("missing: skip", "missing: leave", "line 5: tasks.topics.missing"),
        ("topics: multilabel", "topics: multilable", "line 8: tasks.topics.kind: .*did you mean 'multilabel'"),
        ("{kind: ordinal, classes: 4}", "{kind: ordinal, clases: 4}", "line 7: tasks.stars.clases: unknown key"),
        ("label: stars\n", "labl: stars\n", "line 11: tasks.more_stars.labl: unknown key 'labl'"),
        ("{dropout: 0.3}", "{dropout: 3}", "line 15: tasks.stars.dropout"),
        ("dropout: 0.3", "drpout: 0.3", "line 15: tasks.stars.drpout: unknown key"),
        (
            "text: text\n  train",
            "txt: text\n  train",
            "line 2: tasks.topics.txt: unknown key 'txt'; did you mean 'text'",
        ),
        ("  labels:\n", "  label:\n", "line 1: table: names no tasks: `labels:"),
        ("  text: text\n", "  text: text\n  label: x\n", "line 3: table.label: each of `labels` has its own"),
        ("topics: multilabel", "topics: [a]", r"line 8: table.labels.topics: is \['a'\], neither a kind of task"),
    ],
)
def test_a_mistake_names_the_line_where_the_value_stands(before: str, after: str, said: str, tmp_path: Path) -> None:
    assert before in LINES
    found = complaint(recipe(tmp_path, LINES.replace(before, after, 1)))
    assert any(re.search(f"base.yaml, {said}", line) for line in found.splitlines()), found


def test_a_key_that_is_nearly_table_is_shown_it(tmp_path: Path) -> None:
    found = complaint(recipe(tmp_path, LINES.replace("table:", "tabel:").replace("  stars: {dropout: 0.3}\n", "")))
    assert "base.yaml, line 1: tabel: unknown key 'tabel'; did you mean 'table'" in found


def test_an_override_of_a_table_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    assert "command line, table.missing=leave: tasks.topics.missing" in complaint(
        recipe(tmp_path), "table.missing=leave"
    )


def test_two_tables_cannot_name_one_task(tmp_path: Path) -> None:
    table = yaml.safe_load(LINES)["table"]
    with pytest.raises(Mistake, match=r"table.1.labels.stars: is named by two tables"):
        read_recipe({"table": [table, table], "data": str(tmp_path)})


def test_gaps_are_refused_where_the_table_does_not_allow_them(tmp_path: Path) -> None:
    given = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    table = {
        "text": "text",
        "train": "many-train.parquet",
        "dev": "20%",
        "labels": {"stars": "ordinal", "topics": "multilabel"},
    }
    given |= {"table": table, "tasks": {}}
    with pytest.raises(
        Mistake, match=r"row 5: column 'stars': there is no label.*or set .*`missing: skip` on task 'stars'"
    ):
        build(read_recipe(given))
    rows = build(read_recipe(given | {"table": table | {"missing": "skip"}})).rows
    assert sum(len(rows[split]["stars"]) for split in ("train", "dev")) == 39
