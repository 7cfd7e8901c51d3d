"""How well a run's kept model does, class by class, beside a constant predictor and the untrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType

from mtbert.data.batches import Examples
from mtbert.data.formats.base import Quotes
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.class_scores import ClassScores
from mtbert.data.labels import Labels, joined
from mtbert.data.streams import RowStream
from mtbert.data.tables import Rows
from mtbert.errors import Mistake
from mtbert.model.devices import best_device
from mtbert.model.sources import Source
from mtbert.reports.base import Report, count, cut, grid, listed, plain
from mtbert.runs.data import read_splits
from mtbert.runs.evaluate import Scored, to_be_scored
from mtbert.scoring.decisions import PLAIN
from mtbert.scoring.evaluation import Scores, finite_outputs_of
from mtbert.scoring.intervals import intervals, spans
from mtbert.scoring.zero_shot import LEARNED, MOST, applies_to, zero_shot_metrics

TABLED = 12  # classes, at most, whose confusion is shown as a table; of more, the commonest mistakes are
MISTAKES = 5
NAMED = 10  # classes that a sentence names
SLICE = 1 << 14  # rows that are tokenised and predicted at a time, which bounds the memory

Told = Callable[[str, int, int], None]  # task, rows done, rows in all


@dataclass(frozen=True)
class AsDecided:
    """What comes of the decisions that `mtbert calibrate` stored with the model, by which `mtbert predict` goes."""

    metrics: dict[str, float]  # over the rows that it is sure of; none where it is sure of none
    sure: float  # the share of the rows


@dataclass(frozen=True)
class TaskScores:
    """One task's scores on one set."""

    rows: int
    metrics: dict[str, float]  # the main one first
    intervals: dict[str, list[float] | None]  # metric -> the ends of its 95 % interval; None where rows tell none
    constant: dict[str, float] | None  # the metrics of the best predictor that ignores the text
    zero_shot: dict[str, float] | None  # those of the untrained encoder's cosine; None where it cannot answer the task
    classes: ClassScores | None  # None for scores
    notes: list[str]  # what is missing here and why, and what a person should see
    decided: AsDecided | None = None  # None where it says the likeliest class, whose scores `metrics` are


@dataclass(frozen=True)
class EvaluationReport(Report):
    """Everything `mtbert evaluate` says."""

    scored: str  # the split, or the file
    overall: float
    tasks: dict[str, TaskScores]
    left_out: dict[str, str] = field(default_factory=dict)  # task -> why it has no labels there

    def as_dict(self) -> dict[str, Any]:
        """`overall` and `tasks` as in scores.json, for each task all the rest under `details`, and why others are not
        scored.
        """
        details = {name: asdict(one) for name, one in self.tasks.items()}
        for one in details.values():
            one.pop("metrics")
        metrics = {name: one.metrics for name, one in self.tasks.items()}
        scores = {"scored": self.scored, "overall": self.overall, "tasks": metrics, "details": details}
        return {**scores, "left_out": self.left_out}

    def shown(self) -> Iterable[RenderableType]:
        names, cells = [], []
        zero_shot = any(one.zero_shot for one in self.tasks.values())
        decided = any(one.decided for one in self.tasks.values())
        for name, task in self.tasks.items():
            for place, (metric, value) in enumerate(task.metrics.items()):
                names.append("" if place else name)
                span = task.intervals[metric]
                around = "" if span is None else f"{span[0]:z.3f} to {span[1]:z.3f}"
                cells.append([metric, f"{value:z.4f}", around, _number(task.constant, metric)])
                cells[-1] += [_number(task.zero_shot, metric)] if zero_shot else []
                said = None if task.decided is None else task.decided.metrics
                cells[-1] += [_number(said, metric)] if decided else []
        more = [*(["zero-shot"] if zero_shot else []), *(["as decided"] if decided else [])]
        columns = ["metric", "score", "95 % interval", "constant", *more]
        yield grid("task", columns, names, cells)
        if len(self.tasks) > 1:
            yield plain(f"overall: {self.overall:z.4f}")
        yield from (plain(f"{name} is left out: {why}") for name, why in self.left_out.items())
        for name, task in self.tasks.items():
            yield from _task_shown(name, task)
        yield plain("constant: the best prediction that ignores the text, learned from the training labels")
        if zero_shot:
            yield plain(
                "zero-shot: the cosine between the two texts in the untrained encoder, apart, mean of the tokens' "
                "states; two classes by the best threshold on training pairs"
            )
        if decided:
            fitted = ", which were fitted on these rows" if self.scored == "dev" else ""
            yield plain(
                f"as decided: what mtbert predict says, by the decisions of mtbert calibrate{fitted}; everything "
                "else is of the likeliest class"
            )


