"""Several runs on one page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import mtbert
from mtbert.app import cli
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
