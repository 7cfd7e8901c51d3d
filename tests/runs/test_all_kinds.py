"""All kinds of tasks in one run, some of them from one Parquet file with gaps; no code is written for any of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertModel

import mtbert
from mtbert.comparison.measured import metrics_of
from mtbert.data.labels import as_arrays, from_arrays, same
from mtbert.data.tables import read_rows
from mtbert.model.checkpoints import load_model
from mtbert.model.modes import evaluating
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.reports.evaluation import evaluation
from mtbert.runs.build import build
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.serving.results import WRITERS
from mtbert.shipping.export import Wanted, export
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, sentence, with_more_kinds, write_small_data

GIVEN: dict[str, list[Any]] = {"same": [("tea", "river")], "near": [("tea", "river")], "near_joint": [("tea", "river")]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Seven kinds of tasks, cut off and resumed to the bit."""
    folder = tmp_path_factory.mktemp("kinds")
    recipe = with_more_kinds(recipe_over(write_small_data(folder / "data")))
    recipe["tasks"]["near_joint"] = recipe["tasks"]["near"] | {"pairs": "joint", "symmetric": True}
    recipe["modules"] = [{"name": "adapter", "size": 4}]
    recipe["stages"][0] |= {"sampler": "joint", "steps": 6, "evaluate_every": 3, "combiner": "pcgrad"}
    recipe["stages"][0] |= {
        "weighting": "uncertainty",
        "regularizers": ["r_drop"],
        "observe": [{"name": "conflict", "every": 3}],
    }
    recipe["keep"] = "stars.accuracy"
    recipe["overall"] = {"stars": 2}
    assert_goes_on_to_the_bit(recipe, folder, steps=4)
    return Run.open(folder / "cut")


def test_all_kinds_are_scored_as_they_were_in_training(trained: Run) -> None:
    found = evaluate_run(trained.folder)
    assert found.tasks == trained.scores["dev"]["tasks"]
    assert {task: next(iter(metrics)) for task, metrics in found.tasks.items()} == {
        "mood": "accuracy",
        "same": "accuracy",
        "near": "pearson",
        "stars": "qwk",
        "topics": "macro_f1",
        "names": "span_f1",
        "near_joint": "pearson",
    }
    counted = found.normalised | {"again": found.normalised["stars"]}  # which counts twice
    assert found.overall == pytest.approx(sum(counted.values()) / len(counted))


def test_all_kinds_have_intervals_a_constant_and_their_classes(trained: Run) -> None:
    report = evaluation(trained.folder)
    for name, task in report.tasks.items():
        assert task.constant is not None, name
        assert set(task.intervals) == set(task.metrics) == set(task.constant)
        assert all(span is None or span[0] - 1e-9 <= span[1] for span in task.intervals.values())
    found = report.tasks["names"].classes
    assert found is not None
    assert [one.name for one in found.classes] == ["THING"]
    assert json.dumps(report.as_dict())


def test_all_kinds_predict_texts_and_files(trained: Run, tmp_path: Path) -> None:
    model = mtbert.load(trained.folder)
    for task in model.tasks:
        texts = GIVEN.get(task, [sentence(5)])
        (said,) = model.predict(task, texts)
        (line,) = model.answers(task, list(texts[0]) if task in GIVEN else texts)
        assert " -> " in line
        recipe = trained.recipe()
        parts = model.predict_table(task, recipe.source(task, "dev"))
        for ending, write in WRITERS.items():
            with (tmp_path / f"{task}{ending}").open("wb") as file:
                assert write(file, [parts]) == len(parts.ids)
        if task == "names":
            assert [word for word, _ in said] == sentence(5).split()
            assert pq.read_table(tmp_path / "names.parquet").column("words").to_pylist()[0] == sentence(100).split()
            assert model.predict(task, [sentence(5).split()]) == [said]
            rows = [json.loads(row) for row in (tmp_path / "names.jsonl").read_text().splitlines()]
            assert [len(row["words"]) for row in rows] == [len(row["prediction"]) for row in rows]
        if task == "topics":
            assert set(said) <= {"art", "food", "home"}
            assert set(model.probabilities(task, texts)[0]) == {"art", "food", "home"}


