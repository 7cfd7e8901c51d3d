"""A run that is cut off and goes on, beside the one that nothing disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mtbert
from mtbert.runs.listener import Listener
from mtbert.training.trainer import Record


class Killed(BaseException):
    """Nothing that a program could catch."""


class Kill(Listener):
    """Ends training after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, record: Record) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "state.safetensors")


def assert_goes_on_to_the_bit(recipe: dict[str, Any], folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Cut the run off after some steps, go on, and compare all that the two runs hold; what that is."""
    whole = state_of(mtbert.train(recipe, out=folder / "whole").folder)
    with pytest.raises(Killed):
        mtbert.train(recipe, out=folder / "cut", listener=Kill(steps))
    torch.manual_seed(12345)  # a new process knows nothing of the old one's random state
    resumed = state_of(mtbert.train(recipe, out=folder / "cut", resume=True).folder)
    assert resumed.keys() == whole.keys()
    different = [name for name in whole if not torch.equal(whole[name].nan_to_num(), resumed[name].nan_to_num())]
    assert different == []
    return whole
