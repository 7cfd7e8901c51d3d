"""The page of one run: what was asked, what came of it, where it is wrong, what it cost. One file, no scripts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mtbert.errors import Mistake
from mtbert.pages import drawing
from mtbert.pages.history import History, Point
from mtbert.pages.render import render
from mtbert.pages.single_runs import Single, single_runs
from mtbert.pages.task_part import TaskPart, span_of, task_part
from mtbert.pages.unread import note_unread
from mtbert.pages.views import Shown
from mtbert.reports.affinity import affinity_of
from mtbert.reports.base import count, duration
from mtbert.reports.check import sights_of
from mtbert.reports.conflict import read as read_conflict
from mtbert.reports.examined import Examination
from mtbert.reports.info import Info
from mtbert.reports.info import read as read_info
from mtbert.reports.sights.base import Sight
from mtbert.runs.build import Experiment, examples_of
from mtbert.runs.data import read_data
from mtbert.runs.folder import BEST, RECIPE, Run

CHECKED = 60_000  # rows up to which the page looks at the data, as mtbert check does
DRAWN = 20  # tasks whose conflict and affinity are drawn


class Fact(NamedTuple):
    """A name and what is to be said of it."""

    name: str
    said: str


@dataclass(frozen=True)
class DataLine:
    """A task's rows, as the run read them."""

    task: str
    kind: str
    text: str
    train: str
    dev: str
    skipped: int


@dataclass(frozen=True)
class SeenData:
    """What was seen in the rows, or why they were not looked at, which may be that they could not be read."""

    sights: list[Sight]
    note: str = ""
    unread: str = ""


def run_page(run: Run, data: str | Path | None = None) -> str:
    """The page of a run as HTML; whatever is missing is said on it, and what could not be read in a note of the
    library's too. Raises Mistake where the recipe cannot be read.
    """
    examination, history = Examination(run, data), History.of(run)
    missing, notes = list[str](), _notes(history)
    scores = _or_missing(lambda: run.scores, missing) if run.has(BEST) else None
    if scores is None and not run.has(BEST):
        notes.append("Nothing is kept yet, as training has not reached its first evaluation: there are no scores.")
    info = _or_missing(lambda: read_info(run), missing)
    singles: dict[str, Single] = {}
    if scores is not None:
        singles = _or_missing(lambda: single_runs(run, examination.recipe.tasks), missing) or {}
    parts = [
        task_part(examination, history, name, scores, singles[name].metrics if name in singles else None)
        for name in examination.recipe.tasks
    ]
    seen = _seen(examination)
    note_unread(run, [history.problem or "", *missing, *(part.unread for part in parts), seen.unread])
    return render(
        "run.html",
        title=run.folder.resolve().name,
        state=None if info is None else info.state,
        finished=info is not None and info.finished,
        summary=_summary(examination, history, info),
        notes=[*notes, *(f"Missing here: {one}" for one in dict.fromkeys(missing))],
        overall=None if scores is None else scores["dev"]["overall"],
        kept=None if scores is None else (scores["stage"], scores["step"]),
        overall_constant=None if scores is None else scores["constant"]["overall"],
        parts=parts,
        singles={task: single.name for task, single in singles.items()},
        forest=_forest(parts),
        curves=_curves(history),
        between=_between(run, history),
        data=_data(examination),
        seen=seen,
        recipe=(run.folder / RECIPE).read_text(encoding="utf-8"),
        costs=_costs(history, [History.of(teacher) for teacher in run.teachers], info),
        machine=_machine(info),
        commands=_commands(run),
    )


def _or_missing(made: Callable[[], Any], missing: list[str]) -> Any:
    try:
        return made()
    except Mistake as mistake:
        missing.append(str(mistake))
        return None


def _notes(history: History) -> list[str]:
    found = [f"Training was stopped at step {history.at(note):,}: {note.text}." for note in history.notes[-1:]]
    if history.problem is not None:
        found.append(f"The log can be read in part only: {history.problem}")
    return found


def _summary(examination: Examination, history: History, info: Info | None) -> str:
    recipe, steps = examination.recipe, history.steps
    said = [f"{count(len(recipe.tasks), 'task')}, one model on {recipe.encoder.name}"]
    if steps:
        said.append(f"{count(len(steps), 'step')}, {count(sum(step.examples for step in steps), 'example')}")
        said.append(f"{duration(history.seconds)} of training")
    if info is not None and info.environment.get("parameters"):
        said.append(f"{info.environment['parameters'] / 1e6:,.1f} million parameters")
    return "; ".join(said)


def _forest(parts: list[TaskPart]) -> Markup | None:
    spans = [span for part in parts if (span := span_of(part)) is not None]
    return drawing.intervals("Scores on dev with 95 % intervals", spans) if spans else None


def _curves(history: History) -> list[Shown]:
    found = []
    for title, points, least in (
        ("Overall on dev", history.overall, None),
        ("Learning rate", history.rate, 0.0),
        ("Gradient norm before clipping", history.gradient_norm, 0.0),
    ):
        if points:
            found.append(Shown(title, drawing.curves(title, [_curve(title, points)], least=least), ""))
    return found


def _curve(title: str, points: list[Point]) -> drawing.Curve:
    x, y = zip(*points, strict=True)
    curve = drawing.binned(title, x, y)
    return curve._replace(dots=title.startswith("Overall") and len(points) <= 30)


