"""A kind of task that a person adds goes all the way: no other file knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mtbert
from mtbert.data.kinds.class_scores import ClassScores
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.reports.evaluation import evaluation
from mtbert.runs.build import build
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.serving.results import WRITERS
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, sentence, write_small_data
from tests.support.toy_kind import Counts

pytestmark = pytest.mark.usefixtures("counts_in_the_table")


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    """The small tasks, and how many words a text has."""
    data = write_small_data(tmp_path / "data")
    for split, rows in {"train": range(40), "dev": range(100, 112)}.items():
        lines = [json.dumps({"text": sentence(i), "words": len(sentence(i).split())}) for i in rows]
        (data / f"words-{split}.jsonl").write_text("\n".join(lines) + "\n")
    given = recipe_over(data)
    given["tasks"]["words"] = {
        "kind": "counts",
        "text": "text",
        "label": "words",
        "train": "words-train.jsonl",
        "dev": "words-dev.jsonl",
    }
    given["stages"][0] |= {"sampler": "joint", "combiner": "pcgrad", "regularizers": ["smart", "bregman", "r_drop"]}
    return given


def test_a_new_kind_trains_under_smart_resumes_is_scored_and_predicts(recipe: dict[str, Any], tmp_path: Path) -> None:
    assert_goes_on_to_the_bit(recipe, tmp_path, steps=7)
    run = Run.open(tmp_path / "whole")
    assert [line.terms["words"]["smart"] > 0 for line in run.log if hasattr(line, "terms")] == [True] * 12
    scores = evaluate_run(run.folder)
    assert scores.tasks["words"] == run.scores["dev"]["tasks"]["words"]
    assert set(scores.tasks["words"]) == {"off_by_one", "mean_absolute_error"}
    model = mtbert.load(run.folder)
    assert isinstance(model.model.tasks["words"], Counts)
    said = model.predict("words", [sentence(3), sentence(5)])
    assert all(isinstance(one, int) for one in said)
    assert model.answers("words", [sentence(3)]) == [f"{sentence(3)} -> {said[0]} of them"]
    predictions = model.predict_table("words", tmp_path / "data" / "words-dev.jsonl")
    assert list(predictions.columns) == ["id", "prediction"]
    for ending, write in WRITERS.items():
        with (tmp_path / f"out{ending}").open("wb") as file:
            assert write(file, [predictions]) == 12


def test_reports_know_nothing_of_a_new_kind(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["stages"][0] |= {"regularizers": [], "steps": 4}
    found = check(build(read_recipe(recipe)))
    assert next(split.labels for split in found.splits if split.task == "words").endswith("on average")
    run = mtbert.train(recipe, out=tmp_path / "run")
    scored = evaluation(run.folder).tasks["words"]
    assert scored.classes is None
    around = scored.intervals["mean_absolute_error"]
    assert around is not None
    assert around[0] <= scored.metrics["mean_absolute_error"] <= around[1]
    assert isinstance(evaluation(run.folder).tasks["mood"].classes, ClassScores)


def test_its_bad_labels_are_named_as_those_of_any_other(recipe: dict[str, Any]) -> None:
    path = Path(recipe["data"]) / "words-train.jsonl"
    path.write_text(path.read_text() + json.dumps({"text": "a cold river", "words": -2}) + "\n")
    with pytest.raises(Mistake, match=r"words-train.jsonl, line 41: column 'words': label '-2' is no whole number"):
        build(read_recipe(recipe))


def test_the_divergence_is_the_symmetric_one_of_poisson_distributions() -> None:
    task = Counts(name="n", text=("text",), label="n")
    one, other = torch.tensor([[0.3]]), torch.tensor([[1.1]])
    distributions = [torch.distributions.Poisson(x.exp()) for x in (one, other)]
    expected = torch.distributions.kl_divergence(*distributions) + torch.distributions.kl_divergence(
        *distributions[::-1]
    )
    torch.testing.assert_close(task.divergence(one, other), expected[:, 0])
