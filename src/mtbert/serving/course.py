"""The prediction files that the starter code of Stanford's CS 224N default project writes and its leaderboard reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.runs.output import Output
from mtbert.serving.predictor import Predictions, Predictor

COURSE_FILES = {
    "sentiment": ("sst", "Predicted_Sentiment"),
    "paraphrase": ("para", "Predicted_Is_Paraphrase"),
    "similarity": ("sts", "Predicted_Similiary"),  # spelt as the starter code spells it
}


def course_sources(folder: str | Path, data: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Task -> split -> where its rows are, as the recipe of a run says."""
    recipe = Run.open(folder).recipe(data)
    return {task: {split: recipe.source(task, split) for split in ("dev", "test")} for task in recipe.tasks}


def write_course_files(predictor: Predictor, sources: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write the six prediction files, for dev and test of the course's three tasks; their paths.

    `sources` is task -> split -> where its rows are; raises Mistake where one of the six is missing, or a file is not
    to be written over.
    """
    contents: dict[Output, str] = {}
    for task, (short, title) in COURSE_FILES.items():
        for split in ("dev", "test"):
            source = sources.get(task, {}).get(split)
            if source is None:
                raise Mistake(
                    f"the course's files need tasks {', '.join(COURSE_FILES)} with `dev` and `test`; "
                    f"this run has no {split} rows of '{task}'"
                )
            place = Output(folder / f"{short}-{split}-output.csv", inputs=[source])
            contents[place] = course_file(predictor.predict_table(task, source), title)
    for place, content in contents.items():
        place.write(content)
    return [place.path for place in contents]


def course_file(predictions: Predictions, title: str) -> str:
    """A header, then `id , value` with the index of the class or the score, spaced as the starter code spaces it."""
    number = "{:.0f}" if predictions.probabilities else "{:.6f}"
    values = zip(predictions.ids, predictions.values, strict=True)
    return "".join([f"id \t {title} \n", *(f"{name} , {number.format(value)} \n" for name, value in values)])
