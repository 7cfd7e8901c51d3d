"""Three tiny tasks in files, and a recipe over them that trains in a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mtbert.runs.folder import Run

TOPICS = ["art", "food", "home"]
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


def with_more_kinds(recipe: dict[str, Any]) -> dict[str, Any]:
    """The same recipe and data with a task of each other kind: `stars` (ordinal), `topics` (multilabel) and `names`
    (tokens) from one Parquet file, in which some rows lack some labels.
    """
    data = Path(recipe["data"])
    for split, rows in {"train": range(48), "dev": range(100, 116), "test": range(200, 206)}.items():
        texts = [sentence(i) for i in rows]
        words = [text.split() for text in texts]
        table = {
            "text": texts,
            "words": words,
            "stars": [None if i % 5 == 4 else i % 4 for i in rows],
            "topics": [None if i % 7 == 6 else [["art", "food"], ["art"], [], ["food", "home"]][i % 4] for i in rows],
            "tags": [
                None if i % 6 == 5 else ["B-THING" if word in ("film", "tea", "river") else "O" for word in text]
                for i, text in zip(rows, words, strict=True)
            ],
        }
        pq.write_table(pa.table(table), data / f"many-{split}.parquet")
    files = {split: f"many-{split}.parquet" for split in ("train", "dev", "test")} | {"missing": "skip"}
    recipe["tasks"] |= {
        "stars": {"kind": "ordinal", "text": "text", "label": "stars", "classes": 4, **files},
        "topics": {
            "kind": "multilabel",
            "text": "text",
            "label": "topics",
            "classes": ["art", "food", "home"],
            **files,
        },
        "names": {"kind": "tokens", "text": "words", "label": "tags", **files},
    }
    return recipe


def moved(run: Run, place: Path, to: Path) -> Run:
    """A copy of a run in another place, as if it had been trained there, on data of the same content."""
    copy = shutil.copytree(run.folder, to / run.folder.relative_to(place))
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(place), str(to)))
    return Run(copy)
