"""Adding tasks to a trained run: nothing is forgotten, to the bit, and the new task learns."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mtbert
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.reports.check import check
from mtbert.runs.add_task import join
from mtbert.runs.build import build
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.runs.log import Step
from mtbert.serving.course import course_sources
from mtbert.serving.predictor import Predictor
from tests.support.cut_off import Kill, Killed
from tests.support.small import moved, recipe_over, write_small_data

TEXTS = ["good film", "bad plot", "a warm river in a cold garden", "tea"]
PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))


def with_two_tasks(recipe: dict[str, Any]) -> dict[str, Any]:
    tasks = {name: recipe["tasks"][name] for name in ("mood", "same")}
    return recipe | {"tasks": tasks, "modules": ["lhuc"]}


@pytest.fixture
def old(small_recipe: dict[str, Any]) -> dict[str, Any]:
    """Two of the three tasks, a module for each."""
    return with_two_tasks(small_recipe)


@pytest.fixture
def new(small_recipe: dict[str, Any]) -> dict[str, Any]:
    """The third task: a module and a head of its own, its data in a folder of its own."""
    data = Path(small_recipe["data"])
    apart = data.with_name("new data")
    apart.mkdir()
    for split in ("train", "dev", "test"):
        (data / f"near-{split}.jsonl").rename(apart / f"near-{split}.jsonl")
    stage = small_recipe["stages"][0] | {"optimizer": {"lr": 0.05, "weight_decay": 0.1}}
    tasks = {"near": small_recipe["tasks"]["near"]}
    return {"data": str(apart), "tasks": tasks, "modules": ["lhuc"], "stages": [stage]}


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("once")
    return mtbert.train(with_two_tasks(recipe_over(write_small_data(folder / "data"))), out=folder / "RUN")


@pytest.fixture
def run(trained_once: Run, old: dict[str, Any], tmp_path: Path) -> Run:
    """The run of the old tasks, trained on their data."""
    return moved(trained_once, trained_once.folder.parent, tmp_path)


def weights(run: Run) -> dict[str, torch.Tensor]:
    model, _ = load_model(run.part("best"))
    return model.state_dict()


def outputs(run: Run) -> dict[str, torch.Tensor]:
    model = mtbert.load(run.folder)
    return {
        name: model.outputs(name, TEXTS if len(task.text) == 1 else PAIRS) for name, task in model.model.tasks.items()
    }


def assert_nothing_forgotten(before: Run, after: Run) -> None:
    """Every tensor and every output of the earlier run stands in the later one, to the bit."""
    ours, theirs = weights(after), weights(before)
    assert theirs.keys() < ours.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    earlier, later = outputs(before), outputs(after)
    assert earlier.keys() < later.keys()
    assert all(torch.equal(later[task], earlier[task]) for task in earlier)
    for part in ("encoder/model.safetensors", "encoder/tokenizer.json"):
        assert (after.part("best") / part).read_bytes() == (before.part("best") / part).read_bytes()


# ---- what add-task promises


@pytest.mark.parametrize("part", ["all", "heads", "modules", ["heads", "modules"]])
def test_the_earlier_tasks_stay_as_they_were_whatever_train_says(
    run: Run, new: dict[str, Any], tmp_path: Path, part: Any
) -> None:
    new["stages"][0]["train"] = part
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    assert_nothing_forgotten(run, added)


def test_only_the_new_head_and_module_learn_and_both_do(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    recipe = join(run.folder, new)
    fresh = build(recipe).model.state_dict()
    trained = load_file(mtbert.add_task(run.folder, new, out=tmp_path / "RUN2").part("last") / "state.safetensors")
    moved = {name for name in fresh if not torch.equal(fresh[name], trained[f"model.{name}"])}
    assert moved == {name for name in fresh if name.startswith(("heads.near.", "modules_by_task.entries.1.near."))}
    assert len(moved) > 2


def test_the_new_task_learns(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    new["stages"] = [{"steps": 300, "batch_size": 8, "optimizer": {"lr": 0.03}, "evaluate_every": 300}]
    new["tasks"]["near"]["dropout"] = 0.0
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    losses = [step.terms["near"]["loss"] for step in added.log.only(Step)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert_nothing_forgotten(run, added)


def test_the_old_data_is_not_needed(run: Run, new: dict[str, Any], old: dict[str, Any], tmp_path: Path) -> None:
    shutil.rmtree(old["data"])
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    assert_nothing_forgotten(run, added)
    assert set(evaluate_run(added.folder).tasks) == {"near"}
    with pytest.raises(Mistake, match="there is no file"):
        evaluate_run(added.folder, tasks=["mood"])


def test_tasks_are_added_to_a_run_that_tasks_were_added_to(
    run: Run, new: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    second = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    tasks = {"again": old["tasks"]["mood"] | {"pooling": "cls"}}
    recipe = {"data": old["data"], "tasks": tasks, "stages": old["stages"]}
    third = mtbert.add_task(second.folder, recipe, out=tmp_path / "RUN3")
    assert_nothing_forgotten(run, third)
    assert_nothing_forgotten(second, third)
    assert Predictor.load(third.folder).tasks == ["mood", "same", "near", "again"]
    shutil.rmtree(run.folder)
    shutil.rmtree(second.folder)
    assert set(mtbert.load(third.folder).predict("again", TEXTS)) <= {"low", "mid", "high"}


def test_where_only_the_head_learns_features_are_cached_and_the_kept_model_scores_the_same(
    run: Run, new: dict[str, Any], tmp_path: Path
) -> None:
    del new["modules"]
    experiment = build(join(run.folder, new))
    assert experiment.stage(0).trainer.objective.model is not experiment.model
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    assert evaluate_run(added.folder).overall == pytest.approx(added.scores["dev"]["overall"], abs=1e-6)
    assert_nothing_forgotten(run, added)


# ---- the run that comes of it


def test_its_recipe_describes_the_whole_model_and_repeats_the_run(
    run: Run, new: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    recipe = read_recipe(added.folder / "recipe.yaml")
    assert isinstance(recipe, Recipe)
    assert list(recipe.tasks) == ["mood", "same", "near"]
    assert recipe.learned == ["near"]
    assert recipe.encoder.name == "random"
    assert [list(plan.tasks or ()) for plan in recipe.modules] == [["mood", "same"], ["near"]]
    assert recipe.source("mood", "dev") == Path(old["data"]).resolve() / "mood-dev.tsv"
    assert recipe.source("near", "dev") == Path(new["data"]).resolve() / "near-dev.jsonl"
    assert course_sources(added.folder)["same"]["test"] == Path(old["data"]).resolve() / "same-test.csv"
    assert recipe.as_yaml() == (added.folder / "recipe.yaml").read_text() == join(run.folder, new).as_yaml()

    again = mtbert.train(added.folder / "recipe.yaml", out=tmp_path / "again")
    ours, theirs = weights(again), weights(added)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert ours.keys() == theirs.keys()


def test_earlier_tasks_are_scored_on_request_and_as_before(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    assert evaluate_run(added.folder).as_dict() == added.scores["dev"]
    before, after = evaluate_run(run.folder), evaluate_run(added.folder, tasks=["mood", "same"])
    assert after == before
    with pytest.raises(Mistake, match="unknown task 'nera'; did you mean 'near'"):
        evaluate_run(added.folder, tasks=["nera"])


def test_a_dry_run_shows_the_new_task_alone(run: Run, new: dict[str, Any]) -> None:
    report = check(build(join(run.folder, new)))
    assert {split.task for split in report.splits} == {"near"}
    assert report.stages[0].trained == 3 * 16 + 1 + 2 * 16


def test_the_run_that_is_added_to_is_left_as_it_was(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    given = copy.deepcopy(new)
    mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert new == given


@pytest.mark.parametrize("steps", [2, 6, 14])
def test_a_killed_run_resumes_to_the_uninterrupted_one(
    run: Run, new: dict[str, Any], tmp_path: Path, steps: int
) -> None:
    new["stages"] = [new["stages"][0] | {"train": "heads"}, new["stages"][0]]
    whole = mtbert.add_task(run.folder, new, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.add_task(run.folder, new, out=tmp_path / "RUN2", listener=Kill(steps=steps))
    torch.manual_seed(99)
    resumed = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2", resume=True)
    ours, theirs = (load_file(one.part("last") / "state.safetensors") for one in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert resumed.scores == whole.scores
    assert_nothing_forgotten(run, resumed)


def test_a_folder_with_a_run_is_refused_unless_it_is_to_be_replaced(
    run: Run, new: dict[str, Any], tmp_path: Path
) -> None:
    first = mtbert.add_task(run.folder, new, out=tmp_path / "RUN2")
    with pytest.raises(Mistake, match="already holds a run"):
        mtbert.add_task(run.folder, new, out=first.folder)
    mtbert.add_task(run.folder, new, out=first.folder, overrides=["seed=5"], overwrite=True)
    assert read_recipe(first.folder / "recipe.yaml").seed == 5
    with pytest.raises(Mistake, match="is the run that tasks are added to"):
        mtbert.add_task(run.folder, new, out=run.folder, overwrite=True)


# ---- what cannot be added


def refused(run: Run, recipe: Any, tmp_path: Path, match: str, **options: Any) -> None:
    with pytest.raises(Mistake, match=match):
        mtbert.add_task(run.folder, recipe, out=tmp_path / "RUN2", **options)
    assert not (tmp_path / "RUN2").exists()


def test_a_task_that_the_run_has_is_refused(run: Run, old: dict[str, Any], new: dict[str, Any], tmp_path: Path) -> None:
    new["tasks"]["mood"] = old["tasks"]["mood"]
    refused(run, new, tmp_path, r"tasks\.mood: .*already has a task 'mood' \(its tasks: mood, same\)")


def test_an_encoder_in_the_new_recipe_is_refused(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    refused(run, new | {"encoder": "minilm"}, tmp_path, "encoder: it comes from .*RUN and is frozen")
    refused(run, new, tmp_path, "encoder: it comes from", overrides=["encoder.dropout=0.2"])


def test_what_names_an_earlier_task_is_refused(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    refused(run, new | {"modules": [{"name": "lhuc", "tasks": ["mood"]}]}, tmp_path, r"modules\.0\.tasks: unknown task")
    refused(run, new | {"keep": "mood"}, tmp_path, "keep: unknown")
    new["stages"][0]["tasks"] = ["mood"]
    refused(run, new, tmp_path, r"stages\.0\.tasks: unknown task 'mood'")


def test_a_recipe_that_leaves_nothing_to_learn_is_refused(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    del new["modules"]
    new["stages"][0]["train"] = "modules"
    refused(run, new, tmp_path, "leaves nothing to train")


def test_the_recipe_of_a_grown_run_is_trained_not_added(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN1b")
    refused(run, added.folder / "recipe.yaml", tmp_path, "`mtbert train` repeats it")


def test_a_grown_run_does_not_overwrite_what_it_stands_on(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    added = mtbert.add_task(run.folder, new, out=tmp_path / "RUN1b")
    before = (run.folder / "recipe.yaml").read_text()
    with pytest.raises(Mistake, match="is the run that tasks are added to"):
        mtbert.train(added.folder / "recipe.yaml", out=run.folder, overwrite=True)
    assert (run.folder / "recipe.yaml").read_text() == before


def test_a_folder_without_a_run_is_refused(new: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="holds no run"):
        mtbert.add_task(tmp_path / "nowhere", new, out=tmp_path / "RUN2")


def test_a_grown_recipe_edited_by_hand_cannot_unfreeze_anything(run: Run, new: dict[str, Any], tmp_path: Path) -> None:
    grown = join(run.folder, new).model_dump(mode="json")

    def edited(**changes: Any) -> dict[str, Any]:
        return copy.deepcopy(grown) | changes

    for recipe, match in (
        (edited(base=grown["base"] | {"tasks": ["mood"]}), "has the tasks mood, same, not mood"),
        (edited(base=grown["base"] | {"tasks": ["mood", "same", "near"]}), "there is none to add"),
        (edited(base=grown["base"] | {"tasks": ["moot"]}), "unknown task 'moot'"),
        (edited(stages=[grown["stages"][0] | {"tasks": ["mood", "near"]}]), r"'mood' comes from .* is frozen"),
        (edited(stages=[grown["stages"][0] | {"tasks": None}]), r"'mood' comes from .* is frozen"),
        (edited(keep="same"), "unknown measure 'same'"),
        (edited(modules=grown["modules"][1:]), "begin otherwise"),
        (edited(modules=[*grown["modules"], {"name": "lhuc", "tasks": ["same"]}]), "would change same"),
    ):
        with pytest.raises(Mistake, match=match):
            mtbert.train(recipe, out=tmp_path / "RUN2")
    assert not (tmp_path / "RUN2").exists()
