"""What a recipe says for all tasks or stages at once, and overrides that mean every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mtbert.recipe.reading import read_recipe
from tests.support.recipe_files import complaint, recipe_file

LINES = """\
task_defaults: {dropout: 0.3, head: {name: linear, activation: relu}, limit: 20}
stage_defaults:
  epochs: 2
  optimizer: {lr: 1.0e-3, weight_decay: 0.01}
  clip: null
tasks:
  mood: {kind: classification, text: text, label: mood, classes: 3, dropout: 0.0, limit: null}
  near: {kind: regression, text: [a, b], label: score, range: [0, 5], head: sigmoid}
stages:
  - {optimizer: {lr: 1.0e-4}}
  - {epochs: null, steps: 5, clip: 1.0}
"""


def recipe(folder: Path, text: str = LINES, like: str | None = None) -> Path:
    return recipe_file(folder, text, like)


def test_every_task_and_stage_has_the_defaults_where_it_says_nothing_itself(tmp_path: Path) -> None:
    spelt = yaml.safe_load(LINES)
    del spelt["task_defaults"], spelt["stage_defaults"]
    spelt["tasks"]["mood"] |= {"head": {"name": "linear", "activation": "relu"}}
    del spelt["tasks"]["mood"]["limit"]
    # `sigmoid` is another head, but as with `like` a name alone leaves all options behind
    spelt["tasks"]["near"] |= {"dropout": 0.3, "limit": 20}
    spelt["stages"] = [
        {"epochs": 2, "clip": None, "optimizer": {"lr": 1e-4, "weight_decay": 0.01}},
        {"steps": 5, "clip": 1.0, "optimizer": {"lr": 1e-3, "weight_decay": 0.01}},
    ]
    found = read_recipe(recipe(tmp_path))
    assert found == read_recipe(spelt | {"data": str(tmp_path)})
    assert "defaults" not in found.as_yaml()


def test_a_recipe_that_is_like_another_changes_its_defaults_key_by_key(tmp_path: Path) -> None:
    found = read_recipe(recipe(tmp_path, like="task_defaults: {dropout: 0.2}\nstage_defaults: {epochs: 4}\n"))
    assert [task.dropout for task in found.tasks.values()] == [0.0, 0.2]
    assert [(stage.epochs, stage.steps) for stage in found.stages] == [(4, None), (None, 5)]
    assert found.stages[0].optimizer.options["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("dropout: 0.3", "dropout: 3", "base.yaml, line 1: tasks.near.dropout: "),
        ("weight_decay: 0.01", "weight_decay: -1", "base.yaml, line 4: stages.0.optimizer.weight_decay: "),
        ("dropout: 0.0", "dropout: 4", "base.yaml, line 7: tasks.mood.dropout: "),
        ("head: sigmoid", "head: sigmod", "base.yaml, line 8: tasks.near.head"),
        ("epochs: 2", "epoch: 2", "base.yaml, line 3: stages.0.epoch: unknown key 'epoch'; did you mean 'epochs'"),
        ("task_defaults:", "task_default:", "line 1: task_default: .*did you mean 'task_defaults'"),
    ],
)
def test_a_mistake_names_the_line_where_the_value_stands(before: str, after: str, said: str, tmp_path: Path) -> None:
    assert LINES.count(before) == 1
    found = complaint(recipe(tmp_path, LINES.replace(before, after)))
    assert any(re.search(said, line) for line in found.splitlines()), found


def test_a_mistake_names_the_file_that_says_the_default(tmp_path: Path) -> None:
    found = complaint(recipe(tmp_path, like="seed: 3\ntask_defaults: {dropout: 5}\n"))
    assert f"{tmp_path / 'own.yaml'}, line 3: tasks.near.dropout" in found
    found = complaint(recipe(tmp_path, LINES.replace("dropout: 0.3", "dropout: 7"), like="seed: 3\n"))
    assert f"{tmp_path / 'base.yaml'}, line 1: tasks.near.dropout" in found
    assert "command line, task_defaults.dropout=8: tasks.near.dropout" in complaint(
        recipe(tmp_path), "task_defaults.dropout=8"
    )


def test_defaults_are_keys_and_values(tmp_path: Path) -> None:
    assert "task_defaults: holds 5 where keys and values are expected" in complaint(
        recipe(tmp_path, like="task_defaults: 5\n")
    )


def test_a_star_means_every_entry(tmp_path: Path) -> None:
    found = read_recipe(recipe(tmp_path), ["tasks.*.dropout=0.5", "stages.*.epochs=null", "stages.*.steps=7"])
    assert [task.dropout for task in found.tasks.values()] == [0.5, 0.5]
    assert [(stage.epochs, stage.steps) for stage in found.stages] == [(None, 7), (None, 7)]


def test_a_mistake_in_an_override_of_all_is_said_once_for_each(tmp_path: Path) -> None:
    found = complaint(recipe(tmp_path), "stages.*.batch_size=0").splitlines()
    assert [line.split(": ")[:2] for line in found] == [
        ["command line, stages.*.batch_size=0", f"stages.{number}.batch_size"] for number in (0, 1)
    ]


@pytest.mark.parametrize("key", ["modules.*.size", "seed.*", "data.*.x", "tasks.mood.label.*"])
def test_a_star_needs_something_to_mean(key: str, tmp_path: Path) -> None:
    assert complaint(recipe(tmp_path, LINES + "seed: 1\ndata: .\n"), f"{key}=1").startswith(f"command line, {key}=1: ")
