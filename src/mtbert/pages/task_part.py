"""What the page of a run says of one task: scores, curves, views of its predictions, mistakes and hits with texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.data.streams import RowStream
from mtbert.data.views import View
from mtbert.errors import Mistake
from mtbert.pages import drawing
from mtbert.pages.drawing import Span, tag
from mtbert.pages.history import History
from mtbert.pages.views import Shown, show
from mtbert.reports.attention import Reading, read_rows
from mtbert.reports.decisions import said_of
from mtbert.reports.evaluation import Beside
from mtbert.reports.examined import Examination, Examined
from mtbert.reports.mistakes import Group, Groups, groups, typical, worst
from mtbert.runs.evaluate import Scored
from mtbert.scoring.decisions import NOT_SURE
from mtbert.scoring.intervals import Interval, intervals
from mtbert.scoring.zero_shot import applies_to

MISTAKES, HITS, READ = 8, 4, 2  # rows of each that are shown, and of these, how many with their words' weights
ZERO_SHOT = 1_000  # rows up to which the untrained encoder is asked too
CUT = 400  # signs of a text that are shown
LONGEST = 60  # tokens of an example whose words' weights are shown
MAPPED = 16  # tokens of an example whose attention is drawn


class Line(NamedTuple):
    """A metric in the table of scores."""

    metric: str
    value: float
    interval: Interval | None
    constant: float | None
    zero_shot: float | None
    single: float | None = None  # of a run of this task alone


class Example(NamedTuple):
    """A row with its texts, its label and what was said of it."""

    id: str
    texts: list[str]
    label: str
    said: str
    sure: float | None
    weights: list[Markup]  # one a sequence, empty where they were not computed
    attention: Markup | None


@dataclass(frozen=True)
class TaskPart:
    """Everything on one task."""

    name: str
    kind: str
    main: str
    lines: list[Line]
    bullet: Markup | None
    shown: list[Shown]
    words: Groups | None = None
    miss: str = ""
    worst: list[Example] = field(default_factory=list)
    typical: list[Example] = field(default_factory=list)
    rows: int = 0
    notes: list[str] = field(default_factory=list)
    unread: str = ""  # why its dev rows cannot be shown

    @property
    def score(self) -> Line | None:
        """By the metric that the task is judged by."""
        return self.lines[0] if self.lines else None


def task_part(
    examination: Examination,
    history: History,
    name: str,
    scores: Mapping[str, Any] | None,
    single: Mapping[str, float] | None = None,
) -> TaskPart:
    """One task of a run; whatever cannot be had is said in its notes, and the rest is there.

    `single` are the metrics of a run of this task alone.
    """
    task, notes = examination.recipe.tasks[name], list[str]()
    curves = curves_of(history, name, task)
    examined, unread = None, ""
    if scores is not None and name in scores["dev"]["tasks"]:
        try:
            examined = examination.examined(name)
        except Mistake as mistake:
            unread = str(mistake)
            notes.append(f"The dev rows cannot be shown: {unread}")
    elif scores is not None:
        notes.append("This task came with the run's base and was not scored again.")
    if examined is not None and examination.changed(examined.rows, name, "dev"):
        notes.append(
            "The dev rows have changed since training: scores are those of then, all below is of the rows now."
        )
    lines = _lines(examination, name, scores, examined, single or {}, notes)
    if examined is None:
        return TaskPart(name, task.kind, task.main, lines, _bullet(lines), curves, notes=notes, unread=unread)
    found = groups(examined)
    wrong, fine = worst(examined, MISTAKES), typical(examined, HITS)
    read = _readings(examination, examined, [*wrong[:READ], *fine[:READ]], notes)
    return TaskPart(
        name=name,
        kind=task.kind,
        main=task.main,
        lines=lines,
        bullet=_bullet(lines),
        shown=[
            *(shown for view in _views(examined) for shown in show(view)),
            *_decisions(examination, name),
            *_by_group(found, task.miss),
            *curves,
        ],
        words=found,
        miss=task.miss,
        worst=[_example(examined, row, read.get(row)) for row in wrong],
        typical=[_example(examined, row, read.get(row)) for row in fine],
        rows=len(examined),
        notes=notes,
    )


def _views(examined: Examined) -> Sequence[View]:
    decided = examined.decided
    return examined.task.views(decided.outputs, decided.predictions, examined.labels)


def curves_of(history: History, name: str, task: Task) -> list[Shown]:
    """Losses, penalties and scores of a task over the steps."""
    terms = history.terms(name)
    found = []
    for title, some in (
        ("Loss", {term: points for term, points in terms.items() if term == "loss"}),
        ("Penalties", {term: points for term, points in terms.items() if term != "loss"}),
    ):
        if any(some.values()):
            lines = [drawing.binned(term, *zip(*points, strict=True)) for term, points in some.items()]
            body = drawing.curves(f"{title} of {name}", lines, least=0.0)
            found.append(Shown(title, body + drawing.legend(list(some)), ""))
    metric = history.metric(name)
    if metric:
        x, y = (np.array(values, dtype=np.float64) for values in zip(*metric, strict=True))
        line = drawing.Curve(task.main, x, y, dots=len(x) <= 30)
        found.append(Shown(f"{task.main} on dev", drawing.curves(f"{task.main} of {name} on dev", [line]), ""))
    return found


def _lines(
    examination: Examination,
    name: str,
    scores: Mapping[str, Any] | None,
    examined: Examined | None,
    single: Mapping[str, float],
    notes: list[str],
) -> list[Line]:
    if scores is None or name not in scores["dev"]["tasks"]:
        return []
    metrics = scores["dev"]["tasks"][name]
    constant = scores["constant"]["tasks"].get(name, {})
    around: Mapping[str, Interval] = {}
    if examined is not None and not examination.changed(examined.rows, name, "dev"):
        around = intervals(examined.task, examined.task.measured(examined.outputs), examined.labels)
    untrained = _zero_shot(examination, examined, notes) if examined is not None else {}
    return [
        Line(metric, value, around.get(metric), constant.get(metric), untrained.get(metric), single.get(metric))
        for metric, value in metrics.items()
    ]


def _zero_shot(examination: Examination, examined: Examined, notes: list[str]) -> dict[str, float]:
    """The metrics of the untrained encoder's cosine, for pairs, where they are few enough to be encoded here."""
    if not applies_to(examined.task):
        return {}
    if len(examined) > ZERO_SHOT:
        notes.append("The untrained encoder was not asked, as the rows are many: mtbert evaluate asks it.")
        return {}
    try:
        model, tokenizer = examination.model
        beside = Beside(Scored(examination.recipe, model, tokenizer, {}))
        learned = None if examined.task.scored else beside.train(examined.task.name)
        return beside.zero_shot(examined.task, RowStream.of(examined.rows), learned)
    except Mistake as mistake:
        notes.append(f"The untrained encoder was not asked: {mistake}")
        return {}


