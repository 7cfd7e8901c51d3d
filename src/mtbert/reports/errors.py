"""Where a run's kept model is wrong, and which labels of its training rows are likely to be: `mtbert errors`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import RenderableType

from mtbert.data.labels import plain as numbers
from mtbert.data.tables import NoLabels, Rows
from mtbert.errors import Mistake, Mistakes, unknown
from mtbert.model.sentences import sentence_vectors
from mtbert.model.sources import Source
from mtbert.reports.base import Report, count, cut, grid, plain
from mtbert.reports.examined import Examination, Examined
from mtbert.reports.mistakes import Group, Groups, groups, worst
from mtbert.runs.folder import Run
from mtbert.scoring.decisions import NOT_SURE
from mtbert.scoring.label_errors import likely_wrong, out_of_sample, suspicion

SHOWN = 10  # mistakes in the terminal
TEXT = 100  # signs of a text there
BATCH = 64

Told = Callable[[str, int, int], None]  # task, rows done, rows in all


@dataclass(frozen=True)
class Mistaken:
    """A row that is wrong, or whose label is likely to be."""

    task: str
    split: str
    id: str
    label: str
    said: str
    miss: float
    texts: tuple[str, ...]


@dataclass(frozen=True)
class TaskErrors:
    """The mistakes of one task."""

    rows: int
    miss: str  # what `groups.miss` and the others are
    groups: Groups
    mistakes: list[Mistaken]  # the most confident first


@dataclass(frozen=True)
class LabelErrors:
    """Training rows whose labels are likely wrong, the most suspicious first."""

    rows: int
    found: list[Mistaken]


@dataclass(frozen=True)
class ErrorReport(Report):
    """Everything that `mtbert errors` says."""

    split: str
    tasks: dict[str, TaskErrors]
    labels: dict[str, LabelErrors]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_csv(self) -> str:
        """A row a mistake: task, split, what it is, id, label, what was said, by how much it misses, the texts."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(["task", "split", "what", "id", "label", "said", "miss", "text", "second_text"])
        for what, some in (("mistake", self.tasks), ("likely label error", self.labels)):
            for one in some.values():
                for row in one.mistakes if isinstance(one, TaskErrors) else one.found:
                    texts = (*row.texts, "")[:2]
                    writer.writerow([row.task, row.split, what, row.id, row.label, row.said, f"{row.miss:.6g}", *texts])
        return written.getvalue()

    def shown(self) -> Iterable[RenderableType]:
        for name, task in self.tasks.items():
            yield plain(f"{name}: {count(task.rows, 'row')} of {self.split}; {task.miss} {task.groups.miss:z.4f}")
            for title, some in (
                ("by length", task.groups.by_length),
                ("by label", task.groups.by_label),
                ("by shared words", task.groups.by_shared_words),
            ):
                yield from _groups_shown(title, some, task.miss)
            words = task.groups.words
            if words:
                cells = [[f"{word.rows:,}", f"{word.miss:z.3f}"] for word in words]
                yield grid("  words that go with mistakes", ["rows", task.miss], [f"  {w.word}" for w in words], cells)
            yield from _rows_shown("most confident mistakes", task.mistakes)
        for name, one in self.labels.items():
            yield plain(f"{name}: {count(len(one.found), 'label')} of {one.rows:,} training rows likely wrong")
            yield from _rows_shown("most suspicious labels", one.found)
        yield from map(plain, self.notes)


def errors(
    run: Run,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    split: str = "dev",
    labels: bool = False,
    told: Told = lambda task, done, rows: None,
) -> ErrorReport:
    """The mistakes of a run's kept model on a split of these tasks, or of all that it has trained.

    With `labels`, also the training labels that are likely wrong, for tasks that say one of several classes: a linear
    head on the features of the untrained encoder, cross-validated, so that no row is judged by what has learned its
    label. Tasks without labels in the split are left out, and said, unless none has any. Raises Mistake for a task or
    split that is not there.
    """
    examination = Examination(run, data)
    for name in tasks or ():
        if name not in examination.recipe.tasks:
            raise Mistake(unknown("task", name, examination.recipe.tasks))
    found, wrong, notes = dict[str, TaskErrors](), dict[str, LabelErrors](), list[str]()
    chosen, left_out = list(tasks or examination.recipe.learned), dict[str, str]()
    for name in chosen:
        try:
            examined = examination.examined(name, split)
        except NoLabels as why:
            left_out[name] = str(why)
            continue
        mistakes = [_mistaken(examined, row) for row in worst(examined, len(examined))]
        found[name] = TaskErrors(len(examined), examined.task.miss, groups(examined), mistakes)
        if not examined.decision.says_the_likeliest:
            notes.append(f"{name}: what it says is as mtbert calibrate decided, and so is what counts as a mistake")
    if left_out and not found:
        raise Mistakes(left_out.values())
    notes += [f"{name} is left out: {why}" for name, why in left_out.items()]
    for name in chosen if labels else ():
        task = examination.recipe.tasks[name]
        if not task.exclusive:
            notes.append(f"{name}: labels of kind {task.kind} are not looked at, only one of several classes")
            continue
        wrong[name] = _label_errors(examination, name, told)
    return ErrorReport(split, found, wrong, notes)


