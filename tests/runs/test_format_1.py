"""A run folder that mtbert wrote in format 1, cut off after 6 of 12 steps, is opened by this version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mtbert
from mtbert.reports import conflict
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.runs.log import Evaluation, Step


@pytest.fixture
def old(small_data: Path, tmp_path: Path) -> Run:
    """The folder, its data where this test has it."""
    folder = Path(shutil.copytree(Path(__file__).parent / "format_1", tmp_path / "old"))
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    assert "data: DATA" in recipe
    (folder / "recipe.yaml").write_text(recipe.replace("data: DATA", f"data: {small_data}"), encoding="utf-8")
    return Run.open(folder)


def test_it_is_evaluated_and_predicts(old: Run) -> None:
    found: dict[str, Any] = evaluate_run(old.folder).as_dict()
    then = old.scores["dev"]["tasks"]
    for task in ("mood", "same"):  # scores of `near` were moved into their range before they were judged
        assert found["tasks"][task] == pytest.approx(then[task], abs=1e-6)
    assert set(found["tasks"]) == set(then)
    assert mtbert.load(old.folder).predict("mood", ["good film"])[0] in ("low", "mid", "high")


def test_its_log_is_read(old: Run) -> None:
    assert [step.step for step in old.log.only(Step)] == [1, 2, 3, 4, 5, 6]
    assert [evaluation.step for evaluation in old.log.only(Evaluation)] == [4]
    assert conflict.read(old).steps == [4]
    assert old.stopped is None


def test_it_goes_on_to_the_weights_that_its_own_version_reached(old: Run) -> None:
    resumed = mtbert.train(old.folder / "recipe.yaml", out=old.folder, resume=True)
    ours = load_file(resumed.folder / "last" / "state.safetensors")
    theirs = load_file(Path(__file__).parent / "format_1_whole.safetensors")
    assert ours.keys() == theirs.keys()
    # those steps were taken by another processor, so that the last bits may differ
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)
