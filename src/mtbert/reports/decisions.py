"""Decisions fitted on a run's dev rows: temperatures, thresholds and rejections, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from mtbert.data.kinds.metrics import BINARY, CLASSES, ORDERED
from mtbert.data.kinds.multilabel import METRICS as MULTILABEL
from mtbert.data.labels import plain as numbers
from mtbert.errors import Mistake, unknown
from mtbert.reports.base import Report, grid, listed, plain
from mtbert.reports.examined import Examination
from mtbert.runs.decisions import Calibrated, write_decisions
from mtbert.runs.folder import Run
from mtbert.scoring.decisions import PLAIN, Asked, Decision, cross_validated, fit
from mtbert.scoring.thresholds import MEASURES, MEASURES_OF_LABELS, metrics_of_thresholds

FEWEST = 20  # rows from which decisions are fitted
OFFSETS = 12  # of classes, that a sentence names


@dataclass(frozen=True)
class Decisions(Report):
    """What was decided, task by task, and what was left as it is."""

    folder: str
    tasks: dict[str, Calibrated]
    left: dict[str, str]  # task -> what was not fitted, and why

    def as_dict(self) -> dict[str, Any]:
        tasks = {name: asdict(one) | {"held_out": one.held_out._asdict()} for name, one in self.tasks.items()}
        return {"folder": self.folder, "tasks": tasks, "left": self.left}

    def shown(self) -> Iterable[RenderableType]:
        names, cells = list(self.tasks), []
        for one in self.tasks.values():
            held = one.held_out
            cells.append(
                [
                    f"{one.decision.temperature:z.3f}",
                    _change(held.error_before, held.error),
                    _change(held.brier_before, held.brier),
                    _said_from(one.decision),
                    "" if held.metric is None else f"{_change(held.metric_before or 0.0, held.metric)} {one.metric}",
                    "" if one.decision.sure_from is None else f"{one.decision.sure_from:z.4f}",
                    "" if held.precision is None else f"{held.precision:z.4f} of {held.coverage:.0%}",
                ]
            )
        if names:
            columns = ["temperature", "ECE", "Brier", "threshold", "metric", "sure from", "right where sure"]
            told = [place for place in range(len(columns)) if any(row[place] for row in cells)]  # what was asked for
            shown = [[row[place] for place in told] for row in cells]
            yield grid("task", [columns[place] for place in told], names, shown)
            yield plain("ECE, Brier, metric and what is right where it is sure: on held-out fifths of dev")
        for name, one in self.tasks.items():
            yield from map(plain, said_of(name, one))
        yield from (plain(f"{name}: {why}") for name, why in self.left.items())
        if names:
            yield plain(f"stored with the model of {self.folder}: `mtbert predict` decides so")


def _said_from(decision: Decision) -> str:
    """Where another class than the likeliest may be said."""
    if decision.offsets is not None or decision.thresholds is not None:
        return "below"
    return "" if decision.threshold is None else f"{decision.threshold:z.4f}"


def said_of(name: str, one: Calibrated) -> list[str]:
    """What a person should know of a task's decisions."""
    held, said = one.held_out, []
    if one.decision.temperature == PLAIN.temperature:
        said.append(f"{name}: no temperature makes it a better judge of itself on held-out rows; left at 1")
    if one.decision.offsets is not None:
        added = listed([f"{label} {value:+z.3f}" for label, value in one.decision.offsets.items()], OFFSETS)
        said.append(f"{name}: added to the logarithms of the probabilities before the largest is said: {added}")
    if one.decision.thresholds is not None:
        least = listed([f"{label} {value:z.3f}" for label, value in one.decision.thresholds.items()], OFFSETS)
        said.append(f"{name}: said where it is likelier than: {least}")
    if one.metric is not None and held.metric is not None and held.metric_before is not None:
        sign = -1 if {**MULTILABEL, **CLASSES, **BINARY, **ORDERED}[one.metric].scale == "error" else 1
        if sign * held.metric <= sign * held.metric_before:
            said.append(f"{name}: by {one.metric} it does no better on held-out rows than without")
    if one.precision is not None and held.precision is not None and held.precision < one.precision:
        said.append(
            f"{name}: on held-out rows {held.precision:z.4f} is right where it is sure, less than the "
            f"{one.precision:g} asked for: ask for more, or bring more dev rows"
        )
    return said


def calibrate(
    run: Run,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    metric: str | None = None,
    precision: float | None = None,
) -> Decisions:
    """Fit decisions on the dev rows of tasks with classes, and store them with the kept model.

    What makes `metric` best is fitted where a task has that metric, a threshold for two classes and offsets for more;
    a rejection by which what is said is right as often as `precision` everywhere. Raises Mistake for a task that is not
    there, for a metric that no task or a task that was named does not have, and for what cannot be reached.
    """
    examination, found, left = Examination(run, data), dict[str, Calibrated](), dict[str, str]()
    for name in tasks or ():
        if name not in examination.recipe.tasks:
            raise Mistake(unknown("task", name, examination.recipe.tasks))
    known = sorted({*MEASURES, *MEASURES_OF_LABELS})
    if metric is not None and metric not in known:
        raise Mistake(unknown("metric of a threshold", metric, known))
    if precision is not None and not 0 < precision <= 1:
        raise Mistake(f"--precision {precision:g}: a share of what is said, above 0 and at most 1")
    for name in tasks or examination.recipe.learned:
        task = examination.recipe.tasks[name]
        if not (task.exclusive or task.independent):
            left[name] = f"nothing to fit: a task of kind {task.kind} does not say classes"
            continue
        examined = examination.examined(name)
        if len(examined) < FEWEST:
            left[name] = f"{len(examined)} dev rows are too few to fit decisions on (at least {FEWEST})"
            continue
        fitted = metrics_of_thresholds(examined.task)
        if metric is not None and metric not in fitted:
            if tasks:
                raise Mistake(f"task '{name}': '{metric}' is no metric of it; valid: {', '.join(fitted)}")
            left[name] = (
                f"{metric} is no metric of it, so that it says the likeliest class (valid: {', '.join(fitted)})"
            )
        labels = numbers(examined.labels)
        alone = cross_validated(examined.task, examined.outputs, labels, Asked())
        wanted = metric if metric in fitted else None
        share = precision if task.exclusive else None
        if precision is not None and share is None:
            left[name] = "it says something of every class, and is never not sure of a row"
        asked = Asked(wanted, share, temperature=alone.error < alone.error_before)
        try:
            decision = fit(examined.task, examined.outputs, labels, asked)
            held_out = cross_validated(examined.task, examined.outputs, labels, asked)
        except Mistake as mistake:
            raise Mistake(f"task '{name}': {mistake}") from None
        found[name] = Calibrated(decision, asked.metric, share, len(examined), held_out)
    if found:
        write_decisions(run, found)
    return Decisions(str(run.folder), found, left)


def _change(before: float, after: float) -> str:
    return f"{before:z.4f} -> {after:z.4f}"