def test_the_encoder_of_such_a_run_opens_elsewhere(trained: Run) -> None:
    assert BertModel.from_pretrained(trained.part("best") / "encoder").config.hidden_size == 16


def test_check_looks_at_all_kinds(trained: Run) -> None:
    report = check(
        build(read_recipe(trained.recipe().model_dump(mode="json") | {"data": str(trained.folder.parent / "data")}))
    )
    assert {split.task for split in report.splits} == set(trained.recipe().tasks)
    rows = {split.task: split.rows for split in report.splits if split.split == "train"}
    assert rows["stars"] == 39  # of 48, 9 without a label


def test_labels_of_all_kinds_go_to_disk_and_back(trained: Run) -> None:
    recipe = trained.recipe()
    rows = {name: read_rows(task, recipe.source(name, "dev")) for name, task in recipe.tasks.items()}
    labels = {name: some.labels for name, some in rows.items() if some.labels is not None}
    arrays = {part: array for name, some in labels.items() for part, array in as_arrays(name, some).items()}
    again = from_arrays(arrays)
    assert all(same(again[name], some).all() for name, some in labels.items())
    found = metrics_of(rows, again)
    assert all(recipe.tasks[name].normalised(metrics) == pytest.approx(1) for name, metrics in found.items())


def test_typos_leave_words_and_labels_beside_each_other(trained: Run) -> None:
    changed = evaluate_run(trained.folder, tasks=["names"], perturbed_by=3)
    assert set(changed.tasks["names"]) == {"span_f1", "span_precision", "span_recall", "accuracy"}


def test_a_symmetric_pair_says_the_same_in_both_orders(trained: Run) -> None:
    model = mtbert.load(trained.folder)
    one, other = (model.outputs("near_joint", [pair]) for pair in (("tea", "a warm river"), ("a warm river", "tea")))
    torch.testing.assert_close(one, other)


def test_long_texts_give_every_word_an_answer(trained: Run, tmp_path: Path) -> None:
    model = mtbert.load(trained.folder)
    (said,) = model.predict("names", [["tea"] * 700])
    assert [tag for _, tag in said[-100:]] == ["O"] * 100


def test_the_encoder_of_all_kinds_is_exported_with_the_states_that_it_has_here(tmp_path: Path) -> None:
    recipe = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    recipe["tasks"]["near_joint"] = recipe["tasks"]["near"] | {"pairs": "joint"}
    recipe["stages"][0] |= {"sampler": "joint", "steps": 2, "evaluate_every": 2}
    run = mtbert.train(recipe, out=tmp_path / "run")
    assert set(run.scores["dev"]["tasks"]) == {"mood", "same", "near", "near_joint", "stars", "topics", "names"}
    assert export(Wanted(run.folder, task="names"), "encoder", tmp_path / "encoder") is None
    there = BertModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False)
    model, _ = load_model(run.part("best"))
    batch = build(run.recipe()).sets["dev"]["names"].batch([0, 1, 2])
    with evaluating(model), torch.no_grad():
        *_, ours = model.states(model.embed(batch), batch)
        theirs = there(batch.tokens, batch.mask.long(), batch.segments).last_hidden_state
    torch.testing.assert_close(theirs[batch.mask], ours[batch.mask], rtol=1e-4, atol=1e-5)


def test_heads_alone_are_trained_on_words_too(trained: Run, tmp_path: Path) -> None:
    recipe: dict[str, Any] = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    recipe["stages"][0] |= {"train": "heads", "steps": 3, "evaluate_every": 3}
    assert mtbert.train(recipe, out=tmp_path / "run").scores["dev"]["tasks"]["names"]
