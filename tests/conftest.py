"""Tiny encoders, tiny data, no network: what the tests share."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.sentences import sentence

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def _fresh(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test: a token cache of the session's own, files that nothing outlives, the same random state."""
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a test's files die with it; disks are slow
    torch.default_generator.manual_seed(0)  # torch.manual_seed formats three stacks for devices that are not here


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Three tasks of 40 train and 12 dev rows: mood.tsv (3 classes), same.csv (pair), near.jsonl (pair, 0 to 5)."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, rows in {"train": range(40), "dev": range(100, 112), "test": range(200, 205)}.items():
        mood = [f"{i}\t{sentence(i)}\t{['low', 'mid', 'high'][i % 3]}" for i in rows]
        (folder / f"mood-{split}.tsv").write_text("\n".join(["id\ttext\tmood", *mood]) + "\n")
        same = [f'{i},"{sentence(i)}, {sentence(i + 1)}",{sentence(i + 2)},{i % 2}' for i in rows]
        (folder / f"same-{split}.csv").write_text("\n".join(["id,first,second,same", *same]) + "\n")
        near = [{"a": sentence(i), "b": sentence(i + 3), "score": (i % 11) / 2} for i in rows]
        (folder / f"near-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in near))
    return folder


@pytest.fixture
def small_recipe(small_data: Path) -> dict[str, Any]:
    """A recipe over small_data that trains in a second."""
    return {
        "encoder": {"name": "random", "layers": 2, "width": 16, "heads": 2, "inner": 32},
        "data": str(small_data),
        "tasks": {
            "mood": {
                "kind": "classification",
                "text": "text",
                "label": "mood",
                "classes": ["low", "mid", "high"],
                "train": "mood-train.tsv",
                "dev": "mood-dev.tsv",
                "test": "mood-test.tsv",
            },
            "same": {
                "kind": "classification",
                "text": ["first", "second"],
                "label": "same",
                "classes": 2,
                "train": "same-train.csv",
                "dev": "same-dev.csv",
                "test": "same-test.csv",
            },
            "near": {
                "kind": "regression",
                "text": ["a", "b"],
                "pairs": "separate",
                "label": "score",
                "range": [0, 5],
                "train": "near-train.jsonl",
                "dev": "near-dev.jsonl",
                "test": "near-test.jsonl",
            },
        },
        "stages": [{"steps": 12, "batch_size": 8, "evaluate_every": 4, "optimizer": {"lr": 1e-3}}],
    }
