"""`mtbert calibrate`: stored with the model, used by what loads it, and the folder stays whole."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import sklearn.metrics

import mtbert
from mtbert.app import cli
from mtbert.errors import Mistake
from mtbert.model.files import seal, verify
from mtbert.pages.run_page import run_page
from mtbert.reports.decisions import Decisions, calibrate
from mtbert.reports.errors import errors
from mtbert.reports.evaluation import evaluation
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.decisions import NOT_SURE
from tests.support.html import Seen
from tests.support.screen import shown_lines
from tests.support.small import recipe_over, sentence, with_more_kinds, write_small_data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("decided")
    data = write_small_data(folder / "data")
    for file, heading in (("mood-dev.tsv", 1), ("same-dev.csv", 1)):  # more rows, so that there is something to fit
        lines = (data / file).read_text().splitlines()
        (data / file).write_text("\n".join(lines[:heading] + 4 * lines[heading:]) + "\n")
    return mtbert.train(recipe_over(data), out=folder / "run")


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(trained.folder, tmp_path / "run")))


def test_probabilities_are_cooled_and_the_folder_stays_whole(run: Run) -> None:
    texts = [sentence(number) for number in range(12)]
    before = mtbert.load(run.folder).outputs("mood", texts)
    found = calibrate(run, tasks=["mood"])
    verify(run.folder / BEST)
    assert not run.strangers
    temperature = found.tasks["mood"].decision.temperature
    said = mtbert.load(run.folder).probabilities("mood", texts)
    expected = (before.double() / temperature).softmax(-1)
    assert [list(one.values()) for one in said] == [pytest.approx(row.tolist(), abs=1e-6) for row in expected]
    assert run.scores["dev"]["tasks"].keys() == {"mood", "same", "near"}


def test_mistakes_and_pictures_are_of_what_is_decided(run: Run) -> None:
    data = Path(run.recipe().data) / "same-dev.csv"
    plainly = mtbert.load(run.folder).probabilities("same", pa.csv.read_csv(data))
    seconds = sorted({round(one["1"], 4) for one in plainly})
    middle = len(seconds) // 2
    # the second class from the middle of what there is on, sure of some rows only
    decision = {"threshold": sum(seconds[middle - 1 : middle + 1]) / 2, "temperature": 1.0, "sure_from": 0.5}
    calibrate(run, tasks=["same"], metric="f1")
    file = run.folder / BEST / "decisions.json"
    content = json.loads(file.read_text())
    content["same"]["decision"] |= decision
    file.write_text(json.dumps(content))
    seal(run.folder / BEST)
    rows = pa.csv.read_csv(data).to_pylist()
    said = [int(one["1"] >= decision["threshold"]) for one in plainly]
    sure = [one[str(there)] >= 0.5 for one, there in zip(plainly, said, strict=True)]
    assert len(set(sure)) == 2
    wrong = sorted(
        (str(row["id"]), str(there) if fine else f"{NOT_SURE} ({there})")
        for row, there, fine in zip(rows, said, sure, strict=True)
        if there != row["same"]
    )
    report = errors(run, tasks=["same", "mood"])
    assert sorted((one.id, one.said) for one in report.tasks["same"].mistakes) == wrong
    assert [note.partition(":")[0] for note in report.notes] == ["same"]
    counted = sklearn.metrics.confusion_matrix([row["same"] for row in rows], said)
    seen = Seen(run_page(run))
    assert [[int(cell) for cell in row[1:]] for row in seen.table("label", "0", "1")] == counted.tolist()
    assert "mistakes here are of what is said so" in seen.text


def test_it_says_when_it_is_not_sure(run: Run, tmp_path: Path) -> None:
    found = calibrate(run, tasks=["same"], metric="f1", precision=0.5)
    file = run.folder / BEST / "decisions.json"
    content = json.loads(file.read_text())
    assert content["same"]["decision"]["threshold"] == found.tasks["same"].decision.threshold
    model = mtbert.load(run.folder)
    model.decisions["same"] = type(model.decisions["same"])(sure_from=1.0)
    assert model.predict("same", [("good film", "bad film")]) == [NOT_SURE]
    assert model.answers("same", ["good film", "bad film"])[0].startswith(f"good film | bad film -> {NOT_SURE}: ")
    source = [{"first": "good film", "second": "bad film"}]
    import pyarrow as pa

    assert model.predict_table("same", pa.Table.from_pylist(source)).columns["prediction"] == [NOT_SURE]


def test_the_table_has_the_columns_of_what_was_asked_for(run: Run) -> None:
    def heads(found: Decisions) -> str:
        return " ".join(line for line in shown_lines(found, 200) if line.startswith("task"))

    assert heads(calibrate(run)).split() == ["task", "temperature", "ECE", "Brier"]
    assert heads(calibrate(run, metric="macro_f1")).split()[-1] == "metric"
    assert heads(calibrate(run, precision=0.5)).endswith("right where sure")


def test_the_page_shows_what_was_decided(run: Run) -> None:
    found = calibrate(run, metric="f1", precision=0.4)
    seen = Seen(run_page(run))
    held = found.tasks["same"].held_out
    assert f"{held.error_before:.4f} → {held.error:.4f}" in seen.text
    assert "near" in found.left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "mod"], "did you mean 'mood'"),
        (["--metric", "f3"], "valid: accuracy, all_right, balanced_accuracy, f1"),
        (["--precision", "1.5"], "at most 1"),
        (["--task", "mood", "--metric", "f1"], "task 'mood': 'f1' is no metric of it; valid: accuracy, macro_f1"),
    ],
)
def test_bad_wishes_are_one_message(
    run: Run, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["mtbert", "calibrate", str(run.folder), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err
    assert not (run.folder / BEST / "decisions.json").exists()


def test_damage_is_a_message(run: Run) -> None:
    calibrate(run, tasks=["mood"])
    file = run.folder / BEST / "decisions.json"
    file.write_text(file.read_text().replace("temperature", "temper"))
    with pytest.raises(Mistake, match=r"decisions\.json is damaged"):
        mtbert.load(run.folder)


def test_one_task_after_the_other_are_both_decided(run: Run) -> None:
    first = calibrate(run, tasks=["mood"]).tasks["mood"].decision
    second = calibrate(run, tasks=["same"], metric="f1").tasks["same"].decision
    assert mtbert.load(run.folder).decisions == {"mood": first, "same": second}


def offset(decided: Any) -> Any:
    """The same with offsets of other classes in the place of its threshold."""
    return decided | {"decision": {"offsets": {"low": 0.5, "high": 0.0}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: {"modd": it["same"]}, "did you mean 'mood'"),
        (lambda it: {"near": it["same"]}, "near: a task of kind regression does not say classes"),
        (lambda it: {"mood": it["same"]}, r"mood\.decision\.threshold is for two classes, not 3"),
        (lambda it: {"mood": offset(it["same"])}, r"mood\.decision\.offsets are not of its classes low, mid, high"),
    ],
)
def test_decisions_of_another_model_are_refused(run: Run, change: Callable[[Any], Any], said: str) -> None:
    calibrate(run, tasks=["same"], metric="f1")
    file = run.folder / BEST / "decisions.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    seal(run.folder / BEST)
    with pytest.raises(Mistake, match=rf"decisions\.json: .*{said}"):
        mtbert.load(run.folder)


def test_a_metric_that_there_is_not_is_refused_where_no_task_has_two_classes(run: Run) -> None:
    with pytest.raises(Mistake, match="unknown metric of a threshold 'f3'"):
        calibrate(run, tasks=["mood"], metric="f3")


def test_several_classes_are_decided_by_offsets_and_evaluate_scores_what_predict_says(run: Run) -> None:
    found = calibrate(run, metric="macro_f1", precision=0.4)
    assert found.tasks["mood"].decision.offsets is not None
    assert found.tasks["same"].decision.threshold is not None
    report = evaluation(run.folder)
    assert report.tasks["near"].decided is None
    table = Path(run.recipe().data) / "mood-dev.tsv"
    said = np.array(mtbert.load(run.folder).predict_table("mood", table).columns["prediction"])
    labels = np.array([line.split("\t")[2] for line in table.read_text().splitlines()[1:]])
    sure, decided = said != NOT_SURE, report.tasks["mood"].decided
    assert decided is not None
    assert decided.sure == pytest.approx(sure.mean())
    assert decided.metrics["accuracy"] == pytest.approx((said == labels)[sure].mean())
    due = sklearn.metrics.f1_score(labels[sure], said[sure], average="macro", zero_division=0)
    assert decided.metrics["macro_f1"] == pytest.approx(due)
    assert report.tasks["mood"].metrics == run.scores["dev"]["tasks"]["mood"]  # of the likeliest class, as before


def test_a_metric_that_some_tasks_lack_is_fitted_to_the_others(run: Run) -> None:
    found = calibrate(run, metric="f1")
    assert found.tasks["same"].metric == "f1"
    assert found.tasks["mood"].metric is None
    assert found.left["mood"].startswith("f1 is no metric of it, so that it says the likeliest class (valid: accuracy")


def test_thresholds_of_labels_are_stored_said_and_scored(tmp_path: Path) -> None:
    data = write_small_data(tmp_path / "data")
    recipe = with_more_kinds(recipe_over(data))
    recipe["tasks"] = {"topics": recipe["tasks"]["topics"] | {"dev": "many-train.parquet"}}
    run = mtbert.train(recipe, out=tmp_path / "run")
    found = calibrate(run, metric="micro_f1", precision=0.9)
    least = found.tasks["topics"].decision.thresholds
    assert least is not None
    assert found.left["topics"] == "it says something of every class, and is never not sure of a row"
    model, texts = mtbert.load(run.folder), [sentence(number) for number in range(9)]
    probabilities = model.probabilities("topics", texts)
    due = [[name for name, share in row.items() if share > least[name]] for row in probabilities]
    assert model.predict("topics", texts) == due
    lines = [line.split(" -> ")[1] for line in model.answers("topics", texts)]
    said = [
        ", ".join(f"{name} ({row[name]:.0%})" for name in names) or "none"
        for row, names in zip(probabilities, due, strict=True)
    ]
    assert lines == said
    decided = evaluation(run.folder).tasks["topics"].decided
    assert decided is not None
    assert decided.metrics["micro_f1"] >= run.scores["dev"]["tasks"]["topics"]["micro_f1"]
    assert "said where it is likelier than" in run_page(run).lower()
