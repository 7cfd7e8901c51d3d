"""What a recipe leaves to the data is found there, and everything wrong with files and recipe is told at once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import mtbert
from mtbert.data.tables import Rows
from mtbert.errors import Mistake, Mistakes
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import DEFAULT_STAGE, Stage
from mtbert.runs.build import build
from mtbert.runs.data import mistakes_of_data_too, read_data, read_splits
from mtbert.runs.evaluate import evaluate_run
from tests.support.small import sentence


@pytest.fixture
def open_recipe(small_recipe: dict[str, Any]) -> dict[str, Any]:
    """The small recipe with classes, range and dev sets left to the data."""
    for task in small_recipe["tasks"].values():
        for key in ("classes", "range", "dev", "test"):
            task.pop(key, None)
        task["dev"] = "20%"
    return small_recipe


def messages(recipe: dict[str, Any] | Path) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        look_at(recipe)
    return list(caught.value.messages)


def look_at(recipe: dict[str, Any] | Path) -> None:
    with mistakes_of_data_too():
        read = read_recipe(recipe)
    read_data(read, read.learned, ["train", "dev"], ["test"])


# ---- what need not be typed


def test_classes_and_range_are_found_in_train_and_written_into_the_run(
    open_recipe: dict[str, Any], tmp_path: Path
) -> None:
    run = mtbert.train(open_recipe, out=tmp_path / "run")
    written = yaml.safe_load((run.folder / "recipe.yaml").read_text(encoding="utf-8"))["tasks"]
    assert written["mood"]["classes"] == ["high", "low", "mid"]
    assert written["same"]["classes"] == ["0", "1"]
    assert written["near"]["range"] == [0.0, 5.0]
    assert written["mood"]["dev"] == "20%"
    again = mtbert.train(open_recipe, out=run.folder, resume=True)  # which compares recipes
    assert evaluate_run(again.folder).as_dict()["overall"] == pytest.approx(run.scores["dev"]["overall"])


def test_a_recipe_with_open_ends_reads_back_as_itself(open_recipe: dict[str, Any]) -> None:
    recipe = read_recipe(open_recipe)
    assert read_recipe(yaml.safe_load(recipe.as_yaml())) == recipe
    assert "classes" not in yaml.safe_load(recipe.as_yaml())["tasks"]["mood"]


def test_a_recipe_without_stages_has_the_default_one(small_recipe: dict[str, Any]) -> None:
    del small_recipe["stages"]
    assert read_recipe(small_recipe).stages == (Stage(**DEFAULT_STAGE),)
    (stage,) = read_recipe(small_recipe, ["stages.0.epochs=1", "stages.0.optimizer.lr=1e-3"]).stages
    assert stage == Stage(**DEFAULT_STAGE | {"epochs": 1, "optimizer": {"lr": 1e-3}})
    (stage,) = read_recipe(small_recipe | {"stage_defaults": {"steps": 7, "batch_size": 4}}).stages
    assert (stage.epochs, stage.steps, stage.batch_size) == (None, 7, 4)
    small_recipe["stages"] = []
    with pytest.raises(Mistake, match="stages: needs at least 1"):
        read_recipe(small_recipe)


def test_a_class_that_only_dev_has_is_named(small_recipe: dict[str, Any]) -> None:
    del small_recipe["tasks"]["mood"]["classes"]
    path = Path(small_recipe["data"], "mood-dev.tsv")
    path.write_text(path.read_text() + "999\ta film\tgreat\n")
    (message,) = messages(small_recipe)
    assert "mood-dev.tsv, line 14: column 'mood': label 'great' is not one of high, low, mid" in message
    assert f"(as found in {small_recipe['data']}/mood-train.tsv)" in message


def test_a_score_of_dev_outside_the_range_of_train_is_named(small_recipe: dict[str, Any]) -> None:
    del small_recipe["tasks"]["near"]["range"]
    path = Path(small_recipe["data"], "near-dev.jsonl")
    path.write_text(path.read_text() + json.dumps({"a": "x", "b": "y", "score": 5.5}) + "\n")
    (message,) = messages(small_recipe)
    assert "near-dev.jsonl, line 13: column 'score': label '5.5' is outside the range 0 to 5" in message


def test_labels_that_are_none_are_refused(small_recipe: dict[str, Any]) -> None:
    mood = small_recipe["tasks"]["mood"]
    del mood["classes"]
    for column, said in {"text": "different labels in 40 rows", "id": "for scores write `kind: regression`"}.items():
        mood["label"] = column
        assert any(said in message for message in messages(small_recipe)), column


def test_a_dev_set_that_is_missing_is_offered(small_recipe: dict[str, Any]) -> None:
    del small_recipe["tasks"]["mood"]["dev"]
    (message,) = messages(small_recipe)
    assert "task 'mood' names no `dev` rows" in message
    assert "`dev: 10%`" in message


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"train": "10%"}, "train is a file, not a share"),
        ({"dev": "0%"}, "above 0%"),
        ({"dev": "30%", "test": "30%"}, "50% together at most"),
    ],
)
def test_shares_that_make_no_sense_are_refused(keys: dict[str, Any], said: str, small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["mood"] |= keys
    with pytest.raises(Mistake, match=re.escape(said)):
        read_recipe(small_recipe)


# ---- splits over the tasks of a file


def write_shared(folder: Path) -> dict[str, Any]:
    """Two tasks on one file of 300 rows, the second on pairs; every third row repeats a text of an earlier one."""
    folder.mkdir(exist_ok=True)
    lines = [f"{sentence(i, 9)} {i - i % 3}\t{sentence(i + 5, 9)} b{i}\t{i % 2}\t{i % 11 / 2}" for i in range(300)]
    (folder / "all.tsv").write_text("\n".join(["a\tb\tlabel\tscore", *lines]) + "\n")
    return {
        "data": str(folder),
        "tasks": {
            "one": {"kind": "classification", "text": "a", "label": "label", "train": "all.tsv", "dev": "10%"},
            "two": {"kind": "regression", "text": ["a", "b"], "label": "score", "train": "./all.tsv", "test": "20%"},
        },
    }


def texts_of(rows: Rows) -> set[str]:
    return {text for column in rows.texts for text in column.to_pylist()}


def test_no_task_trains_on_what_another_is_scored_on(tmp_path: Path) -> None:
    recipe = write_shared(tmp_path)
    recipe["tasks"]["two"]["dev"] = "10%"
    read = read_recipe(recipe)
    rows = read_splits(read, ["one", "two"], ["train", "dev"])
    rows["test"] = read_splits(read, ["two"], ["test"])["test"]
    sides = {side: set.union(*map(texts_of, by_task.values())) for side, by_task in rows.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not sides[one] & sides[other]
    # asked for alone, a split is the same
    alone = read_splits(read, ["one"], ["dev"])["dev"]["one"]
    assert texts_of(alone) == texts_of(rows["dev"]["one"])


def test_a_task_that_names_its_own_dev_file_does_not_train_on_what_is_set_apart(tmp_path: Path) -> None:
    recipe = write_shared(tmp_path)
    lines = (tmp_path / "all.tsv").read_text().splitlines()
    (tmp_path / "dev.tsv").write_text("\n".join([lines[0], "x\ty\t1\t2.5", "z\tu\t0\t1.5"]) + "\n")
    recipe["tasks"]["two"] |= {"dev": "dev.tsv", "test": None}
    rows = read_splits(read_recipe(recipe), ["one", "two"], ["train", "dev"])
    assert not texts_of(rows["train"]["two"]) & texts_of(rows["dev"]["one"])
    assert texts_of(rows["dev"]["two"]) == {"x", "y", "z", "u"}


def test_tasks_of_one_file_agree_on_the_share(tmp_path: Path) -> None:
    recipe = write_shared(tmp_path)
    recipe["tasks"]["two"]["dev"] = "20%"
    assert any("these set different shares apart for dev" in message for message in messages(recipe))


# ---- one file, several tasks


def test_where_chooses_the_rows_of_a_task(tmp_path: Path) -> None:
    lines = [f"{'mood' if i % 2 else 'tone'}\ttext {i}\t{'ab'[i % 4 // 2]}{i % 2}" for i in range(40)]
    (tmp_path / "all.tsv").write_text("\n".join(["task\ttext\tlabel", *lines]) + "\n")
    task = {"kind": "classification", "text": "text", "label": "label", "train": "all.tsv", "dev": "20%"}
    mood: dict[str, Any] = task | {"where": {"task": "mood"}}
    recipe: dict[str, Any] = {"data": str(tmp_path), "tasks": {"mood": mood}}
    read, rows = read_data(read_recipe(recipe), ["mood"], ["train", "dev"])
    assert read.tasks["mood"].classes == ("a1", "b1")  # type: ignore[attr-defined]
    texts = texts_of(rows["train"]["mood"]) | texts_of(rows["dev"]["mood"])
    assert texts == {f"text {i}" for i in range(1, 40, 2)}

    mood["classes"] = ["a1", "c1"]
    (message,) = messages(recipe)
    assert "all.tsv, line 5: column 'label': label 'b1'" in message
    mood["where"] = {"task": "moods"}
    assert "no row has moods in column 'task' (it holds mood 20, tone 20)" in messages(recipe)[0]


# ---- everything wrong at once


def test_ten_mistakes_in_four_files_and_the_recipe_are_told_at_once(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    data, tasks = Path(small_recipe["data"]), small_recipe["tasks"]
    mood = (data / "mood-train.tsv").read_text().splitlines()
    mood[3], mood[7], mood[9] = "2\tgood film\thuge", "6\tbad plot", "8\t\tlow"  # 1 to 3: label, columns, text
    (data / "mood-train.tsv").write_text("\n".join(mood) + "\n")
    tasks["same"] |= {"text": ["frist", "second"], "label": "equal"}  # 4, 5: columns that are not there
    names = ["one", "two", "three"]
    rows = [{"a": sentence(i), "b": sentence(i + 1), "score": i, "sort": names[i % 3]} for i in range(40)]  # 6: range
    (data / "near-train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "near-dev.jsonl").write_text('{"a": "x", "b": "y", "score": 1}\n{"a": "x", "b"\n')  # 7: not JSON
    (data / "mood-test.tsv").unlink()  # 8: a test file that is missing
    tasks["sort"] = {"kind": "classification", "text": "a", "label": "sort", "classes": 3, "train": "near-train.jsonl"}
    # 9: names where numbers are said, and 10: no dev set; 11: an option that there is not
    small_recipe["stages"][0]["optimizer"] = {"learning_rate": 1e-3}
    small_recipe["tasks"] = tasks
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe))

    found = messages(tmp_path / "recipe.yaml")
    expected = [
        r"mood-train.tsv, line 4: column 'mood': label 'huge' is not one of low, mid, high",
        r"mood-train.tsv, line 8: 2 columns where the header has 3",
        r"mood-train.tsv, line 10: column 'text' is empty",
        r"same-train.csv: unknown column for the text: 'frist'; did you mean 'first'\?",
        r"same-train.csv: unknown column for the label: 'equal'",
        r"near-train.jsonl, line 7: column 'score': label '6' is outside .* write `range: \[0, 40\]`",
        r"near-dev.jsonl, line 2: not JSON",
        r"there is no file .*mood-test.tsv",
        r"near-train.jsonl, line 1: column 'sort': label 'one' .* write `classes: \[one, three, two\]`",
        r"task 'sort' names no `dev` rows.*`dev: 10%`",
        r"recipe.yaml, line \d+: stages.0.optimizer.learning_rate: unknown option",
    ]
    for pattern in expected:
        assert any(re.search(pattern, message) for message in found), (pattern, found)
    assert len(found) == len(set(found))
    assert not any("bad_rows: skip" in message for message in found if "near-train" in message)

    with pytest.raises(Mistake) as trained:
        mtbert.train(tmp_path / "recipe.yaml", out=tmp_path / "run")
    for pattern in expected:
        assert re.search(pattern, str(trained.value)), pattern


def test_no_mistake_of_a_file_hides_another(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    data, tasks = Path(small_recipe["data"]), small_recipe["tasks"]
    near = [json.dumps({"a": sentence(i), "b": sentence(i + 1), "score": i % 5}) for i in range(40)]
    near[3], near[5] = '{"a": "x", "b"', "[1, 2]"
    near[8], near[9] = '{"a": "x", "b": "y", "score": 7}', '{"a": "x", "b": "y", "score": "many"}'
    near[10], near[12] = '{"a": "x", "b": "y", "score": "nan"}', '{"a": " ", "b": "y", "score": 1}'
    (data / "near-train.jsonl").write_text("\n".join(near) + "\n")
    tasks["near"] |= {"max_length": 2, "colour": "red"}  # beside which the file is read all the same
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe))
    found = messages(tmp_path / "recipe.yaml")
    file = "near-train.jsonl, line"
    expected = [
        rf"{file} 4: not JSON .* \(1 more like it\); mend the file$",
        rf"{file} 9: column 'score': label '7' is outside the range 0 to 5; mend the file$",
        rf"{file} 10: column 'score': label 'many' is not a number",
        rf"{file} 11: column 'score': label 'nan' is not a finite number",
        rf"{file} 13: column 'a' is empty",
        r"tasks.near.max_length: ",
        r"tasks.near.colour: unknown key",
    ]
    assert len(found) == len(expected)
    for pattern in expected:
        assert any(re.search(pattern, message) for message in found), (pattern, found)


def test_a_line_that_is_no_json_is_left_out_where_bad_rows_are(small_recipe: dict[str, Any]) -> None:
    path = Path(small_recipe["data"], "near-train.jsonl")
    path.write_text(path.read_text() + '{"a": "cut off')
    small_recipe["tasks"]["near"]["bad_rows"] = "skip"
    recipe = read_recipe(small_recipe)
    rows = read_splits(recipe, ["near"], ["train"])["train"]["near"]
    assert (len(rows), len(rows.skipped)) == (40, 1)
    assert "line 41: not JSON" in rows.skipped[0]


def test_training_asks_for_no_test_file(small_recipe: dict[str, Any]) -> None:
    Path(small_recipe["data"], "mood-test.tsv").unlink()
    build(read_recipe(small_recipe))
    with pytest.raises(Mistake, match="mood-test"):
        build(read_recipe(small_recipe), looked_at=["test"])