def _bullet(lines: Sequence[Line]) -> Markup | None:
    metric, value, interval, constant, *_ = lines[0] if lines else Line("", 0.0, None, None, None)
    if interval is None:
        return None
    ends = (min(0.0, value, interval.low, constant or 0.0), max(1.0, value))
    return drawing.bullet(f"{metric} {value:z.4f}", *interval, value, constant, ends)


def _decisions(examination: Examination, name: str) -> list[Shown]:
    """What `mtbert calibrate` fitted for a task, and what that is worth on held-out rows."""
    one = examination.decisions.get(name)
    if one is None:
        return []
    held, decision = one.held_out, one.decision
    facts = [
        ("temperature", f"{decision.temperature:z.3f}"),
        ("ECE, held out", f"{held.error_before:z.4f} → {held.error:z.4f}"),
        ("Brier, held out", f"{held.brier_before:z.4f} → {held.brier:z.4f}"),
    ]
    if decision.threshold is not None:
        facts.append(("threshold", f"{decision.threshold:z.4f}"))
    if held.metric_before is not None and held.metric is not None:
        facts.append((f"{one.metric}, held out", f"{held.metric_before:z.4f} → {held.metric:z.4f}"))
    if decision.sure_from is not None and held.precision is not None and held.coverage is not None:
        facts.append(("not sure below", f"{decision.sure_from:z.4f}"))
        facts.append(("right where sure, held out", f"{held.precision:z.4f} of {held.coverage:.0%} of the rows"))
    rows = [tag("tr", tag("th", fact, scope="row"), tag("td", said)) for fact, said in facts]
    lines = [line.removeprefix(f"{name}: ") for line in said_of(name, one)]
    if not decision.says_the_likeliest:
        lines.append(
            "pictures, groups and mistakes here are of what is said so; scores and curves are of the likeliest class"
        )
    caption = " ".join(f"{line[0].upper()}{line[1:]}." for line in lines)
    return [Shown("Decisions", tag("table", tag("tbody", *rows)), caption)]


