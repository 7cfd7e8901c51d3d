"""A trained model at work: texts in, predictions out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.batches import Examples
from mtbert.data.formats.base import Quotes
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, joined
from mtbert.data.streams import WHOLE, RowStream, Share, stream_rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import ENSEMBLE, MODEL
from mtbert.model.devices import best_device
from mtbert.model.ensemble import Answering, load_answering
from mtbert.model.sentences import SENTENCE, sentence_vectors
from mtbert.model.sources import HUB_ID, from_hub
from mtbert.runs.decisions import read_decisions
from mtbert.runs.folder import BEST, Run, no_run
from mtbert.runs.notebook import html_table
from mtbert.scoring.decisions import NOT_SURE, PLAIN, Decided, Decision, probability_of
from mtbert.scoring.evaluation import outputs_of, outputs_together
from mtbert.serving.engines import Answers, Asked, Engine, Question
from mtbert.serving.given import as_arrow, columns_of, readers_of, texts_by_reader

Told = Callable[[str, int, int], None]  # task, rows done, rows in all

MODEL_FILES = ["*.safetensors", "*.json", "*.txt"]  # of a model on the hub; never a pickle, never code
SLICE = 1 << 14  # rows that are tokenised and predicted at a time, which bounds the memory


@dataclass(frozen=True)
class Predictions:
    """Predictions for N inputs, in their order."""

    task: Task
    ids: list[str]
    values: Labels  # N rows, in the units of the task's labels
    probabilities: dict[str, NDArray[np.float64]]  # a column (N,) a class
    kept: dict[str, pa.ChunkedArray] = field(default_factory=dict)  # columns (N,) of the input
    words: list[list[str]] | None = None  # of each text, where the task reads words: those that are labelled
    sure: NDArray[np.bool_] | None = None  # (N,), None where the task always says something

    @property
    def said(self) -> dict[str, Any]:
        """The prediction, and one probability column a class."""
        probabilities = {f"probability_{name}": column for name, column in self.probabilities.items()}
        words = {} if self.words is None else {"words": self.words}
        said = self.task.written(self.values)
        if self.sure is not None:
            said = _where_sure(said, self.sure)
        return {**words, "prediction": said, **probabilities}

    @property
    def columns(self) -> dict[str, Any]:
        """As a file holds them: id, the columns kept, and what is said."""
        return {"id": self.ids, **self.kept, **self.said}


@dataclass(frozen=True)
class Together:
    """What several tasks say of the same N inputs, in their order."""

    ids: list[str]
    tasks: dict[str, Predictions]
    kept: dict[str, pa.ChunkedArray]  # columns (N,) of the input

    @property
    def columns(self) -> dict[str, Any]:
        """As a file holds them: id, the columns kept, and what each task says, its name before each column."""
        said = {f"{task}_{name}": column for task, one in self.tasks.items() for name, column in one.said.items()}
        return {"id": self.ids, **self.kept, **said}


class Predictor:
    """A model with its tokenizer: `mtbert.load("RUN")`."""

    def __init__(self, model: Answering, tokenizer: Tokenizer, decisions: Mapping[str, Decision] | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.decisions = dict(decisions or {})

    @classmethod
    def load(cls, folder: str | Path, revision: str | None = None) -> Predictor:
        """From a run folder (its kept model), from a model folder such as RUN/best, or from the hub: ORG/NAME at a
        revision, which pins it where that is a commit. What was decided there comes with it.

        Raises Mistake where there is no such model, naming the runs near it, and for a revision of a local folder.
        """
        if not Path(folder).exists() and HUB_ID.fullmatch(str(folder)):
            try:
                folder = from_hub(str(folder), revision, MODEL_FILES, "model")
            except Mistake as mistake:
                raise Mistake(f"{no_run(Path(folder))}; nor can it be had from the hub: {mistake}") from None
        elif revision is not None:
            raise Mistake(f"{folder} is a local folder, which has no revision '{revision}'; leave it out")
        kept = Path(folder)
        if Run(kept).exists:
            kept = Run.open(kept).part(BEST)
        elif not any((kept / name).exists() for name in (MODEL, ENSEMBLE)):
            raise no_run(kept)
        model, tokenizer = load_answering(kept)
        decisions = {name: one.decision for name, one in read_decisions(kept, model.tasks).items()}
        return cls(model.to(best_device()), tokenizer, decisions)

    @property
    def tasks(self) -> list[str]:
        return list(self.model.tasks)

    def predict(self, task: str, texts: Any) -> list[Any]:
        """The class name or the score of each text (or pair, for a pair task), in order; the names of its labels for a
        task of several, and for a task of words each word with its label.

        `texts` is a list of texts, of pairs or of dicts with the task's columns, or a table of pyarrow, pandas, polars
        or datasets that has them. Raises Mistake for a task the model does not have, or a pair where a single text is
        due and the reverse.
        """
        columns = columns_of(self.task(task), texts)
        return self._said_of(task, columns, outputs_of(self.model, self._examples([task], columns)))

    def predict_all(self, texts: Any) -> list[dict[str, Any]]:
        """What every task says to each text (or pair), in order: task -> what `predict` says.

        Texts are for the tasks that read one, pairs for those that read two, dicts and tables for all tasks whose
        columns they have. The encoder reads a text once for all tasks that `MultiTask.alike` groups. Raises Mistake
        as `predict`, and where no task reads what is given.
        """
        said: dict[str, list[Any]] = {}
        asked = [Question(names, columns) for names, columns in texts_by_reader(self.model.tasks, texts)]
        for question, outputs in zip(asked, self.answer(asked), strict=True):
            said |= {name: self._said_of(name, question.texts, one) for name, one in outputs.items()}
        return [dict(zip(said, row, strict=True)) for row in zip(*said.values(), strict=True)]

    def probabilities(self, task: str, texts: Any) -> list[dict[str, float]]:
        """The probability of every class for each text; raises Mistake for a task without classes."""
        columns = self.task(task).probabilities(self._decided(task, self.outputs(task, texts)).outputs)
        if not columns:
            raise Mistake(f"task '{task}' says {self.task(task).meaning}, which has no probabilities; use predict")
        return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]

    def outputs(self, task: str, texts: Any) -> Tensor:
        """Logits or scores as the head gives them: (N, outputs)."""
        columns = columns_of(self.task(task), texts)
        return outputs_of(self.model, self._examples([task], columns))

    def answers(self, task: str, texts: Sequence[str]) -> list[str]:
        """A line for each text, or for the one pair that two texts are for a pair task: the text, and what is said.

        Raises Mistake where a pair task is given one text, or three.
        """
        chosen = self.task(task)
        if len(chosen.text) == 2 and len(texts) != 2:
            raise Mistake(f"task '{task}' reads pairs: give two texts, not {len(texts)}")
        asked = [tuple(texts)] if len(chosen.text) == 2 else texts
        said = [" | ".join(texts)] if len(chosen.text) == 2 else texts
        answers = self._answers(task, self.outputs(task, asked))
        return [f"{text} -> {answer}" for text, answer in zip(said, answers, strict=True)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What the shared encoder makes of each text, without any task's modules or head: (N, D), not normalised.

        It is the mean of the last states of the text's tokens. Raises Mistake for what is no list of texts.
        """
        (column,) = columns_of(SENTENCE, texts)
        vectors = sentence_vectors(self.model.encoder, self.tokenizer.encode(column), self.tokenizer)
        embedded: NDArray[np.float32] = vectors.numpy()
        return embedded

    def predict_table(self, task: str, source: Any, quotes: Quotes | None = None) -> Predictions:
        """Predictions for every row of a file, folder or table, in its order; labels in it are not looked at.

        The same texts and ids come out of every format: a missing text is an empty one, a missing id an empty id, and a
        number is read as it is written, whole ones without a point. `quotes` is the task's own, unless it is given.
        """
        parts = list(self.predict_slices(task, source, quotes))
        names, sure = parts[0].probabilities, [part.sure for part in parts if part.sure is not None]
        return Predictions(
            self.task(task),
            [one for part in parts for one in part.ids],
            joined([part.values for part in parts]),
            {name: np.concatenate([part.probabilities[name] for part in parts]) for name in names},
            words=[one for part in parts for one in part.words or ()] if self.task(task).reads_words else None,
            sure=np.concatenate(sure) if sure else None,
        )

    def predict_slices(
        self,
        task: str,
        source: Any,
        quotes: Quotes | None = None,
        keep: Sequence[str] = (),
        share: Share = WHOLE,
        told: Told = lambda task, done, rows: None,
        engine: Engine | None = None,
    ) -> Iterator[Predictions]:
        """The predictions of `predict_table`, SLICE rows at a time, so that no more than these are held.

        The columns to `keep` of the input come with them. Of several shares of the rows, only one is predicted. `told`
        hears how many rows are done, of how many. The model answers here, or those of an `engine`. Raises Mistake for a
        column that is not there, or that has the name of one that is written.
        """
        chosen = self.task(task)
        (stream,) = self._streams([chosen], source, quotes, _to_keep([chosen], _written(chosen), keep), share)
        tell = _counting(task, len(stream), 2 if chosen.predicted_in_both_orders else 1, told)
        asked = ((rows, [Question([task], rows.given)]) for rows in stream.slices(SLICE))
        for rows, (outputs,) in (engine or self._here)(asked, tell):
            yield self._predictions(task, rows.ids, outputs[task], {**rows.kept}, rows.given)

    def predict_all_slices(
        self,
        source: Any,
        quotes: Quotes | None = None,
        keep: Sequence[str] = (),
        share: Share = WHOLE,
        told: Told = lambda task, done, rows: None,
        engine: Engine | None = None,
    ) -> Iterator[Together]:
        """What every task whose text columns are there says of each row; as `predict_slices` otherwise.

        The encoder reads a row once for all tasks that `MultiTask.alike` groups, and a task says here what it says
        alone. A task that is told its rows by `where` answers all of them. Raises Mistake where no task's columns are
        there.
        """
        source = as_arrow(source)
        readers: dict[object, list[str]] = {}  # what they read of a row -> tasks
        written: set[str] = set()
        for name in readers_of(self.model.tasks, source):
            readers.setdefault((self.task(name).text, self.task(name).reads_words), []).append(name)
            written |= {f"{name}_{column}" for column in _written(self.task(name))}
        tasks = [self.task(names[0]) for names in readers.values()]
        streams = self._streams(tasks, source, quotes, _to_keep(tasks, written, keep), share)
        alike = [self.task(names[0]) for several in readers.values() for names in self.model.alike(several)]
        passes = sum(2 if task.predicted_in_both_orders else 1 for task in alike)
        tell = _counting("all tasks", len(streams[0]), passes, told)
        slices = zip(*(stream.slices(SLICE) for stream in streams), strict=True)
        asked = (
            (parts, [Question(names, rows.given) for names, rows in zip(readers.values(), parts, strict=True)])
            for parts in slices
        )
        for parts, answers in (engine or self._here)(asked, tell):
            ids, found = parts[0].ids, dict[str, Predictions]()
            for outputs, rows in zip(answers, parts, strict=True):
                for name, one in outputs.items():
                    found[name] = self._predictions(name, ids, one, {}, rows.given)
            yield Together(ids, {name: found[name] for name in self.model.tasks if name in found}, {**parts[0].kept})

    def _streams(
        self, tasks: Sequence[Task], source: Any, quotes: Quotes | None, keep: Sequence[str], share: Share
    ) -> list[RowStream]:
        """The same rows as each of several tasks reads them; columns to keep come with the first."""
        changed: dict[str, Any] = {} if len(tasks) == 1 else {"where": {}, "id": tasks[0].id}
        changed |= {} if quotes is None else {"quotes": quotes}
        return [
            stream_rows(
                task.model_copy(update=changed), as_arrow(source), labelled=False, keep=() if place else keep
            ).share(share)
            for place, task in enumerate(tasks)
        ]

    def _here(self, asked: Asked, told: Callable[[int], None]) -> Answers:
        """The engine that is this process."""
        for given, questions in asked:
            yield given, self.answer(questions, told)

    def answer(
        self, questions: Sequence[Question], told: Callable[[int], None] = lambda done: None
    ) -> list[dict[str, Tensor]]:
        """The outputs (N, outputs) of each question's tasks, in as few passes as they need, in the question's order."""
        passes = [
            (place, names, self._examples(names, question.texts))
            for place, question in enumerate(questions)
            for names in self.model.alike(question.tasks)
        ]
        found: list[dict[str, Tensor]] = [{} for _ in questions]
        said = outputs_together(self.model, [(names, examples) for _, names, examples in passes], told=told)
        for (place, _, _), outputs in zip(passes, said, strict=True):
            found[place] |= outputs
        return [{name: one[name] for name in asked.tasks} for asked, one in zip(questions, found, strict=True)]

    def __repr__(self) -> str:
        tasks = "\n".join(f"  {task.name}: {_reads(task)} -> {task.meaning}" for task in self.model.tasks.values())
        return f"{self._title}\n{tasks}"

    def _repr_html_(self) -> str:
        rows = [(task.name, _reads(task), task.meaning) for task in self.model.tasks.values()]
        return html_table(self._title, ["task", "reads", "says"], rows)

    @property
    def _title(self) -> str:
        shape = self.model.encoder.shape
        parameters = sum(p.numel() for p in self.model.parameters())
        original = self.model.original
        beside = "" if original is None else f" and {original.parameters:,} of a frozen copy beside it"
        return f"mtbert model: {shape.layers} layers, {shape.width} wide, {parameters:,} parameters{beside}; its tasks:"

    def _examples(self, tasks: Sequence[str], columns: Sequence[Sequence[Any]]) -> Examples:
        """The texts as examples of the first of these tasks, from which the others read the same."""
        task, positions = self.task(tasks[0]), self.model.encoder.shape.positions
        return Examples.from_texts(task, columns, self.tokenizer, positions, apart=self.model.apart(tasks))

    def _predictions(
        self, task: str, ids: list[str], outputs: Tensor, kept: dict[str, pa.ChunkedArray], given: Sequence[list[Any]]
    ) -> Predictions:
        chosen, (outputs, said, sure) = self.task(task), self._decided(task, outputs)
        words = given[0] if chosen.reads_words else None
        return Predictions(chosen, ids, said, chosen.probabilities(outputs), kept, words, sure)

    def said(self, task: str, outputs: Tensor) -> list[dict[str, Any]]:
        """What is said of outputs (N, outputs), row by row: the prediction and, where there are classes, their
        probabilities."""
        columns = self.task(task).probabilities(self._decided(task, outputs).outputs)
        rows = [{"prediction": one} for one in self._said(task, outputs)]
        for place, row in enumerate(rows if columns else []):
            row["probabilities"] = {name: float(column[place]) for name, column in columns.items()}
        return rows

    def may_say(self, task: str) -> tuple[str, ...]:
        """What it may say of a text, for a task whose texts are of one class each."""
        unsure = self.decisions.get(task, PLAIN).sure_from is not None
        return (*self.task(task).class_names, NOT_SURE) if unsure else self.task(task).class_names

    def _decided(self, task: str, outputs: Tensor) -> Decided:
        """What is said of outputs (N, outputs)."""
        return self.decisions.get(task, PLAIN).decide(self.task(task), outputs)

    def _answers(self, task: str, outputs: Tensor) -> list[str]:
        """As the task words them; where another class than the likeliest may be said, that and its probability."""
        chosen, decided = self.task(task), self._decided(task, outputs)
        if self.decisions.get(task, PLAIN).says_the_likeliest:
            return chosen.answers(decided.outputs)
        if chosen.independent:
            columns = chosen.probabilities(decided.outputs)
            named = [
                [f"{name} ({columns[name][row]:.0%})" for name in chosen.say(one)]
                for row, one in enumerate(decided.predictions)
            ]
            return [", ".join(names) or "none" for names in named]
        sure = probability_of(chosen, decided)
        lines = [f"{chosen.say(one)} ({share:.0%})" for one, share in zip(decided.predictions, sure, strict=True)]
        fine = np.ones(len(lines), dtype=bool) if decided.sure is None else decided.sure
        return [line if one else f"{NOT_SURE}: {line}" for line, one in zip(lines, fine, strict=True)]

    def _said(self, task: str, outputs: Tensor) -> list[Any]:
        decided = self._decided(task, outputs)
        return _where_sure([self.task(task).say(one) for one in decided.predictions], decided.sure)

    def _said_of(self, task: str, columns: Sequence[Sequence[Any]], outputs: Tensor) -> list[Any]:
        """What is said of texts; of words each with its label."""
        said = self._said(task, outputs)
        if not self.task(task).reads_words:
            return said
        return [list(zip(words, tags, strict=True)) for words, tags in zip(columns[0], said, strict=True)]

    def task(self, name: str) -> Task:
        """A task by name; raises Mistake for one that the model does not have."""
        if name not in self.model.tasks:
            raise Mistake(unknown("task", name, self.model.tasks))
        return self.model.tasks[name]


def _where_sure(said: Sequence[Any], sure: NDArray[np.bool_] | None) -> list[Any]:
    """What is said, and NOT_SURE in the place of what it is not sure of."""
    return list(said) if sure is None else [one if fine else NOT_SURE for one, fine in zip(said, sure, strict=True)]


def _written(task: Task) -> list[str]:
    """The columns that are written of a task's predictions."""
    return ["prediction", *(f"probability_{name}" for name in task.class_names)]


def _to_keep(tasks: Sequence[Task], written: Collection[str], names: Sequence[str]) -> list[str]:
    """The columns that are carried through beside the ids; raises Mistake for the name of one that is written."""
    for name in names:
        if name in written:
            raise Mistake(f"column '{name}' cannot be kept: predictions have a column of that name; rename it")
    return [name for name in names if name != (tasks[0].id or "id")]


def _counting(task: str, rows: int, passes: int, told: Told) -> Callable[[int], None]:
    """What is told after each batch of several passes over the rows: how many of these are done, as if by one pass."""
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        told(task, done // passes, rows)

    return tell


def _reads(task: Task) -> str:
    return " | ".join(task.text)