def evaluation(
    folder: str | Path,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    *,
    split: str = "dev",
    source: Any = None,
    quotes: Quotes | None = None,
    perturbed_by: int | None = None,
    told: Told = lambda task, done, rows: None,
) -> EvaluationReport:
    """Score a run's kept model on a split, or for one task on the labelled rows of `source`, a file or a table.

    What the training rows are needed for is left out, and said, where they are gone; so are tasks without labels in the
    split, unless none has any. Raises Mistake for a task, split or file that is not there, and for rows without valid
    labels.
    """
    scored = to_be_scored(folder, data, tasks, perturbed_by, split, source, quotes)
    beside = Beside(scored)
    found = {}
    for name, stream in scored.sets.items():
        task = scored.model.tasks[name]
        found[name] = _task_scores(scored, beside, task, stream, told)
    said = split if source is None else str(source) if isinstance(source, (str, Path)) else "the table given"
    scores = Scores.of(scored.model.tasks, {name: one.metrics for name, one in found.items()})
    return EvaluationReport(said, scores.overall, found, scored.left_out)


class Beside:
    """What a model is compared with: training rows, and the encoder that training began with, each read once."""

    def __init__(self, scored: Scored) -> None:
        self._scored = scored
        self._recipe = scored.recipe
        self._source: Source | None = None

    def train(self, task: str) -> Rows:
        """The task's training rows; raises Mistake where they are gone."""
        return read_splits(self._recipe, [task], ["train"])["train"][task]

    def zero_shot(self, task: Task, stream: RowStream, train: Rows | None) -> dict[str, float]:
        """The metrics of the untrained encoder's cosine; raises Mistake where the encoder cannot be had."""
        if self._source is None:
            with torch.random.fork_rng():
                torch.manual_seed(self._recipe.seed)  # as in training, for an encoder that is drawn at random
                encoder, tokenizer = self._recipe.encoder.make()
            self._source = encoder.to(best_device()), tokenizer
        compared = _examples(self._scored, task, stream.sample(MOST))
        learned = None if train is None else _examples(self._scored, task, RowStream.of(train).sample(LEARNED))
        return zero_shot_metrics(*self._source, compared, learned)


def _examples(scored: Scored, task: Task, rows: Rows) -> Examples:
    model, positions = scored.model, scored.model.encoder.shape.positions
    apart = model.apart([task.name])
    return Examples.from_texts(task, rows.given, scored.tokenizer, positions, rows.labels, apart)


class Answers(NamedTuple):
    """What a task says of N rows: the likeliest class or the score, and what was decided where it may be another."""

    predictions: Labels
    labels: Labels
    decided: Labels | None
    sure: NDArray[np.bool_] | None  # (N,), None where it always says something


