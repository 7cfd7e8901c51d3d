"""Data sets of the hub, tried on a folder that is laid out as one: no test reaches a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

import mtbert
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.runs.evaluate import evaluate_run
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, sentence, write_small_data

FILES = {"train": "mood-train.tsv", "validation": "mood-dev.tsv", "test": "mood-test.tsv"}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The task `mood` from a folder with a file a split, as the hub has them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = write_small_data(tmp_path / "data")
    (data / "org" / "moods").mkdir(parents=True)
    for split, file in FILES.items():
        shutil.copy(data / file, data / "org" / "moods" / f"{split}.tsv")
    given = recipe_over(data)
    splits = {"train": "train", "dev": "validation", "test": "test"}
    given["tasks"] = {"mood": given["tasks"]["mood"] | {"hub": "org/moods", **splits}}
    return given


def test_splits_of_a_data_set_are_the_rows_of_its_files(recipe: dict[str, Any]) -> None:
    files = {"train": FILES["train"], "dev": FILES["validation"], "test": FILES["test"]}
    plain = recipe | {"tasks": {"mood": {key: v for key, v in recipe["tasks"]["mood"].items() if key != "hub"} | files}}
    ours, theirs = (build(read_recipe(one)).rows for one in (recipe, plain))
    for split in ("train", "dev"):
        assert ours[split]["mood"].texts[0].to_pylist() == theirs[split]["mood"].texts[0].to_pylist()
        assert (ours[split]["mood"].labels == theirs[split]["mood"].labels).all()


def test_a_run_on_the_hub_goes_on_to_the_bit_and_is_evaluated(recipe: dict[str, Any], tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(recipe, tmp_path, steps=5)
    assert evaluate_run(tmp_path / "whole").tasks["mood"]
    assert evaluate_run(tmp_path / "whole", split="test").tasks["mood"]


def test_a_share_of_a_split_is_set_apart(recipe: dict[str, Any]) -> None:
    recipe["tasks"]["mood"] |= {"hub": {"name": "org/moods", "config": None}, "dev": "20%"}
    rows = build(read_recipe(recipe)).rows
    assert len(rows["train"]["mood"]) + len(rows["dev"]["mood"]) == 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dev": "dev"}, r"org/moods, split 'dev' cannot be had \(.*[Uu]nknown split"),
        ({"hub": "org/none"}, r"the data set org/none, split 'train' cannot be had"),
        ({"hub": {"name": "org/moods", "revison": "x"}}, "tasks.mood.hub.revison: unknown key"),
    ],
)
def test_what_cannot_be_had_is_said(
    recipe: dict[str, Any], change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    recipe["tasks"]["mood"] |= change
    with pytest.raises(Mistake, match=words):
        build(read_recipe(recipe))


def test_a_missing_extra_is_named(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(Mistake, match=r"needs the library datasets: pip install 'mtbert\[hub\]'"):
        build(read_recipe(recipe))


def test_a_dataset_in_memory_is_a_table_in_its_own_order(tmp_path: Path) -> None:
    rows = {
        "id": [*range(30)],
        "text": [sentence(i) for i in range(30)],
        "mood": [["low", "mid", "high"][i % 3] for i in range(30)],
    }
    made = datasets.Dataset.from_dict(rows).shuffle(seed=3).filter(lambda row: row["mood"] != "mid")
    task = {"kind": "classification", "text": "text", "label": "mood", "train": made, "dev": "30%"}
    given = recipe_over(write_small_data(tmp_path / "data")) | {"tasks": {"mood": task}}
    found = build(read_recipe(given))
    assert found.recipe.tasks["mood"].class_names == ("high", "low")
    ids = {split: [int(one) for one in found.rows[split]["mood"].ids] for split in ("train", "dev")}
    assert ids["train"] == [one for one in made["id"] if one not in ids["dev"]]
    assert sorted(ids["train"] + ids["dev"]) == [one for one in range(30) if one % 3 != 1]
    assert mtbert.train(given, out=tmp_path / "run").scores["dev"]["tasks"]["mood"]
