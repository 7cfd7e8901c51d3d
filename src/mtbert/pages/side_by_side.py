"""Several runs on one page: scores with intervals, curves, what their recipes say differently, and costs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mtbert.errors import Mistake
from mtbert.pages import drawing
from mtbert.pages.drawing import Curve, Span
from mtbert.pages.history import History
from mtbert.pages.render import render
from mtbert.pages.run_page import Fact
from mtbert.pages.unread import note_unread
from mtbert.pages.views import Shown
from mtbert.reports.base import duration
from mtbert.reports.examined import Examination
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.intervals import Interval, intervals

DIFFERENCES = 60  # settings that are listed, of more


class Score(NamedTuple):
    """A run's main metric of a task."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class OneRun:
    """A run among others."""

    name: str
    folder: str
    overall: float | None
    scores: Mapping[str, Score]  # task -> score
    alone: bool  # whether it has one task
    seconds: float
    steps: int
    notes: list[str]
    history: History
    settings: Mapping[str, Any]
    mains: Mapping[str, str]  # task -> its main metric
    errors: set[str]  # tasks whose main metric is an error, of which less is better


def side_by_side(runs: Sequence[Run], data: str | Path | None = None) -> str:
    """The page of several runs as HTML; raises Mistake where a recipe cannot be read."""
    names = _names([run.folder for run in runs])
    found = [_one(run, name, data) for run, name in zip(runs, names, strict=True)]
    tasks = list(dict.fromkeys(task for one in found for task in one.mains))
    mains = {task: next(one.mains[task] for one in found if task in one.mains) for task in tasks}
    several = {task for task in tasks if any(task in one.mains and not one.alone for one in found)}
    return render(
        "side_by_side.html",
        title="side by side: " + ", ".join(names),
        runs=found,
        tasks=tasks,
        mains=mains,
        best={task: _best(found, task) for task in tasks},
        notes=[f"{one.name}: {note}" for one in found for note in one.notes],
        forests=[forest for task in tasks if (forest := _forest(task, mains[task], found)) is not None],
        curves=[shown for task in tasks for shown in _curves(task, mains[task], found)],
        single=sorted(one.name for one in found if one.alone and several & set(one.mains)),
        differences=_differences(found),
        commands=[Fact("make this page again", f"mtbert report {' '.join(shlex.quote(one.folder) for one in found)}")],
        duration=duration,
    )


def _one(run: Run, name: str, data: str | Path | None) -> OneRun:
    examination, history = Examination(run, data), History.of(run)
    recipe, notes, scores = examination.recipe, list[str](), dict[str, Score]()
    overall, unread = None, list[str]()
    if history.problem is not None:
        unread.append(history.problem)
        notes.append(f"the log can be read in part only: {history.problem}")
    if run.has(BEST):
        kept = run.scores["dev"]
        overall = kept["overall"]
        for task, metrics in kept["tasks"].items():
            around = None
            try:
                examined = examination.examined(task)
                if examination.changed(examined.rows, task, "dev"):
                    notes.append(f"the dev rows of {task} have changed since: no interval")
                else:
                    measured = examined.task.measured(examined.outputs)
                    around = next(iter(intervals(examined.task, measured, examined.labels).values()))
            except Mistake as mistake:
                unread.append(str(mistake))
                notes.append(f"no interval for {task}: {mistake}")
            scores[task] = Score(next(iter(metrics.values())), around)
    else:
        notes.append("nothing is kept yet")
    note_unread(run, unread)
    return OneRun(
        name=name,
        folder=str(run.folder),
        overall=overall,
        scores=scores,
        alone=len(recipe.tasks) == 1,
        seconds=sum(one.seconds for one in [history, *map(History.of, run.teachers)]),
        steps=len(history.steps),
        notes=notes,
        history=history,
        settings=_flat(recipe.model_dump(mode="json")),
        mains={name: task.main for name, task in recipe.tasks.items()},
        errors={name for name, task in recipe.tasks.items() if task.all_metrics[task.main].scale == "error"},
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _best(found: Sequence[OneRun], task: str) -> float | None:
    values = [one.scores[task].value for one in found if task in one.scores]
    least = any(task in one.errors for one in found)
    return (min if least else max)(values, default=None)


def _forest(task: str, main: str, found: Sequence[OneRun]) -> Shown | None:
    spans = [
        Span(one.name, one.scores[task].value, *around)
        for one in found
        if task in one.scores and (around := one.scores[task].interval) is not None
    ]
    if not spans:
        return None
    return Shown(task, drawing.intervals(f"{main} of {task} on dev", spans), f"{main} on dev, 95 % interval over rows.")


def _curves(task: str, main: str, found: Sequence[OneRun]) -> list[Shown]:
    curves = []
    for one in found:
        points = one.history.metric(task) if task in one.mains else []
        if points:
            x, y = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True))
            curves.append(Curve(one.name, x, y, dots=len(x) <= 30))
    if not curves:
        return []
    title = f"{task}: {main} on dev"
    body: Markup = drawing.curves(title, curves) + drawing.legend([curve.name for curve in curves])
    return [Shown(title, body, "")]


def _differences(found: Sequence[OneRun]) -> list[tuple[str, list[str]]]:
    """The settings by which the recipes differ, each with what every run says."""
    keys = list(dict.fromkeys(key for one in found for key in one.settings))
    rows = []
    for key in keys:
        said = ["" if (value := one.settings.get(key)) is None else str(value) for one in found]
        if len(set(said)) > 1:
            rows.append((key, said))
    return rows[:DIFFERENCES]


def _flat(content: Any, place: str = "") -> dict[str, Any]:
    """Every setting of a recipe under its place, such as `stages.0.batch_size`."""
    parts = content.items() if isinstance(content, Mapping) else enumerate(content)
    found: dict[str, Any] = {}
    for key, value in parts:
        here = f"{place}.{key}" if place else str(key)
        found |= _flat(value, here) if isinstance(value, (Mapping, list)) and value else {here: value}
    return found