def _answered(scored: Scored, task: Task, stream: RowStream, told: Told) -> Answers:
    decision = scored.decisions.get(task.name, PLAIN)
    orders, done = 2 if task.predicted_in_both_orders else 1, 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        told(task.name, done // orders, len(stream))

    predictions, labels, decided, sure = [], [], [], []
    for rows in stream.slices(SLICE):
        assert rows.labels is not None  # only labelled rows are read here
        outputs = finite_outputs_of(scored.model, _examples(scored, task, rows), tell)
        predictions.append(task.measured(outputs))
        labels.append(rows.labels)
        if not decision.says_the_likeliest:
            found = decision.decide(task, outputs)
            decided.append(found.predictions)
            sure += [] if found.sure is None else [found.sure]
    return Answers(
        joined(predictions),
        joined(labels),
        joined(decided) if decided else None,
        np.concatenate(sure) if sure else None,
    )


def _task_scores(scored: Scored, beside: Beside, task: Task, stream: RowStream, told: Told) -> TaskScores:
    notes = []
    predictions, labels, said, sure = _answered(scored, task, stream, told)
    constant = zero_shot = train = None
    try:
        train = beside.train(task.name)
        assert train.labels is not None  # training rows are read with their labels
        constant = task.metrics(task.constantly(train.labels, labels), labels)
    except Mistake as mistake:
        notes.append(f"no constant predictor: {mistake}")
    if applies_to(task) and (task.scored or train is not None):
        try:
            zero_shot = beside.zero_shot(task, stream, None if task.scored else train)
        except Mistake as mistake:
            notes.append(f"no zero-shot row: {mistake}")
    metrics = task.metrics(predictions, labels)
    classes = task.class_scores(task.said(predictions), labels)
    found = spans(intervals(task, predictions, labels))
    around = {metric: None if low == high else [low, high] for metric, (low, high) in found.items()}
    if alike := [metric for metric, span in around.items() if span is None]:
        notes.append(f"no interval for {', '.join(alike)}: every draw from {count(len(labels), 'row')} gives the same")
    notes += _warnings(task, metrics, constant, zero_shot, classes)
    decided = None if said is None else _as_decided(task, said, labels, sure)
    if decided is not None and decided.sure < 1:
        notes.append(f"as decided it is not sure of {1 - decided.sure:.1%} of the rows; its scores are of the others")
    return TaskScores(len(labels), metrics, around, constant, zero_shot, classes, notes, decided)


def _as_decided(task: Task, said: Labels, labels: Labels, sure: NDArray[np.bool_] | None) -> AsDecided:
    fine = np.ones(len(labels), dtype=bool) if sure is None else sure
    metrics = task.metrics(said[fine], labels[fine]) if fine.any() else {}
    decided = {name: value for name, value in metrics.items() if not task.all_metrics[name].ranks}  # of what is said
    return AsDecided(decided, float(fine.mean()))


def _warnings(
    task: Task,
    metrics: dict[str, float],
    constant: dict[str, float] | None,
    zero_shot: dict[str, float] | None,
    classes: ClassScores | None,
) -> list[str]:
    said = []
    judged, main = task.score(metrics), task.main
    if classes is not None and classes.unfound:
        which = listed(classes.unfound, NAMED)
        are = "class" if len(classes.unfound) == 1 else "classes"
        said.append(f"not a single row of the {are} {which} is found (recall 0)")
    if classes is not None and classes.unasked:
        said.append(f"no row has the label {listed(classes.unasked, NAMED)}: nothing is known of it here")
    if zero_shot is not None and main in zero_shot and judged < zero_shot[main]:
        said.append(
            f"the untrained encoder does better ({main} {zero_shot[main]:z.4f} against {metrics[main]:z.4f}): training "
            "has not helped this task; train it longer, or more gently"
        )
    if constant is not None and judged <= task.score(constant):
        said.append(f"no better than a constant ({main} {constant[main]:z.4f}): the texts are not made use of")
    return said


def _task_shown(name: str, task: TaskScores) -> Iterable[RenderableType]:
    yield plain(f"\n{name}: {count(task.rows, 'row')}")
    for note in task.notes:
        yield plain(f"  note: {note}")
    if task.classes is None:
        return
    scores, table = task.classes.classes, task.classes.confusion
    cells = [[f"{one.precision:z.3f}", f"{one.recall:z.3f}", f"{one.f1:z.3f}", f"{one.support:,}"] for one in scores]
    names = [one.name for one in scores]
    yield grid("  class", ["precision", "recall", "F1", "rows"], [f"  {one}" for one in names], cells)
    if table is None:
        return
    if len(names) <= TABLED:
        yield grid("  is / said", [cut(one, 12) for one in names], [f"  {one}" for one in names], table)
        return
    taken = [(rows, label, said) for label, row in enumerate(table) for said, rows in enumerate(row)]
    wrong = sorted(((rows, label, said) for rows, label, said in taken if rows and label != said), reverse=True)
    for rows, label, said in wrong[:MISTAKES]:
        yield plain(f"  {names[label]} taken for {names[said]}: {count(rows, 'row')}")


def _number(metrics: dict[str, float] | None, metric: str) -> str:
    return "" if metrics is None or metric not in metrics else f"{metrics[metric]:z.4f}"
