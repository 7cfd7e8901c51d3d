"""A run's rows beside what its kept model says of them: what the page, the errors and the decisions are read from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.batches import Examples
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device
from mtbert.model.files import OUTPUTS, read_tensors, verify
from mtbert.model.multitask import MultiTask
from mtbert.model.sources import Source
from mtbert.recipe.schema import Recipe
from mtbert.runs.data import read_splits
from mtbert.runs.decisions import Calibrated, read_decisions
from mtbert.runs.environment import record_of
from mtbert.runs.evaluate import SPLITS
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.decisions import PLAIN, Decided, Decision
from mtbert.scoring.evaluation import outputs_of


@dataclass(frozen=True)
class Examined:
    """The labelled rows of a task's split, the outputs of the kept model for them, (N, outputs), and how it decides."""

    task: Task
    split: str
    rows: Rows
    outputs: Tensor
    decision: Decision = PLAIN

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Labels:
        assert self.rows.labels is not None  # only labelled rows are examined
        return self.rows.labels

    @cached_property
    def ids(self) -> list[str]:
        """(N,)."""
        return self.rows.ids

    @cached_property
    def decided(self) -> Decided:
        """What is said of the rows, as `mtbert predict` says it."""
        return self.decision.decide(self.task, self.outputs)

    @property
    def predictions(self) -> Labels:
        """As handed out: N rows."""
        return self.decided.predictions

    def said(self, row: int) -> Any:
        """What is said of a row, in the words of its kind."""
        return self.task.say(next(iter(self.predictions[np.array([row])])))

    def not_sure(self, row: int) -> bool:
        """Whether it would rather say nothing of a row."""
        return self.decided.sure is not None and not self.decided.sure[row]

    @cached_property
    def misses(self) -> NDArray[np.float64]:
        """How far each prediction is from its label: (N,)."""
        return self.task.misses(self.predictions, self.labels)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """(N,): of two wrong rows, the one with the greater loss is the more confidently wrong."""
        targets = self.task.targets(self.labels)
        losses: NDArray[np.float64] = self.task.losses(self.decided.outputs, targets).double().numpy()
        return losses

    def texts(self, row: int) -> list[str]:
        """The one or two texts of a row."""
        return [str(column[row].as_py()) for column in self.rows.texts]


class Examination:
    """Reads the rows and the kept model of a run, each once; `data` is a folder to read in place of the recipe's."""

    def __init__(self, run: Run, data: str | Path | None = None) -> None:
        self.run = run
        self.recipe: Recipe = run.recipe(data)

    @cached_property
    def model(self) -> tuple[MultiTask, Tokenizer]:
        """The kept model; raises Mistake where nothing is kept, or where it is damaged."""
        model, tokenizer = load_model(self.run.part(BEST))
        return model.to(best_device()), tokenizer

    def examined(self, task: str, split: str = "dev") -> Examined:
        """A task's split; the dev outputs as the run wrote them, unless the rows have changed since.

        Raises Mistake for a task or split that is not there, and for rows that cannot be read.
        """
        rows = self.rows(task, split)
        written = self._written.get(task) if split == "dev" else None
        if written is None or len(written) != len(rows) or self.changed(rows, task, split):
            written = outputs_of(self.model[0], self._examples(rows))
        calibrated = self.decisions.get(task)
        return Examined(rows.task, split, rows, written, PLAIN if calibrated is None else calibrated.decision)

    @cached_property
    def decisions(self) -> dict[str, Calibrated]:
        """task -> what `mtbert calibrate` fitted for it; raises Mistake where that is damaged."""
        return read_decisions(self.run.part(BEST), self.recipe.tasks)

    def rows(self, task: str, split: str) -> Rows:
        """The labelled rows of a split; raises Mistake for a task or split that is not there."""
        if task not in self.recipe.tasks:
            raise Mistake(unknown("task", task, self.recipe.tasks))
        if split not in SPLITS:
            raise Mistake(unknown("split", split, SPLITS))
        return read_splits(self.recipe, [task], [split])[split][task]

    @cached_property
    def untrained(self) -> Source:
        """The encoder that training began with, and its tokenizer; raises Mistake where it cannot be had."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)  # as in training, for an encoder that is drawn at random
            encoder, tokenizer = self.recipe.encoder.make()
        return encoder.to(best_device()), tokenizer

    def examples(self, examined: Examined, rows: NDArray[np.int64]) -> Examples:
        """Some of the rows as the model reads them."""
        return self._examples(examined.rows.take(rows))

    def changed(self, rows: Rows, task: str, split: str) -> bool:
        """Whether the rows are others than those that the run read."""
        recorded = self.run.environment.get("data", {}).get(f"{task}.{split}")
        return recorded is not None and recorded["sha256"] not in (None, record_of(rows)["sha256"])

    @cached_property
    def _written(self) -> dict[str, Tensor]:
        """What the kept model said of the dev rows when it was kept; nothing where that is not there."""
        folder = self.run.part(BEST)
        if not (folder / OUTPUTS).exists():
            return {}
        verify(folder)
        return read_tensors(folder / OUTPUTS)

    def _examples(self, rows: Rows) -> Examples:
        model, tokenizer = self.model
        task, positions = model.tasks[rows.task.name], model.encoder.shape.positions
        return Examples.from_rows(task, rows, tokenizer, positions, model.apart([task.name]))
