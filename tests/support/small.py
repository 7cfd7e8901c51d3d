"""Three tiny tasks in files, and a recipe over them that trains in a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mtbert.runs.folder import Run

WORDS = ["good", "bad", "film", "plot", "warm", "cold", "slow", "quick", "bright", "dull", "tea", "river", "garden"]


def sentence(number: int, length: int = 5) -> str:
    """A text that depends on its number alone."""
    return " ".join(WORDS[(number * 7 + step * step * 3 + step) % len(WORDS)] for step in range(1 + number % length))


def write_small_data(folder: Path) -> Path:
    """Three tasks of 40 train and 12 dev rows: mood.tsv (3 classes), same.csv (pair), near.jsonl (pair, 0 to 5)."""
    folder.mkdir()
    for split, rows in {"train": range(40), "dev": range(100, 112), "test": range(200, 205)}.items():
        mood = [f"{i}\t{sentence(i)}\t{['low', 'mid', 'high'][i % 3]}" for i in rows]
        (folder / f"mood-{split}.tsv").write_text("\n".join(["id\ttext\tmood", *mood]) + "\n")
        same = [f'{i},"{sentence(i)}, {sentence(i + 1)}",{sentence(i + 2)},{i % 2}' for i in rows]
        (folder / f"same-{split}.csv").write_text("\n".join(["id,first,second,same", *same]) + "\n")
        near = [{"a": sentence(i), "b": sentence(i + 3), "score": (i % 11) / 2} for i in rows]
        (folder / f"near-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in near))
    return folder


def recipe_over(data: Path) -> dict[str, Any]:
    """A recipe over the small data that trains in a second."""
    return {
        "encoder": {"name": "random", "layers": 2, "width": 16, "heads": 2, "inner": 32},
        "data": str(data),
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


def moved(run: Run, place: Path, to: Path) -> Run:
    """A copy of a run in another place, as if it had been trained there, on data of the same content."""
    copy = shutil.copytree(run.folder, to / run.folder.relative_to(place))
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(place), str(to)))
    return Run(copy)
