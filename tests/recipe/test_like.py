"""Recipes that are like others: what they take, where their mistakes are said to stand, and what `like` may name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.recipe.text import merged
from tests.support.recipe_files import complaint

BASE = """\
encoder: {name: random, layers: 1}
data: sets
tasks:
  mood: {kind: classification, text: text, label: mood, classes: 3, train: mood.tsv}
  near:
    kind: regression
    text: [a, b]
    label: score
    range: [0, 5]
    limit: 100
modules: [lhuc]
stages:
  - {steps: 5, batch_size: 8, clip: null}
seed: 3
"""


def written(folder: Path, **files: str) -> Path:
    """Files of a folder, and the path of the first one."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def like_base(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    return read_recipe(written(tmp_path, own=f"like: base.yaml\n{text}", base=BASE), overrides)


# ---- what is taken


@pytest.mark.parametrize(
    ("own", "change"),
    [
        ("", {}),
        ("seed: 4", {"seed": 4}),
        ("encoder: {layers: 2}", {"encoder": {"name": "random", "layers": 2}}),
        ("encoder: {layers: null, width: 8}", {"encoder": {"name": "random", "width": 8}}),
        ("encoder: minilm", {"encoder": "minilm"}),
        ("modules: []", {"modules": []}),
        ("modules: [{name: adapter, size: 4}]", {"modules": [{"name": "adapter", "size": 4}]}),
        ("stages: [{epochs: 2}]", {"stages": [{"epochs": 2}]}),
        ("seed: null", {"seed": 11711}),
    ],
)
def test_a_recipe_is_the_other_one_with_its_own_settings(own: str, change: dict[str, Any], tmp_path: Path) -> None:
    whole = yaml.safe_load(BASE) | change | {"data": str(tmp_path / "sets")}
    assert like_base(tmp_path, own).as_yaml() == read_recipe(whole).as_yaml()


def test_tasks_are_merged_key_by_key_and_null_takes_one_away(tmp_path: Path) -> None:
    recipe = like_base(
        tmp_path,
        "tasks:\n  mood: null\n  near: {limit: 7}\n  far: {kind: regression, text: a, label: b, range: [0, 1]}",
    )
    assert list(recipe.tasks) == ["near", "far"]
    assert recipe.tasks["near"].limit == 7
    assert recipe.tasks["near"].text == ("a", "b")


def test_a_name_that_meets_options_stays_the_name(tmp_path: Path) -> None:
    base = BASE.replace("encoder: {name: random, layers: 1}", "encoder: random")
    path = written(tmp_path, own="like: base.yaml\nencoder: {layers: 3}", base=base)
    assert read_recipe(path).encoder.written | {"layers": 3} == read_recipe(path).encoder.written
    assert read_recipe(path).encoder.name == "random"


def test_null_stays_a_value_where_there_is_nothing_to_take_away(tmp_path: Path) -> None:
    assert like_base(tmp_path, "").stages[0].clip is None  # inside a list, which is taken whole
    recipe = like_base(tmp_path, "tasks: {near: {id: null}}")
    assert recipe.tasks["near"].id is None


def test_a_chain_takes_from_the_nearest_that_says_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        own="like: middle.yaml\nencoder: {width: 16}",
        middle="like: base.yaml\nencoder: {width: 8, layers: 2}\nseed: 4",
        base=BASE,
    )
    recipe = read_recipe(path)
    assert (recipe.encoder.options["width"], recipe.encoder.options["layers"], recipe.seed) == (16, 2, 4)
    assert list(recipe.tasks) == ["mood", "near"]


