"""Tiny encoders, tiny data, no network: what the tests share."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mtbert.data.kinds.table import KINDS
from tests.support.small import recipe_over, write_small_data
from tests.support.toy_kind import Counts

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(scope="session", autouse=True)
def _nothing_lasts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token cache of the session's own; no wait for disks, as what is written ends with the session, nor devices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(os, "fsync", lambda descriptor: None)
        if not torch.accelerator.is_available():  # else seeding notes three stack traces for devices that are not there
            patch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
        yield


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    torch.manual_seed(0)


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """The data of `write_small_data` in a folder of the test's own."""
    return write_small_data(tmp_path / "data")


@pytest.fixture
def small_recipe(small_data: Path) -> dict[str, Any]:
    """A recipe over small_data that trains in a second."""
    return recipe_over(small_data)


@pytest.fixture
def counts_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toy kind of task: the one line in the table."""
    monkeypatch.setitem(KINDS._makers, "counts", Counts)
