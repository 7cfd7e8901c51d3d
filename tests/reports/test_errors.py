"""`mtbert errors`: in the terminal, as CSV, as JSON; label errors of the training rows."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.app import cli
from mtbert.errors import Mistake
from mtbert.reports.errors import errors
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from tests.support.screen import assert_fits, shown_lines
from tests.support.small import recipe_over, write_small_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("errors")
    return mtbert.train(recipe_over(write_small_data(folder / "data")), out=folder / "run")


def test_every_wrong_row_is_named_once(run: Run) -> None:
    report = errors(run)
    model = mtbert.load(run.folder)
    lines = (Path(run.recipe().data) / "mood-dev.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    said = model.predict("mood", [text for _, text, _ in rows])
    wrong = {(name, label, one) for (name, _, label), one in zip(rows, said, strict=True) if label != one}
    assert {(one.id, one.label, one.said) for one in report.tasks["mood"].mistakes} == wrong
    assert report.tasks["mood"].groups.miss == pytest.approx(1 - run.scores["dev"]["tasks"]["mood"]["accuracy"])
    read = list(csv.DictReader(io.StringIO(report.as_csv())))
    assert {(row["id"], row["label"], row["said"]) for row in read if row["task"] == "mood"} == wrong


def test_outputs_that_are_gone_are_computed_again_and_a_damaged_model_is_refused(run: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(run.folder, tmp_path / "run"))
    outputs, whole = copy.folder / "best" / "outputs.safetensors", errors(run).as_csv()
    written = outputs.read_bytes()
    outputs.unlink()
    assert errors(copy).as_csv() == whole
    assert evaluate_run(copy.folder).as_dict() == run.scores["dev"]
    for name in ("model.json", "tasks.safetensors", "encoder/model.safetensors"):
        path = copy.folder / "best" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Mistake, match=rf"{path.name} is damaged"):
            errors(copy)
        path.write_bytes(content)
    outputs.write_bytes(written[:-4] + b"\0\1\2\3")
    with pytest.raises(Mistake, match=r"outputs.safetensors is damaged.*; remove it"):
        errors(copy)


def test_training_labels_are_judged_out_of_sample(run: Run) -> None:
    report = errors(run, tasks=["mood", "near"], labels=True)
    assert report.labels["mood"].rows == 40
    assert all(one.split == "train" and one.said != one.label for one in report.labels["mood"].found)
    assert "near" in report.notes[0]
    assert_fits(shown_lines(report, 80), 80)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--task", "mod"], "did you mean 'mood'"), (["--split", "deb"], "deb"), (["--output", "scores.json"], "")],
)
def test_bad_wishes_are_refused(
    run: Run, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(run.folder)
    monkeypatch.setattr(sys, "argv", ["mtbert", "errors", str(run.folder), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_the_command_writes_csv_and_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "errors.csv"
    words = ["mtbert", "errors", str(run.folder), "--task", "same", "--split", "train", "--output", str(out), "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    content = json.loads(capsys.readouterr().out)
    assert content["split"] == "train"
    assert len(out.read_text().splitlines()) == 1 + len(content["tasks"]["same"]["mistakes"])
