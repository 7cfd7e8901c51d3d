"""Drafts a recipe from a person's files: what each task reads and predicts, with a comment wherever one may differ."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.kinds.spans import PREFIXES
from mtbert.data.tables import FEW
from mtbert.errors import Mistake
from mtbert.recipe.text import as_line
from mtbert.start.columns import NAMES_OF_SCORES, Column, say_the_same, sets_split, ways_to_read, words_and_tags
from mtbert.start.files import SPLITS, File, FileSet, read_sets

LOOKED_AT = 2_000  # pairs whose words are compared
RISES = 0.2  # the correlation from which on scores of pairs are taken for how close the two texts are
LISTED = 12  # classes that are written into the recipe; of more, the comment tells the first
SHARE = "10%"
TASK_NAMES = re.compile(r"tasks?|task_?name|dataset|aufgabe|tâche|tarea|compito", re.IGNORECASE)  # of a column


@dataclass(frozen=True)
class Question:
    """What the files leave open; the first of the answers is the guess."""

    text: str
    answers: tuple[str, ...]


Ask = Callable[[Question], str]


def take_the_guess(question: Question) -> str:
    """The answer where nobody is asked."""
    return question.answers[0]


@dataclass
class Draft:
    """A task as a recipe writes it: its keys with their values, and what is said beside a key or above the task."""

    name: str
    keys: dict[str, Any]
    beside: dict[str, str] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)


def draft_recipe(paths: Sequence[Path], out: Path, ask: Ask = take_the_guess) -> str:
    """The text of a recipe over these files and folders, to be written at `out`.

    Raises Mistakes for all files that cannot be read, and Mistake where none holds texts and labels.
    """
    sets = read_sets(paths)
    notes: list[str] = []
    tasks: list[Draft] = []
    folder = Path(os.path.commonpath([file.path.resolve().parent for one in sets for file in one.files.values()]))
    for one in sets:
        tasks += _tasks_of(one, folder, notes, ask)
    if not tasks:
        raise Mistake("\n".join([*notes, "there is nothing to learn in these files: a task needs texts and labels"]))
    _name_apart(tasks)
    return "\n".join(_written(tasks, notes, os.path.relpath(folder, out.resolve().parent)))


def _tasks_of(files: FileSet, folder: Path, notes: list[str], ask: Ask) -> Iterator[Draft]:
    """A task for each column of labels in a set of files."""
    train = files.files["train"]
    for where, columns in _parts(train):
        yield from _tasks_of_part(_Part(files, where, columns), folder, notes, ask)


@dataclass(frozen=True)
class _Part:
    """The rows of a training file that belong to the same tasks."""

    files: FileSet
    where: Mapping[str, str]
    columns: list[Column]

    @property
    def name(self) -> str:
        return next(iter(self.where.values()), self.files.name)

    @property
    def train(self) -> File:
        return self.files.files["train"]


def _parts(train: File) -> Iterator[tuple[dict[str, str], list[Column]]]:
    """A long file has a column that names the task of each row; every other file is one part."""
    for naming in train.columns:
        if TASK_NAMES.fullmatch(naming.name) and naming.role == "class":
            parts = dict(_parts_by(naming, train.columns))
            if not naming.tells_origin or _labelled_apart(list(parts.values())):
                yield from (({naming.name: value}, columns) for value, columns in parts.items())
                return
    yield {}, train.columns


def _parts_by(naming: Column, columns: Sequence[Column]) -> Iterator[tuple[str, list[Column]]]:
    for value in naming.counts:
        rows = [row for row, cell in enumerate(naming.cells) if cell == value]
        yield value, [one.among(rows) for one in columns if one is not naming]


def _labelled_apart(parts: Sequence[Sequence[Column]]) -> bool:
    """Whether rows that are from here and there have other labels, as those of several tasks do."""
    labels = [
        {one.name: set(one.labels) for one in part if one.role in ("class", "score") and not one.tells_origin}
        for part in parts
    ]
    return any(
        ours.keys() != theirs.keys() or any(ours[name].isdisjoint(theirs[name]) for name in ours)
        for ours, theirs in combinations(labels, 2)
    )


def _tasks_of_part(part: _Part, folder: Path, notes: list[str], ask: Ask) -> Iterator[Draft]:
    path, columns = part.train.path, sets_split([one for one in part.columns if one.filled])
    tagged = words_and_tags(columns)
    if tagged is not None:
        words, tags = tagged
        task = _drafted(part, (words.name,), tags, folder, notes)
        _write_tags(task, tags)
        yield task
        columns = [one for one in columns if one not in tagged]
    ways = ways_to_read(columns)
    if not ways and tagged is not None:
        return
    if not ways:
        notes.append(f"{path} holds no column of texts ({_described(columns)})")
        return
    said = [" and ".join(f"'{name}'" for name in way) for way in ways]
    chosen = said[0]
    if len(ways) > 1:
        chosen = ask(Question(f"{path.name}: what do the tasks read?", tuple(said)))
    text = ways[said.index(chosen)]
    labels = _labels(columns, part, notes)
    if not labels:
        notes.append(f"{path} holds no column of labels that can be learned ({_described(columns)})")
    wanted = _wanted(labels, path.name, notes, ask)
    for label in wanted:
        task = _drafted(part, text, label, folder, notes)
        if len(wanted) > 1:
            task.name = f"{task.name}_{label.name}"
        if len(ways) > 1:
            others = [_list(way) for way in ways if way != text]
            task.beside["text"] = f"or {' or '.join(others[:3])}"
        if _may_be_both(label):
            _ask_the_kind(task, label, ask)
        if task.keys["kind"] == "regression" and len(text) == 2 and _says_how_close(part, text, label):
            task.keys |= {"pairs": "separate", "head": "cosine"}
            task.beside["head"] = "begins with what the encoder knows; or neither this nor `pairs`"
        yield task


def _wanted(labels: Sequence[Column], file: str, notes: list[str], ask: Ask) -> list[Column]:
    """Those of the labels that a task is to predict: a lone one, or what the person says of each."""
    if len(labels) < 2:
        return list(labels)
    wanted = []
    told = any(not label.tells_origin for label in labels)
    for label in labels:
        origin = told and label.tells_origin
        question = f"{file}: a task that predicts '{label.name}' ({_values(label)})?"
        if ask(Question(question, ("no", "yes") if origin else ("yes", "no"))) == "yes":
            wanted.append(label)
        elif origin:
            notes.append(f"{file}: column '{label.name}' says where a row is from; it is taken for no label")
    return wanted


def _labels(columns: Sequence[Column], part: _Part, notes: list[str]) -> list[Column]:
    """The columns that tasks can predict."""
    path = part.train.path
    classes = [one for one in columns if one.role == "class"]
    for one in [one for one in classes if _names_splits(one)]:
        notes.append(f"{path.name}: column '{one.name}' names splits; write a file for each to keep them as they are")
        classes.remove(one)
    kept: list[Column] = []
    for one in sorted(classes, key=lambda column: bool(column.numbers)):  # names tell more than numbers
        same = next((other for other in kept if say_the_same(one, other)), None)
        if same is None:
            kept.append(one)
        else:
            notes.append(f"{path.name}: column '{one.name}' says the same as '{same.name}'")
    scores = [one for one in columns if one.role == "score"]
    numbers = [one for one in columns if one.role == "number"]
    scores += [one for one in numbers if NAMES_OF_SCORES.search(one.name) or not (kept or scores)]
    sets = [one for one in columns if one.role == "list" and one.lists and one.holds_sets]
    for one in columns:
        if one.role == "list" and one not in sets:
            notes.append(
                f"{path.name}: column '{one.name}' holds lists, and no sets of a few labels; it is taken for no label"
            )
        if one.role == "time":
            notes.append(f"{path.name}: column '{one.name}' holds days or times, which are neither texts nor labels")
        if one.role == "comma":
            notes.append(
                f"{path.name}: column '{one.name}' holds numbers with a decimal comma; with a point they are read"
            )
        if one in numbers and one not in scores:
            notes.append(f"{path.name}: column '{one.name}' holds numbers; it is taken for no label")
    return [one for one in columns if one in kept or one in scores or one in sets]


def _names_splits(column: Column) -> bool:
    words = {word for spelt in SPLITS.values() for word in spelt}
    return {value.casefold() for value in column.counts} <= words


def _drafted(part: _Part, text: tuple[str, ...], label: Column, folder: Path, notes: list[str]) -> Draft:
    train = part.train
    keys: dict[str, Any] = {"kind": "classification", "text": text[0] if len(text) == 1 else list(text)}
    task = Draft(part.name, keys | {"label": label.name})
    files = _sources(part, text, label, notes)
    counts = Counter(label.labels)
    for split in ("train", "dev"):
        other = files[split].named(label.name) if split in files and files[split] is not train else None
        if other is not None:
            counts += (other.split(label.separator) if label.separator else other).labels
    if label.role in ("class", "list"):
        _write_classes(task, label.name, counts)
        if label.role == "list":
            task.keys["kind"] = "multilabel"
            task.beside["kind"] = "any number of the classes a row"
        if label.separator:
            task.keys["separator"] = label.separator
            task.beside["separator"] = "what stands between the labels of a row"
    else:
        _write_range(task, counts)
    if part.where:
        task.keys["where"] = dict(part.where)
        task.beside["where"] = "the rows of this task"
    identities = [one.name for one in part.columns if one.role == "id" and len(one.counts) == len(one.cells)]
    if len(identities) == 1 and identities[0] not in ("id", ""):
        task.keys["id"] = identities[0]
    for split, file in files.items():
        task.keys[split] = os.path.relpath(file.path.resolve(), folder)
    if train.header:
        task.keys["header"] = list(train.header)
        task.beside["header"] = "the files have no line with the names of their columns: these are ours"
    if "dev" not in files:
        task.keys["dev"] = SHARE
        task.beside["dev"] = "set apart from train by its texts, `test` likewise; or a file"
    _write_doubts(task, part, text, label)
    return task


def _sources(part: _Part, text: tuple[str, ...], label: Column, notes: list[str]) -> dict[str, File]:
    """The files that hold what the task reads; a test file may have no labels."""
    sources = {}
    for split in ("train", "dev", "test"):
        file = part.files.files.get(split)
        if file is None:
            continue
        missing = [name for name in (*text, *part.where, label.name) if file.named(name) is None]
        if split == "test":
            missing = [name for name in missing if name != label.name]
        if missing:
            there = ", ".join(column.name for column in file.columns)
            notes.append(f"{file.path} is left out: it has no column {' and '.join(missing)} (it has {there})")
            continue
        sources[split] = file
    return sources


def _write_classes(task: Draft, label: str, counts: Counter[str]) -> None:
    known = Classification(name="task", text=("text",), label=label).completed(counts)
    ranked = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(LISTED))
    if len(known.classes) <= LISTED:
        task.keys["classes"] = [
            int(name) if re.fullmatch(r"0|-?[1-9]\d{0,8}", name) else name for name in known.classes
        ]
        task.beside["classes"] = f"rows: {ranked}"
    else:
        task.beside["label"] = f"{len(known.classes):,} classes, found in train: {ranked}, ..."
    for odd in known.oddities():
        task.above.append(f"{odd}: are they the same?")
    rare = [name for name, count in counts.items() if count < 10]
    if rare and len(rare) < len(known.classes):
        task.above.append(f"fewer than ten rows have {_some(rare)}")


def _write_tags(task: Draft, tags: Column) -> None:
    """A label for each word; tags of spans say by their beginnings which scheme they follow."""
    task.keys["kind"] = "tokens"
    task.beside["kind"] = "a label for each word"
    beginnings = {tag.partition("-")[0] for tag in tags.labels}
    scheme = next(
        (name for name, known in PREFIXES.items() if "O" in beginnings and beginnings <= {"O", *known}), "none"
    )
    task.keys["scheme"] = scheme


def _write_range(task: Draft, counts: Mapping[str, int]) -> None:
    known = Regression(name="task", text=("text",), label="label").completed(counts)
    task.keys["kind"] = "regression"
    task.keys["range"] = [int(end) if end.is_integer() else end for end in known.range]
    scores = [float(cell) for cell in counts]
    task.beside["range"] = f"found: {min(scores):g} to {max(scores):g}"


def _write_doubts(task: Draft, part: _Part, text: tuple[str, ...], label: Column) -> None:
    """What the rows of the training file leave to be said: quotes, rows without a label or a text."""
    train = part.train
    if train.quotes != "checked":
        task.keys["quotes"] = train.quotes
        task.beside["quotes"] = {"none": "a quote is a sign like any other here"}.get(
            train.quotes, "quoted cells are as meant"
        )
    texts = [one for one in part.columns if one.name in text]
    read = len(label.cells)
    total = read + train.left_out
    empty = sum(not all(column.cells[row] for column in texts) for row in range(read))
    sorts = {
        "without a label": read - label.filled,
        "without a text": empty,
        "that cannot be read for certain": train.doubtful,
    }
    said = [f"{count:,} {sort}" for sort, count in sorts.items() if count]
    if not said:
        return
    task.keys["bad_rows"] = "skip"
    task.beside["bad_rows"] = f"of {total:,} rows {' and '.join(said)}"
    if sum(sorts.values()) > FEW * total:
        task.above.append(f"of {total:,} rows {' and '.join(said)} are left out: is that meant?")


def _may_be_both(label: Column) -> bool:
    return label.role == "class" and label.ordered


def _says_how_close(part: _Part, text: tuple[str, ...], label: Column) -> bool:
    """Whether scores of pairs rise with the words that the two texts share, as those of similarity do."""
    one, other = (next(column.cells for column in part.columns if column.name == name) for name in text)
    rows = [row for row in zip(one, other, label.cells, strict=True) if all(row)][:LOOKED_AT]
    shared = [_shared_words(first, second) for first, second, _ in rows]
    scores = [float(score) for _, _, score in rows]
    if len(set(shared)) < 2 or len(set(scores)) < 2:
        return False
    return bool(np.corrcoef(shared, scores)[0, 1] > RISES)


def _shared_words(one: str, other: str) -> float:
    words, others = (set(re.findall(r"\w+", text.casefold())) for text in (one, other))
    return len(words & others) / max(1, len(words | others))


def _ask_the_kind(task: Draft, label: Column, ask: Ask) -> None:
    """Marks such as 1 to 5 are classes, with an order or without, or scores."""
    low, high = (int(end) for end in (min(label.numbers), max(label.numbers)))
    answers = ("classification", "ordinal", "regression")
    kind = ask(Question(f"'{label.name}' is {low} to {high}: classes, classes with an order, or scores?", answers))
    if kind == "regression":
        task.keys.pop("classes", None)
        task.beside.pop("classes", None)
        task.keys |= {"kind": kind, "range": [low, high]}
    elif kind == "ordinal":
        task.keys["kind"] = kind
    else:
        task.beside["kind"] = (
            f"or ordinal, if their order counts; or regression, with `range: [{low}, {high}]`, if they are scores"
        )


def _name_apart(tasks: Sequence[Draft]) -> None:
    """Give each task a name that a task can have and no other has."""
    taken: set[str] = set()
    for task in tasks:
        name = re.sub(r"\W+", "_", task.name).strip("_") or "task"
        name = name if _can_name(name) else f"{name}_task"
        number = next(number for number in range(1, len(tasks) + 2) if _numbered(name, number) not in taken)
        task.name = _numbered(name, number)
        taken.add(task.name)


def _can_name(name: str) -> bool:
    try:
        Classification(name=name, text=("text",), label="label")
    except ValueError:
        return False
    return True


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


ORDER = (
    "kind",
    "text",
    "pairs",
    "head",
    "label",
    "where",
    "classes",
    "separator",
    "scheme",
    "range",
    "id",
    "train",
    "dev",
    "test",
    "header",
    "quotes",
    "bad_rows",
)


def _written(tasks: Sequence[Draft], notes: Sequence[str], data: str) -> Iterator[str]:
    yield "# drafted from the files by `mtbert init`; the comments say where another answer is possible"
    for note in dict.fromkeys(notes):
        yield f"# {note}"
    yield "encoder: minilm"
    yield f"data: {as_line(data)}"
    yield "tasks:"
    for task in tasks:
        yield f"  {task.name}:"
        for line in task.above:
            yield f"    # {line}"
        for key in sorted(task.keys, key=ORDER.index):
            line = f"    {key}: {as_line(task.keys[key])}"
            yield line if key not in task.beside else f"{line}  # {_one_line(task.beside[key])}"
    yield "# stages: left out for the default one (docs/recipe.md); `stages.0.epochs=3` on the command line changes it"
    yield ""


def _one_line(comment: str) -> str:
    return " ".join(comment.split())


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f", ... ({len(names):,} in all)" if len(names) > LISTED else "")


def _values(column: Column) -> str:
    if column.role == "class":
        return f"{len(column.counts):,} classes: {_some(list(column.counts))[:80]}"
    if column.role == "list":
        return f"any number a row of {len(column.labels):,} labels: {_some(list(column.labels))[:80]}"
    return f"{min(column.numbers):g} to {max(column.numbers):g}"


def _described(columns: Sequence[Column]) -> str:
    words = {
        "id": "names of rows", "text": "texts", "class": "classes", "score": "scores", "number": "numbers",
        "list": "lists", "time": "days or times", "address": "addresses of pages",
        "comma": "numbers with a decimal comma", "nothing": "one value only",
    }  # fmt: skip
    return ", ".join(f"'{column.name}': {words[column.role]}" for column in columns) or "all columns are empty"
