"""An experiment with every kind of task, built once and copied for each test that changes it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from mtbert.runs.build import Experiment
from tests.support.penalised import experiment
from tests.support.small import recipe_over, write_small_data


class Built(NamedTuple):
    """An experiment, and torch's random state right after it was built."""

    experiment: Experiment
    random: torch.Tensor

    def again(self) -> Experiment:
        """As if built anew: the data is shared, the model is the caller's own."""
        torch.set_rng_state(self.random)
        return replace(self.experiment, model=copy.deepcopy(self.experiment.model))


def build_with(dropout: float, factory: pytest.TempPathFactory) -> Built:
    torch.manual_seed(0)  # as at the beginning of every test
    data = write_small_data(factory.mktemp("experiment") / "data")
    built = experiment(recipe_over(data), dropout)
    return Built(built, torch.get_rng_state())


@pytest.fixture(scope="package")
def built_plain(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_with(0.0, tmp_path_factory)


@pytest.fixture(scope="package")
def built_dropping(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_with(0.2, tmp_path_factory)


@pytest.fixture
def plain(built_plain: Built) -> Experiment:
    """All kinds of task on a tiny model without dropout, in training mode."""
    return built_plain.again()


@pytest.fixture
def dropping(built_dropping: Built) -> Experiment:
    """All kinds of task on a tiny model with dropout, in training mode."""
    return built_dropping.again()
