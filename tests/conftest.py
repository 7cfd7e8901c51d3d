"""Tiny encoders, tiny data, no network: what the tests share."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.small import recipe_over, write_small_data

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(scope="session", autouse=True)
def _nothing_lasts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token cache of the session's own, and no wait for the disk: all that is written ends with the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed prepares devices as well, at 2 ms a test


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """The data of `write_small_data` in a folder of the test's own."""
    return write_small_data(tmp_path / "data")


@pytest.fixture
def small_recipe(small_data: Path) -> dict[str, Any]:
    """A recipe over small_data that trains in a second."""
    return recipe_over(small_data)