def _between(run: Run, history: History) -> list[Shown]:
    """Which tasks pull against each other, which help each other, and how strong the penalties are."""
    found = []
    if history.looks("conflict"):
        try:
            report = read_conflict(run)
        except Mistake:
            report = None  # a damaged log, which is said above
        if report is not None and len(report.tasks) <= DRAWN:
            values = report.mean.mean(0)
            np.fill_diagonal(values, np.nan)
            body = drawing.heat("Cosines of gradients", report.tasks, report.tasks, values, "+z.2f", both=True)
            words = " ".join(f"{word[0].upper()}{word[1:]}." for word in report.words[:6])
            said = f"Mean cosine of two tasks' gradients over the parts of the model and {len(report.steps)} looks."
            found.append(Shown("Conflict", body, f"{said} {words}"))
    looks = [
        look for look in history.looks("affinity") if look.seen["tasks"] == history.looks("affinity")[0].seen["tasks"]
    ]
    if looks and len(looks[0].seen["tasks"]) <= DRAWN:
        tasks = looks[0].seen["tasks"]
        affinity = affinity_of(tasks, np.array([look.seen["affinity"] for look in looks]), looks[-1].step)
        values = np.array(affinity.affinity)
        body = drawing.heat("Affinity", tasks, tasks, values, "+.1%", both=True)
        said = "By which share a step on the task of the row lowers the loss of the task of the column; mean of "
        said += f"{count(len(looks), 'look')}."
        found.append(Shown("Affinity", body, said))
    penalties = history.looks("penalties")
    if penalties:
        seen = penalties[-1].seen
        terms = list(dict.fromkeys(term for shares in seen.values() for term in shares))
        values = np.array([[shares.get(term, np.nan) for term in terms] for shares in seen.values()])
        body = drawing.heat("Shares of the gradient", list(seen), terms, values, ".0%")
        said = (
            f"How much of each task's gradient its loss and its penalties are, at step {history.at(penalties[-1]):,}."
        )
        found.append(Shown("Penalties", body, said))
    return found


def _data(examination: Examination) -> list[DataLine]:
    try:
        recorded: Mapping[str, Any] = examination.run.environment.get("data", {})
    except Mistake:
        recorded = {}
    lines = []
    for name, task in examination.recipe.tasks.items():
        own = {split: recorded.get(f"{name}.{split}") for split in ("train", "dev")}
        rows = {split: "" if one is None else f"{one['rows']:,}" for split, one in own.items()}
        skipped = sum(one["skipped"] for one in own.values() if one is not None)
        lines.append(DataLine(name, task.kind, " | ".join(task.text), rows["train"], rows["dev"], skipped))
    return lines


def _seen(examination: Examination) -> SeenData:
    """What mtbert check sees in the data, where they can be read and are not too much to look at here."""
    recipe = examination.recipe
    try:
        recorded = examination.run.environment.get("data", {})
        rows = sum(one["rows"] for one in recorded.values())
        if rows > CHECKED:
            return SeenData([], f"The data were not looked at again, as they have {rows:,} rows: mtbert check does.")
        recipe, read = read_data(recipe, recipe.learned, ["train", "dev"])
        model, tokenizer = examination.model
        sets = examples_of(model, read, tokenizer)
        return SeenData(sights_of(Experiment(recipe, model, tokenizer, read, sets)))
    except Mistake as mistake:
        return SeenData([], f"The data could not be looked at again: {mistake}", str(mistake))


def _costs(history: History, teachers: Sequence[History], info: Info | None) -> list[Fact]:
    steps = history.steps
    facts = []
    if steps:
        spent, examples = history.seconds, sum(step.examples for step in steps)
        facts = [
            Fact("training", f"{duration(spent)} in {count(len(steps), 'step')}, evaluations not counted"),
            Fact(
                "a step", f"{1000 * spent / len(steps):,.0f} ms, {examples / max(spent, 1e-9):,.0f} examples a second"
            ),
        ]
    if teachers:
        spent = sum(teacher.seconds for teacher in teachers)
        facts.append(Fact("before that", f"{count(len(teachers), 'teacher')}, {duration(spent)} of training"))
    if info is not None:
        facts += [
            Fact(f"{name}/" if "." not in name else name, f"{size / 1e6:,.1f} MB") for name, size in info.sizes.items()
        ]
    return facts


def _machine(info: Info | None) -> list[Fact]:
    if info is None:
        return []
    here = info.environment
    names = ("processor", "device", "capability", "threads", "system", "python", "git")
    facts = [Fact(name, str(here[name])) for name in names if here.get(name)]
    return [*facts, *(Fact(name, version) for name, version in here.get("versions", {}).items())]


def _commands(run: Run) -> list[Fact]:
    folder = shlex.quote(str(run.folder))
    return [
        Fact("train it again", f"mtbert train {folder}/recipe.yaml --out AGAIN"),
        Fact("replay its first steps and score it again", f"mtbert verify {folder}"),
        Fact("score it, class by class", f"mtbert evaluate {folder}"),
        Fact("see more of its mistakes", f"mtbert errors {folder}"),
        Fact("make this page again", f"mtbert report {folder}"),
    ]
