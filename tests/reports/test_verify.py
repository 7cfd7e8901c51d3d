"""A run made again: equal, or where it first differs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.app.cli import main
from mtbert.errors import Mistake
from mtbert.reports.info import read as info
from mtbert.reports.verify import verify
from mtbert.runs.folder import Run
from mtbert.runs.lock import locked
from tests.support.cut_off import Kill, Killed
from tests.support.small import recipe_over, write_small_data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    recipe = recipe_over(write_small_data(folder / "data"))
    stage = recipe["stages"][0] | {"steps": 6, "evaluate_every": 3}
    recipe |= {"stages": [stage, stage | {"train": "heads", "optimizer": {"lr": 0.05}, "keep": "last"}]}
    return mtbert.train(recipe | {"modules": ["lhuc"]}, out=folder / "run")


@pytest.fixture
def run(trained: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(trained.folder, tmp_path / "run"))


def edit_log(run: Run, number: int, **changes: Any) -> None:
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | changes)
    (run.folder / "log.jsonl").write_text("\n".join(lines) + "\n")


# ---- verify


def test_a_run_is_equal_to_itself_also_where_its_model_was_kept_on_cached_features(run: Run) -> None:
    assert run.scores["stage"] == 1
    found = verify(run, steps=5)
    assert found.equal
    assert (found.steps, found.scored, found.notes) == (5, True, [])
    assert verify(run, steps=50).steps == 6


def test_the_first_step_that_differs_is_named_with_both_values(run: Run) -> None:
    edit_log(run, 1, gradient_norm=7.5)
    edit_log(run, 2, gradient_norm=8.5)
    [said] = verify(run).differences
    assert said.startswith("step 2: gradient_norm was 7.5 and is ")
    assert verify(run, steps=1).equal


def test_scores_that_are_not_the_models_are_found(run: Run) -> None:
    path = run.folder / "best" / "scores.json"
    content = json.loads(path.read_text())
    content["dev"]["tasks"]["mood"]["macro_f1"] = 0.99
    path.write_text(json.dumps(content))
    with pytest.raises(Mistake, match=r"scores\.json is damaged"):
        verify(run)
    (run.folder / "best" / "manifest.json").unlink()
    [said] = verify(run).differences
    assert said.startswith("the kept model: tasks.mood.macro_f1 was 0.99 and is ")


def test_other_data_and_another_machine_are_said(run: Run) -> None:
    content = run.environment
    content["threads"] = 99
    content["data"]["near.dev"]["sha256"] = "0" * 64
    run.write_json("environment.json", content)
    found = verify(run)
    assert found.differences == ["near.dev has 12 rows as before, but not the same"]
    assert "threads 99 -> 1" in found.notes[0]


def test_a_run_that_has_not_come_to_a_model_is_verified_by_its_steps(run: Run, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        mtbert.train(run.folder / "recipe.yaml", out=tmp_path / "cut", listener=Kill(steps=2))
    found = verify(Run(tmp_path / "cut"))
    assert (found.equal, found.steps, found.scored) == (True, 2, False)
    (tmp_path / "cut" / "log.jsonl").write_text("")
    with pytest.raises(Mistake, match="has logged no step yet"):
        verify(Run(tmp_path / "cut"))


def test_a_run_with_added_tasks_is_verified_too(run: Run, tmp_path: Path) -> None:
    recipe = run.recipe().model_dump(mode="json")
    task = recipe["tasks"]["mood"]
    added = {"data": recipe["data"], "tasks": {"tone": task}, "stages": [{"steps": 4, "evaluate_every": 2}]}
    new = mtbert.add_task(run.folder, added, out=tmp_path / "new")
    assert verify(new).equal


def test_the_command_ends_with_1_where_something_differs(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mtbert", "verify", str(run.folder), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["equal"] is True
    edit_log(run, 0, lr=1.0)
    monkeypatch.setattr(sys, "argv", ["mtbert", "verify", str(run.folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "not equal\nstep 1: lr was 1.0 and is " in capsys.readouterr().out


# ---- info


def test_a_finished_run_is_shown_with_its_tasks_scores_and_sizes(run: Run) -> None:
    found = info(run)
    assert (found.state, found.finished, found.stage, found.step, found.steps, found.stages) == (
        *("finished", True, 1, 6, 6, 2),
    )
    assert found.tasks["mood"] == {
        "kind": "classification",
        "train": 40,
        "dev": 12,
        "metric": "accuracy",
        "score": run.scores["dev"]["tasks"]["mood"]["accuracy"],
    }
    assert found.overall == run.scores["dev"]["overall"]
    assert found.sizes["log.jsonl"] == (run.folder / "log.jsonl").stat().st_size
    assert found.sizes["best"] > 10_000
    assert found.environment["threads"] == 1


def test_what_has_not_come_to_its_end_says_why(run: Run, tmp_path: Path) -> None:
    class Enough(Kill):
        def reason_to_stop(self) -> str | None:
            return "SIGTERM"

    stopped = mtbert.train(run.folder / "recipe.yaml", out=tmp_path / "stopped", listener=Enough())
    assert info(stopped).state == "stopped by SIGTERM; --resume goes on"
    with locked(stopped.folder):
        assert info(stopped).state.startswith("under way: process ")
    with pytest.raises(Killed):
        mtbert.train(run.folder / "recipe.yaml", out=tmp_path / "cut", listener=Kill(steps=2))
    found = info(Run(tmp_path / "cut"))
    assert (found.state, found.stage, found.overall) == ("cut off; --resume goes on", None, None)


def test_a_stage_that_lost_patience_is_finished(run: Run, tmp_path: Path) -> None:
    recipe = run.recipe().model_dump(mode="json")
    recipe["stages"] = [recipe["stages"][0] | {"steps": 20, "patience": 1, "evaluate_every": 1}]
    found = info(mtbert.train(recipe, out=tmp_path / "patient"))
    assert found.finished
    assert found.step is not None
    assert found.step < 20
