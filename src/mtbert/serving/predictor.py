"""A trained model at work: texts in, predictions out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.batches import Examples
from mtbert.data.formats.base import Quotes, whole_text
from mtbert.data.tables import read_rows
from mtbert.data.tasks import Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device
from mtbert.model.multitask import MultiTask
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.evaluation import outputs_of

Text = str | Sequence[str]  # one text, or a pair


@dataclass(frozen=True)
class Predictions:
    """Predictions for N inputs, in their order."""

    task: Task
    ids: list[str]
    values: NDArray[np.float64]  # (N,) class index or score
    probabilities: dict[str, NDArray[np.float64]]  # a column (N,) a class

    def as_csv(self) -> str:
        """id, prediction, and one probability column a class."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "prediction", *(f"probability_{name}" for name in self.probabilities)])
        columns = [[f"{share:.6f}" for share in column] for column in self.probabilities.values()]
        writer.writerows(zip(self.ids, map(self._cell, self.values), *columns, strict=True))
        return text.getvalue()

    def _cell(self, value: float) -> str:
        said = self.task.say(value)
        return said if isinstance(said, str) else f"{said:.6f}"


class Predictor:
    """A model with its tokenizer: `mtbert.load("RUN")`."""

    def __init__(self, model: MultiTask, tokenizer: Tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> Predictor:
        """From a run folder (its kept model), or from a model folder such as RUN/best."""
        model, tokenizer = load_model(Run.open(folder).part(BEST) if Run(folder).exists else Path(folder))
        return cls(model.to(best_device()), tokenizer)

    @property
    def tasks(self) -> list[str]:
        return list(self.model.tasks)

    def predict(self, task: str, texts: Sequence[Text]) -> list[str | float]:
        """The class name or the score of each text (or pair, for a pair task), in order.

        Raises Mistake for a task the model does not have, or a pair where a single text is due and the reverse.
        """
        values = self._task(task).decode(self.outputs(task, texts))
        return [self._task(task).say(value) for value in values]

    def probabilities(self, task: str, texts: Sequence[Text]) -> list[dict[str, float]]:
        """The probability of every class for each text; raises Mistake for a task without classes."""
        columns = self._task(task).probabilities(self.outputs(task, texts))
        if not columns:
            raise Mistake(f"task '{task}' predicts a score, not classes; use predict")
        return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]

    def outputs(self, task: str, texts: Sequence[Text]) -> Tensor:
        """Logits or scores as the head gives them: (N, outputs)."""
        columns = self._columns(self._task(task), texts)
        return outputs_of(self.model, Examples.from_texts(self._task(task), columns, self.tokenizer, self._positions))

    def predict_table(self, task: str, source: Any, quotes: Quotes | None = None) -> Predictions:
        """Predictions for every row of a file, folder or table, in its order; labels in it are not looked at.

        The same texts and ids come out of every format: a missing text is an empty one, a missing id an empty id, and a
        number is read as it is written, whole ones without a point. `quotes` is the task's own, unless it is given.
        """
        chosen = self._task(task)
        reading = chosen if quotes is None else chosen.model_copy(update={"quotes": quotes})
        rows = read_rows(reading, source, labelled=False)
        columns = [column.to_pylist() for column in rows.texts]
        outputs = outputs_of(self.model, Examples.from_texts(chosen, columns, self.tokenizer, self._positions))
        return Predictions(chosen, rows.ids, chosen.decode(outputs), chosen.probabilities(outputs))

    @property
    def _positions(self) -> int:
        return self.model.encoder.shape.positions

    def _task(self, name: str) -> Task:
        if name not in self.model.tasks:
            raise Mistake(unknown("task", name, self.model.tasks))
        return self.model.tasks[name]

    def _columns(self, task: Task, texts: Sequence[Text]) -> list[list[str]]:
        if isinstance(texts, str):
            raise Mistake(f"give a list of texts, not one text: predict('{task.name}', [...])")
        wanted = len(task.text)
        columns: list[list[str]] = [[] for _ in range(wanted)]
        for number, text in enumerate(texts):
            parts = tuple(text) if isinstance(text, (list, tuple)) else (text,)
            if len(parts) != wanted or not all(isinstance(part, str) for part in parts):
                due = "a pair of texts" if wanted == 2 else "one text"
                raise Mistake(f"task '{task.name}' reads {due}; item {number} is {text!r}")
            for column, part in zip(columns, parts, strict=True):
                column.append(whole_text(part))
        return columns