def test_like_is_relative_to_the_recipe_that_says_it_and_data_to_the_one_that_says_that(tmp_path: Path) -> None:
    written(tmp_path / "shared" / "deep", base=BASE)
    written(tmp_path / "shared", middle="like: deep/base.yaml")
    path = written(tmp_path / "mine", own="like: ../shared/middle.yaml")
    assert read_recipe(path).source("mood", "train") == tmp_path / "shared" / "deep" / "sets" / "mood.tsv"
    path = written(tmp_path / "mine", own="like: ../shared/middle.yaml\ndata: here")
    assert read_recipe(path).source("mood", "train") == tmp_path / "mine" / "here" / "mood.tsv"
    path = written(tmp_path / "mine", own="like: ../shared/middle.yaml\ndata: null")
    assert read_recipe(path).source("mood", "train") == tmp_path / "mine" / "mood.tsv"


def test_a_recipe_without_data_has_it_in_its_own_folder_for_those_like_it_too(tmp_path: Path) -> None:
    written(tmp_path / "shared", base=BASE.replace("data: sets\n", ""))
    path = written(tmp_path / "mine", own="like: ../shared/base.yaml")
    assert read_recipe(path).source("mood", "train") == tmp_path / "shared" / "mood.tsv"


def test_overrides_come_after_merging(tmp_path: Path) -> None:
    recipe = like_base(tmp_path, "seed: 4", "seed=5", "stages.0.steps=9", "tasks.near.limit=1", "encoder.width=8")
    assert (recipe.seed, recipe.stages[0].steps, recipe.tasks["near"].limit) == (5, 9, 1)
    assert recipe.encoder.options["width"] == 8
    assert recipe.stages[0].batch_size == 8


def test_a_dict_is_like_a_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, base=BASE)
    monkeypatch.chdir(tmp_path)
    given = {"like": "base.yaml", "encoder": {"layers": 2}}
    recipe = read_recipe(given)
    assert (recipe.encoder.options["layers"], recipe.stages[0].steps) == (2, 5)
    assert recipe.source("mood", "train") == tmp_path / "sets" / "mood.tsv"
    assert given == {"like": "base.yaml", "encoder": {"layers": 2}}


def test_the_recipe_as_run_is_whole(tmp_path: Path) -> None:
    recipe = like_base(tmp_path, "seed: 4")
    assert "like" not in yaml.safe_load(recipe.as_yaml())
    assert read_recipe(yaml.safe_load(recipe.as_yaml())) == recipe


def test_merging_leaves_what_it_is_given_alone() -> None:
    own: dict[str, Any] = {"like": "x", "a": {"b": 1}, "c": None}
    base: dict[str, Any] = {"a": {"d": {"e": 2}}, "c": 3, "f": [1]}
    assert merged([own, base]) == {"a": {"b": 1, "d": {"e": 2}}, "f": [1]}
    assert (own, base) == ({"like": "x", "a": {"b": 1}, "c": None}, {"a": {"d": {"e": 2}}, "c": 3, "f": [1]})


# ---- whose mistake it is


@pytest.mark.parametrize(
    ("own", "base", "said"),
    [
        ("seed: x", BASE, "own.yaml, line 2: seed: "),
        ("", BASE.replace("seed: 3", "seed: x"), "base.yaml, line 14: seed: "),
        ("seed: 4\ntasks:\n  near: {range: [5, 0]}", BASE, "own.yaml, line 4: tasks.near.range: "),
        ("tasks: {near: {limit: 5}}", BASE.replace("[0, 5]", "[5, 0]"), "base.yaml, line 9: tasks.near.range: "),
        ("tasks: {near: {lable: x}}", BASE, "own.yaml, line 2: tasks.near.lable: "),
        ("tasks: {near: {label: null}}", BASE, "own.yaml, line 2: tasks.near.label: needs `label`"),
        ("tasks: {nera: null}", BASE, "own.yaml, line 2: tasks.nera: needs a `kind`"),
        ("", BASE.replace("steps: 5", "steps: -5"), "base.yaml, line 13: stages.0.steps: "),
        ("stages:\n  - {steps: -5}", BASE, "own.yaml, line 3: stages.0.steps: "),
        ("stages:\n  - {batch_size: 5}", BASE, "own.yaml, line 3: stages.0: a stage is `epochs`, `steps` or `minutes`"),
        ("encoder: {layer: 2}", BASE, "own.yaml, line 2: encoder.layer: unknown option"),
        ("encoder: {width: 8}", BASE.replace("layers", "layer"), "base.yaml, line 1: encoder.layer: unknown option"),
        ("keep: mod", BASE, "own.yaml, line 2: keep: unknown measure 'mod'; did you mean 'mood'?"),
        ("kep: mood", BASE, "own.yaml, line 2: kep: unknown key 'kep'; did you mean 'keep'?"),
    ],
)  # fmt: skip
def test_a_mistake_stands_in_the_file_that_says_it(own: str, base: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, own=f"like: base.yaml\n{own}\n", base=base)
    assert complaint(path).startswith(f"{tmp_path}/{said}")