def span_of(part: TaskPart) -> Span | None:
    """A task's score as a row of a picture of intervals."""
    line = part.score
    if line is None or line.interval is None:
        return None
    marks = [("constant", line.constant), ("zero-shot", line.zero_shot), ("alone", line.single)]
    return Span(part.name, line.value, *line.interval, marks)


def _by_group(found: Groups, miss: str) -> list[Shown]:
    parts = {
        "By length": found.by_length,
        "By label": found.by_label,
        "By words that both texts share": found.by_shared_words,
    }
    return [
        Shown(
            title,
            _bars(f"{miss}, {title.lower()}", some, found.miss),
            f"{miss.capitalize()}; the line is that of all rows.",
        )
        for title, some in parts.items()
        if 2 <= len(some) <= 20
    ]


def _bars(title: str, some: Sequence[Group], middle: float) -> Markup:
    return drawing.bars(title, [(one.name, one.miss, f"{one.miss:z.3f}, {one.rows:,} rows") for one in some], middle)


def _readings(
    examination: Examination, examined: Examined, rows: Sequence[int], notes: list[str]
) -> dict[int, Reading]:
    if not rows:
        return {}
    try:
        examples = examination.examples(examined, np.array(rows))
        readings = read_rows(*examination.model, examples, range(len(rows)))
    except Mistake as mistake:
        notes.append(f"Which words mattered cannot be shown: {mistake}")
        return {}
    return dict(zip(rows, readings, strict=True))


def _example(examined: Examined, row: int, reading: Reading | None) -> Example:
    task = examined.task
    probabilities = task.probabilities(examined.decided.outputs[row : row + 1])
    said = _said(examined.said(row))
    column = probabilities.get(said)
    short = reading is not None and max(map(len, reading.sequences)) <= LONGEST
    return Example(
        id=examined.ids[row],
        texts=[text if len(text) <= CUT else f"{text[:CUT]}…" for text in examined.texts(row)],
        label=_said(task.say(_row(examined.labels, row))),
        said=f"{NOT_SURE} ({said})" if examined.not_sure(row) else said,
        sure=None if column is None else float(column[0]),
        weights=[_weighted(pieces) for pieces in reading.sequences] if reading is not None and short else [],
        attention=_attention(reading) if reading is not None and len(reading.sequences[0]) <= MAPPED else None,
    )


def _row(labels: Labels, row: int) -> Any:
    """One row of labels, however many numbers it has."""
    return next(iter(labels[np.array([row])]))


def _said(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value)) or "none"
    return f"{value:z.2f}" if isinstance(value, float) else str(value)


def _weighted(pieces: Sequence[Any]) -> Markup:
    """Words with a ground as strong as their weight."""
    spans: list[Any] = []
    for text, weight in pieces:
        whole = text.removeprefix("##")
        if text == whole and spans:
            spans.append(" ")
        kind = "for" if weight > 0 else "against"
        spans.append(
            tag("span", whole, class_=f"piece {kind}", style=f"--w:{abs(weight):z.2f}", title=f"{weight:+z.2f}")
        )
    return tag("p", *spans, class_="weighted")


def _attention(reading: Reading) -> Markup:
    names = [piece.text for piece in reading.sequences[0]]
    return drawing.heat("Attention of the last layer, mean over its heads", names, names, reading.attention, "z.2f")
