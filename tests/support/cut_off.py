"""A run that is cut off and goes on, beside the one that nothing disturbed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mtbert
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Line, Step
from mtbert.scoring.evaluation import Scores
from mtbert.training.trainer import Record


class Killed(BaseException):
    """Nothing that a program could catch."""


class Kill(Listener):
    """Ends the process after so many steps, or right after so many evaluations."""

    def __init__(self, steps: int = -1, evaluations: int = -1) -> None:
        self.steps, self.evaluations = steps, evaluations

    def step(self, record: Record) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise Killed

    def scores(self, scores: Scores, kept: bool) -> None:
        self.evaluations -= 1
        if self.evaluations == 0:
            raise Killed


def records(run: Run) -> list[Line]:
    """The log without what no two runs share."""
    return [replace(line, seconds=0.0) if isinstance(line, Step) else line for line in run.log]


def tensors(run: Run) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted([*run.folder.glob("best/**/*.safetensors"), *run.folder.glob("last/*.safetensors")]):
        found |= {f"{path.relative_to(run.folder)}:{name}": tensor for name, tensor in load_file(path).items()}
    return found


def assert_same_run(found: Run, whole: Run) -> None:
    """Log, scores, kept model and checkpoint, to the last bit."""
    assert records(found) == records(whole)
    assert found.scores == whole.scores
    assert found.part("best").exists()
    assert found.part("last").exists()
    ours, theirs = tensors(found), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "state.safetensors")


def assert_goes_on_to_the_bit(recipe: dict[str, Any], folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Cut the run off after some steps, go on, and compare all that the two runs hold; what that is."""
    whole = state_of(mtbert.train(recipe, out=folder / "whole").folder)
    with pytest.raises(Killed):
        mtbert.train(recipe, out=folder / "cut", listener=Kill(steps=steps))
    torch.manual_seed(12345)  # a new process knows nothing of the old one's random state
    resumed = state_of(mtbert.train(recipe, out=folder / "cut", resume=True).folder)
    assert resumed.keys() == whole.keys()
    different = [name for name in whole if not torch.equal(whole[name].nan_to_num(), resumed[name].nan_to_num())]
    assert different == []
    return whole