def test_mistakes_of_overrides_stay_with_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, own="like: base.yaml\n", base=BASE)
    assert complaint(path, "stages.0.steps=-1").startswith("command line, stages.0.steps=-1: stages.0.steps: ")
    assert "overrides come after" in complaint(path, "like=base.yaml")


def test_a_base_that_is_no_yaml_says_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, own="like: base.yaml\n", base="seed: 3\nseed: 4\n")
    assert complaint(path) == f"{tmp_path}/base.yaml, line 2: 'seed' is given twice (first on line 1)"


def test_mistakes_of_a_dict_and_of_what_it_is_like(tmp_path: Path) -> None:
    path = written(tmp_path, base=BASE.replace("seed: 3", "seed: x"))
    assert complaint({"like": str(path)}).startswith(f"{path}, line 14: seed: ")
    assert complaint({"like": str(path), "seed": "y"}).startswith("recipe: seed: ")


# ---- what it may not be


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"own": "seed: 1\nlike: none.yaml"}, "{0}/own.yaml, line 2: like: there is no recipe {0}/none.yaml"),
        ({"own": "like: [base.yaml]"}, "{0}/own.yaml, line 1: like: is ['base.yaml'], not the name of a recipe's file"),
        ({"own": "like: 5"}, "{0}/own.yaml, line 1: like: is 5, not the name of a recipe's file"),
        ({"own": "like: .", "base": BASE}, "{0}/own.yaml, line 1: like: there is no recipe {0}"),
        ({"own": "like: own.yaml"}, "{0}/own.yaml, line 1: like: goes round in a circle: {0}/own.yaml -> {0}/own.yaml"),
        (
            {"own": "like: a.yaml", "a": "like: b.yaml", "b": "seed: 1\nlike: ./a.yaml"},
            "{0}/b.yaml, line 2: like: goes round in a circle: "
            "{0}/own.yaml -> {0}/a.yaml -> {0}/b.yaml -> {0}/a.yaml",
        ),
    ],
)  # fmt: skip
def test_a_like_that_cannot_be_followed_is_one_message(files: dict[str, str], said: str, tmp_path: Path) -> None:
    assert complaint(written(tmp_path, **files)) == said.format(tmp_path)


def test_a_mapping_that_holds_itself_is_no_endless_merge(tmp_path: Path) -> None:
    path = written(tmp_path, own="like: base.yaml\ntasks: &all {near: *all}", base=BASE)
    assert "own.yaml, line 2: an alias (`*name`) stands inside of what it names" in complaint(path)


def test_a_like_that_is_null_names_nothing(tmp_path: Path) -> None:
    assert read_recipe(written(tmp_path, own=f"like: null\n{BASE}")) == read_recipe(written(tmp_path, own=BASE))


def test_the_command_says_it_and_exits_with_2(tmp_path: Path) -> None:
    path = written(tmp_path, own="like: own.yaml")
    given = [sys.executable, "-c", "from mtbert.app.cli import main; main()", "check", str(path)]
    ended = subprocess.run(given, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"error: {path}, line 1: like: goes round in a circle: {path} -> {path}\n"
