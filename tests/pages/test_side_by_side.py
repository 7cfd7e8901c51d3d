"""Several runs on one page."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

import mtbert
from mtbert.app import cli
from mtbert.model.files import seal
from mtbert.pages.run_page import run_page
from mtbert.pages.side_by_side import side_by_side
from mtbert.runs.folder import Run
from tests.support.html import Seen
from tests.support.small import recipe_over, write_small_data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run of three tasks, the same at another rate, and one of a single task."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = recipe_over(write_small_data(folder / "data"))
    single = recipe | {"tasks": {"mood": recipe["tasks"]["mood"]}}
    return [
        mtbert.train(recipe, out=folder / "one" / "run"),
        mtbert.train(recipe, out=folder / "two" / "run", overrides=["stages.0.optimizer.lr=0.01", "seed=3"]),
        mtbert.train(single, out=folder / "alone"),
    ]


def test_scores_and_what_differs(runs: list[Run]) -> None:
    seen = Seen(side_by_side(runs))
    rows = seen.table("run", "moodaccuracy")
    assert [row[0] for row in rows] == ["one/run", "two/run", runs[2].folder.parent.name + "/alone"]
    for run, row in zip(runs, rows, strict=True):
        kept = json.loads((run.folder / "scores.json").read_text())["dev"]
        tasks = kept["tasks"]
        mains = [
            f"{next(iter(tasks[task].values())):.4f}" if task in tasks else "" for task in ("mood", "same", "near")
        ]
        assert row[1:] == [*mains, f"{kept['overall']:.4f}"]
    settings = {row[0]: row[1:] for row in seen.table("setting")}
    assert settings["stages.0.optimizer.lr"] == ["0.001", "0.01", "0.001"]
    assert settings["seed"] == [
        "11711",
        "3",
        "11711",
    ]
    assert "stages.0.batch_size" not in settings
    assert f"Runs of a single task: {runs[2].folder.parent.name}/alone" in seen.text
    assert seen.loads == ["data:,"]


def test_the_command_writes_one_file(runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "both.html"
    monkeypatch.setattr(sys, "argv", ["mtbert", "report", *(str(run.folder) for run in runs[:2]), "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert "2 runs side by side" in out.read_text(encoding="utf-8")


def test_runs_of_one_task_beside_a_run_of_several_stand_on_its_page(runs: list[Run], tmp_path: Path) -> None:
    """The better of two on the same dev rows; not one on other rows, nor one of another task."""
    several, alone = runs[0], runs[2]
    shutil.copytree(several.folder, tmp_path / "several")
    for name, score in (("worse", 0.1), ("better", 0.9), ("other_rows", 0.95), ("damaged", 0.99)):
        copy = Path(shutil.copytree(alone.folder, tmp_path / name))
        for file in (copy / "scores.json", copy / "best" / "scores.json"):
            content = json.loads(file.read_text())
            content["dev"]["tasks"]["mood"]["accuracy"] = score
            file.write_text(json.dumps(content))
        seal(copy / "best")
    record = tmp_path / "other_rows" / "environment.json"
    content = json.loads(record.read_text())
    content["data"]["mood.dev"]["sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    (tmp_path / "damaged" / "environment.json").write_text("{")
    seen = Seen(run_page(Run.open(tmp_path / "several")))
    rows = {
        row[0]: row for row in seen.table("task", "metric", "score", "95 % interval", "constant", "zero-shot", "alone")
    }
    assert rows["mood"][6] == "0.9000"
    assert rows["same"][6] == rows["near"][6] == ""
    assert "learned the task alone and was scored on the same rows: mood in better" in seen.text
    assert "learned the task alone" not in Seen(run_page(alone)).text