def _mistaken(examined: Examined, row: int) -> Mistaken:
    task, said = examined.task, _worded(examined.said(row))
    return Mistaken(
        task.name,
        examined.split,
        examined.ids[row],
        _worded(task.say(next(iter(examined.labels[np.array([row])])))),
        f"{NOT_SURE} ({said})" if examined.not_sure(row) else said,
        float(examined.misses[row]),
        tuple(examined.texts(row)),
    )


def _worded(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _label_errors(examination: Examination, name: str, told: Told) -> LabelErrors:
    rows = examination.rows(name, "train")
    assert rows.labels is not None  # training rows are read with their labels
    task, labels = rows.task, numbers(rows.labels)
    features = untrained_features(examination.untrained, rows, lambda done: told(name, done, len(rows)))
    probabilities = out_of_sample(features, labels, len(task.class_names), _same_texts(rows))
    wrong = np.flatnonzero(likely_wrong(probabilities, labels))
    order = wrong[np.argsort(-suspicion(probabilities, labels)[wrong], kind="stable")]
    margin, seems, ids = suspicion(probabilities, labels), probabilities.argmax(1), rows.ids
    found = [
        Mistaken(
            name,
            "train",
            ids[row],
            str(task.say(labels[row])),
            str(task.say(float(seems[row]))),
            float(margin[row]),
            tuple(str(column[int(row)].as_py()) for column in rows.texts),
        )
        for row in order
    ]
    return LabelErrors(len(rows), found)


def untrained_features(
    source: Source, rows: Rows, told: Callable[[int], None] = lambda done: None
) -> NDArray[np.float32]:
    """What an encoder that has seen no label makes of rows: (N, F).

    The mean of the tokens' states of each text and, for pairs, the distance and the product of both. `told` hears how
    many texts are done.
    """
    encoder, tokenizer = source
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        told(done // len(rows.texts))

    tokens = [tokenizer.encode_once(column) for column in rows.texts]
    columns = [sentence_vectors(encoder, some, tokenizer, BATCH, tell).numpy() for some in tokens]
    if len(columns) == 1:
        return columns[0]
    one, other = (column / np.maximum(np.linalg.norm(column, axis=1, keepdims=True), 1e-8) for column in columns)
    return np.concatenate([np.abs(one - other), one * other, (one * other).sum(1, keepdims=True)], axis=1)


def _same_texts(rows: Rows) -> NDArray[np.int64]:
    """A number for every row (N,), the same for rows with the same first text."""
    codes: NDArray[np.int64] = pc.dictionary_encode(rows.texts[0].combine_chunks()).indices.to_numpy().astype(np.int64)
    return codes


def _groups_shown(title: str, some: Sequence[Group], miss: str) -> Iterator[RenderableType]:
    if len(some) > 1:
        cells = [[f"{one.rows:,}", f"{one.miss:z.3f}"] for one in some[:20]]
        yield grid(f"  {title}", ["rows", miss], [f"  {one.name}" for one in some[:20]], cells)


def _rows_shown(title: str, some: Sequence[Mistaken]) -> Iterator[RenderableType]:
    if some:
        yield plain(f"  {title}:")
    for one in some[:SHOWN]:
        texts = " | ".join(cut(" ".join(text.split()), TEXT) for text in one.texts)
        yield plain(f"    {one.id}: said {one.said}, label {one.label}: {texts}")
    if len(some) > SHOWN:
        yield plain(f"    and {len(some) - SHOWN:,} more, with --output")
