"""What one run of a comparison came to: scores, predictions row by row, and what it cost."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtbert.comparison.plan import PlannedRun
from mtbert.comparison.splits import reporting_rows
from mtbert.data.labels import Labels, as_arrays, from_arrays
from mtbert.data.tables import Rows
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import examples_of
from mtbert.runs.data import read_splits
from mtbert.runs.folder import BEST, ENVIRONMENT, Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Step
from mtbert.runs.writing import write_whole
from mtbert.scoring.evaluation import Scores, outputs_of

COST, READINGS = "cost.json", "readings.jsonl"

Metrics = dict[str, dict[str, float]]  # task -> metric -> value, the main one first


@dataclass(frozen=True)
class Measured:
    """The result of one run, as `measured/NAME.json` holds it; its predictions lie beside it in NAME.npz."""

    run: str
    method: str
    candidate: str
    part: str
    block: int
    seed: int
    reported: Metrics  # of the kept model on the reporting rows; none for a trial
    selected: Metrics  # of the kept model on the selecting rows
    last: Metrics  # of the last step on the selecting rows
    kept_at: tuple[int, int] | None  # stage and step
    steps: int
    examples: int
    wall_seconds: float
    processor_seconds: float
    parameters: int
    failure: str | None  # why training ended where there are no numbers; the run then counts as the constant predictor


def read_measured(folder: Path, name: str) -> Measured | None:
    """The result of a run, or None where it has none yet."""
    path = _result(folder, name)
    return Measured(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def read_predictions(folder: Path, name: str) -> dict[str, Labels]:
    """Task -> what a run predicted on the reporting rows, in their order."""
    with np.load(_result(folder, name).with_suffix(".npz")) as saved:
        return from_arrays({part: saved[part] for part in saved.files})


def readings(folder: Path) -> int:
    """How many models have been scored on the reporting rows in this folder."""
    path = folder / READINGS
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


class Stopwatch(Listener):
    """The seconds of a run, over all the processes that worked on it; what a kill made them repeat counts once."""

    def __init__(self, run: Run) -> None:
        self._path = run.folder / COST
        saved = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        self._before = saved.get("wall", 0.0), saved.get("processor", 0.0)
        self._started = time.perf_counter(), time.process_time()

    def scores(self, scores: Scores, kept: bool) -> None:
        self.save()

    @property
    def seconds(self) -> tuple[float, float]:
        """By the clock on the wall, and of all processors."""
        wall, processor = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
        return self._before[0] + wall, self._before[1] + processor

    def save(self) -> None:
        """Remember them for the process that goes on with the run."""
        wall, processor = self.seconds
        write_whole(self._path, json.dumps({"wall": wall, "processor": processor}) + "\n")


def measure(
    planned: PlannedRun, recipe: Recipe, run: Run, stopwatch: Stopwatch, failure: str | None, folder: Path
) -> Measured:
    """Score a run that has ended, write down what it came to, and remove its weights.

    Only here are reporting rows read. The folder's list of readings says so before they are, so that none is lost.
    """
    wall, processor = stopwatch.seconds
    steps = list(run.log.only(Step))
    last = next((line.tasks for line in reversed(list(run.log.only(Evaluation))) if not line.average), {})
    constant = failure is not None
    predictions: dict[str, Labels] = {}
    reported: Metrics = {}
    if not planned.is_trial:
        _note_reading(folder, planned.name)
        rows = {task: reporting_rows(recipe, task) for task in recipe.tasks}
        predictions = constant_predictions(recipe, rows) if constant else _predictions(run, rows)
        reported = metrics_of(rows, predictions)
    selected, kept_at = _selected(recipe, run, constant)
    measured = Measured(
        run=planned.name,
        method=planned.method.name,
        candidate=planned.candidate,
        part=planned.part,
        block=planned.block,
        seed=planned.seed,
        reported=reported,
        selected=selected,
        last=selected if constant else last,
        kept_at=kept_at,
        steps=len(steps),
        examples=sum(step.examples for step in steps),
        wall_seconds=wall,
        processor_seconds=processor,
        parameters=json.loads((run.folder / ENVIRONMENT).read_text(encoding="utf-8"))["parameters"],
        failure=failure,
    )
    _write(folder, measured, predictions)
    run.remove_weights()
    return measured


def metrics_of(rows: Mapping[str, Rows], predictions: Mapping[str, Labels]) -> Metrics:
    """Every metric of every task, whose classes or range may be known to its rows alone."""
    return {name: read.task.metrics(predictions[name], labels_of(read)) for name, read in rows.items()}


def labels_of(rows: Rows) -> Labels:
    """The labels of rows that have been read as labelled."""
    assert rows.labels is not None
    return rows.labels


def constant_predictions(recipe: Recipe, rows: Mapping[str, Rows]) -> dict[str, Labels]:
    """The best prediction that ignores the text, learned from the training rows."""
    learned = read_splits(recipe, list(rows), ["train"])["train"]
    return {task: some.task.constantly(labels_of(learned[task]), labels_of(some)) for task, some in rows.items()}


def _note_reading(folder: Path, name: str) -> None:
    with (folder / READINGS).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"run": name, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}) + "\n")


def _predictions(run: Run, rows: Mapping[str, Rows]) -> dict[str, Labels]:
    model, tokenizer = load_model(run.part(BEST))
    model.to(best_device())
    sets = examples_of(model, {"reporting": rows}, tokenizer)["reporting"]
    return {task: model.tasks[task].measured(outputs_of(model, examples)) for task, examples in sets.items()}


def _selected(recipe: Recipe, run: Run, constant: bool) -> tuple[Metrics, tuple[int, int] | None]:
    """The kept model's scores on the selecting rows, and where it was kept; the constant's where training failed."""
    if constant:
        rows = read_splits(recipe, list(recipe.tasks), ["dev"])["dev"]
        return metrics_of(rows, constant_predictions(recipe, rows)), None
    scores: dict[str, Any] = run.scores
    return scores["dev"]["tasks"], (scores["stage"], scores["step"])


def _write(folder: Path, measured: Measured, predictions: Mapping[str, Labels]) -> None:
    """The predictions first: where the result is, they are too."""
    path = _result(folder, measured.run)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.new.npz")
    arrays = {part: array for task, some in predictions.items() for part, array in as_arrays(task, some).items()}
    np.savez_compressed(unfinished, allow_pickle=False, **arrays)
    unfinished.replace(path.with_suffix(".npz"))
    write_whole(path, json.dumps(asdict(measured), indent=2, ensure_ascii=False) + "\n")


def _result(folder: Path, name: str) -> Path:
    return folder / "measured" / f"{name}.json"
