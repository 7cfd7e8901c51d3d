"""A task and its kind: which columns it reads, and what its outputs mean.

The kind owns loss, divergence, decoding and metrics, so that no trainer, regulariser or evaluator asks which kind it
holds. A new kind is a subclass of Task in a file of its own and one line in KINDS (table.py).
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator
from torch import Tensor, nn

from mtbert.data.formats.base import Quotes, Table
from mtbert.data.kinds.class_scores import ClassScores
from mtbert.data.kinds.metrics import Metric
from mtbert.data.label_cells import LabelCells
from mtbert.data.labels import Labels, Ragged, plain, same
from mtbert.data.views import View
from mtbert.errors import Mistake, unknown
from mtbert.registry import EACH, ONE, ONE_OR_EACH, Count, Named, NonNegative, OptionMistake, Positive, Share

SOURCES = ("train", "dev", "test", "unlabelled")  # the keys that say where a task's rows are
MOST_SPLIT_OFF = 0.5  # of a file's rows, for dev and test together

# what an editor is told of keys that may be written in several ways
_ONE_OR_TWO = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}]}
)
_ONE_OR_MORE = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
)
_NAME_OR_SET = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["name"]}]})
_ANY_NUMBER = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


def share_of(source: Any) -> float | None:
    """The share of its training file that a task takes for a split, 0.1 for `10%`; None for a file or a table."""
    found = _SHARE.fullmatch(source.strip()) if isinstance(source, str) else None
    return float(found[1]) / 100 if found else None


class HubSet(BaseModel):
    """A data set of the hub, whose splits a task names in the place of files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="ORG/NAME")
    config: str | None = None
    revision: str | None = Field(None, description="a commit, tag or branch")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given


class ReadLabels(NamedTuple):
    """The labels of N rows as they were read, and which rows have none."""

    task: Task  # with the classes or the range that were found
    labels: Labels
    wrong: dict[int, str]  # row -> what is wrong with its label, and in which column
    missing: list[int]  # rows without a label
    found: Mapping[str, int]  # how often each wrong cell stands there
    proposal: str  # what the recipe should say, where so many are wrong that it is at fault, not the rows
    words: Mapping[int, int] = MappingProxyType({})  # row -> which of its words is wrong, where that is one, from 0


class NotFound(Mistake):
    """Labels of which no classes or range can be made, and the task by which the rows are read all the same, for what
    else is wrong with them; None where they cannot be.
    """

    def __init__(self, message: str, stand_in: Task | None) -> None:
        super().__init__(message)
        self.stand_in = stand_in


class Task(BaseModel):
    """What every kind of task has in common: a section under `tasks:` in the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    usual: ClassVar[tuple[str, ...]]  # the metrics that are reported; by the first the task is judged
    from_data: ClassVar[frozenset[str]] = frozenset()  # keys that a recipe may leave to the training file
    scored: ClassVar[bool] = False  # whether its output is a score on a scale, not classes
    exclusive: ClassVar[bool] = False  # whether a row has one of its classes: labels and predictions are their places
    independent: ClassVar[bool] = False  # whether a row has any number of its classes, each by a probability of its own
    several_columns: ClassVar[bool] = False  # whether its labels may stand in several columns
    reads_words: ClassVar[bool] = False  # whether its text is a list of words, each with a label of its own
    miss: ClassVar[str] = "share wrong"  # what the mean of `misses` is, in words
    target_type: ClassVar[torch.dtype] = torch.float32  # of `targets`
    # with noise sigma, a negative log likelihood is in_likelihood * loss / sigma^2 + log sigma
    in_likelihood: ClassVar[float] = 1.0

    name: str
    kind: str
    text: Annotated[tuple[str, ...], _ONE_OR_TWO] = Field(min_length=1, max_length=2, description="a column, or two")
    label: Annotated[str | tuple[str, ...], _ONE_OR_MORE] = Field(description="a column")
    id: str | None = None
    where: dict[str, str] = Field(default={})  # column -> value of the rows that are this task's, in a file of several
    hub: Annotated[HubSet, _NAME_OR_SET] | None = None  # train, dev and test are then names of its splits
    train: Any = Field(None, description="a file, a folder or a table")
    dev: Any = Field(None, description="a file, a folder or a table, or a share of train such as 10%")
    test: Any = Field(None, description="a file, a folder or a table, or a share of train such as 10%")
    unlabelled: Any = Field(None, description="a file, a folder or a table of texts, for stages with `distill`")
    # rows at most; a number is of `train`
    limit: (
        Annotated[
            Annotated[Count, ONE] | Annotated[dict[Literal["train", "dev"], Count], EACH],
            ONE_OR_EACH,
        ]
        | None
    ) = None
    bad_rows: Literal["error", "skip"] = "error"
    missing: Literal["error", "skip"] = "error"  # rows without a label: other tasks of the file may have one there
    quotes: Quotes = "checked"
    header: tuple[str, ...] = Field(default=(), description="the columns of TSV and CSV without a line of names")
    pairs: Literal["joint", "separate"] = "joint"
    segments: Literal["pair", "zeros"] = "pair"
    symmetric: bool | Literal["train", "both"] = False
    max_length: int = Field(512, ge=8)
    pooling: Named = "mean"
    features: Named = "difference"
    head: Named = "linear"
    dropout: Share = 0.1
    weight: Positive = 1.0
    balance: Share = 0.0  # of classes in what training draws: 0 as the file has them, 1 each as often
    metric: str | None = None  # by which the task is judged, in the place of its kind's own
    report: Annotated[tuple[str, ...], _ANY_NUMBER] = ()  # metrics that are reported beside the usual ones
    # in `overall` and `mean`; a number weighs it in `overall`
    counts: bool | NonNegative = True

    @field_validator("text", "report", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("label")
    @classmethod
    def _one_column(cls, label: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(label, str) and not cls.several_columns:
            raise Mistake("labels stand in one column; a column for each of several labels is for `kind: multilabel`")
        return label

    @field_validator(*SOURCES)
    @classmethod
    def _files_or_tables(cls, source: Any) -> Any:
        if isinstance(source, (bool, int, float)):
            raise Mistake(f"is a file, a list of files, a folder or a share such as 10% (found {source})")
        return source

    @field_validator("header")
    @classmethod
    def _names_of_columns(cls, header: tuple[str, ...]) -> tuple[str, ...]:
        for name in header:
            if not re.fullmatch(r"[^,\t;|\"\r\n]+", name) or header.count(name) > 1:
                raise Mistake(f"'{name}' cannot name a column here: each once, without quotes and separators (, ; |)")
        return header

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        # a task's name is a key of torch modules and stands in file names
        if not re.fullmatch(r"\w[\w-]*", name) or hasattr(nn.ModuleDict, name) or name in ("overall", "mean", "shared"):
            raise Mistake(f"'{name}' cannot name a task: use letters, digits, _ and -, and no word of torch's own")
        return name

    @model_validator(mode="after")
    def _symmetric_pair(self) -> Self:
        if self.symmetric and len(self.text) == 1:
            raise Mistake("symmetric is for pairs: this task reads one text")
        return self

    @model_validator(mode="after")
    def _metrics_of_its_kind(self) -> Self:
        for key, names in {"metric": (self.metric,) if self.metric else (), "report": self.report}.items():
            for name in names:
                if name not in self.all_metrics:
                    raise OptionMistake(unknown(f"metric of kind {self.kind}:", name, self.all_metrics), key)
        if self.metric is not None and self.all_metrics[self.metric].scale == "error" and self.width is None:
            judging = [name for name, metric in self.all_metrics.items() if metric.scale != "error"]
            said = f"'{self.metric}' is an error without a greatest one: judge by one of {', '.join(judging)}"
            raise OptionMistake(said, "metric")
        return self

    @field_validator("where", mode="before")
    @classmethod
    def _values_as_texts(cls, where: Any) -> Any:
        if not isinstance(where, Mapping):
            return where
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in where.items()}

    @model_validator(mode="after")
    def _shares_of_train(self) -> Self:
        shares = {split: share_of(getattr(self, split)) for split in SOURCES}
        for split in ("train", "unlabelled"):
            if shares[split] is not None:
                said = f"{split} is a file, not a share ({getattr(self, split)}); dev and test may be shares of train"
                raise OptionMistake(said, split)
        given = {split: share for split, share in shares.items() if share is not None}
        if given and self.train is None:
            raise Mistake(f"{' and '.join(given)} cannot be a share of `train`, which names no file")
        if any(share == 0 for share in given.values()) or sum(given.values()) > MOST_SPLIT_OFF:
            said = " and ".join(f"{split}: {getattr(self, split)}" for split in given)
            raise Mistake(
                f"{said}: above 0% and {MOST_SPLIT_OFF:.0%} together at most, so that most rows are learned from"
            )
        return self

    @classmethod
    def usual_method(cls, word: str, given: Mapping[str, Any]) -> Any:
        """The method of a family (`head`, `pooling`, ...) where the rest of the task's keys name none."""
        return cls.model_fields[word].default

    @property
    def format(self) -> tuple[Quotes, tuple[str, ...]]:
        """How the task's files are written: what quotes mean, and the columns where no line names them."""
        return self.quotes, self.header

    @property
    def main(self) -> str:
        """The metric by which the task is judged."""
        return self.metric or self.usual[0]

    @property
    def reported(self) -> tuple[str, ...]:
        """The metrics that are reported, the main one first."""
        return tuple(dict.fromkeys((self.main, *self.usual, *self.report)))

    @property
    def width(self) -> float | None:
        """How far a prediction can be off, in the units of the labels; None where there is no end to it."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that it has probabilities of; none for a score."""
        return ()

    @property
    def binary(self) -> bool:
        """Whether a row has one of two classes, by the softmax over two outputs."""
        return self.exclusive and len(self.class_names) == self.outputs == 2

    @property
    def ordered(self) -> bool:
        """Whether its outputs have to descend: one score, seen from several thresholds."""
        return False

    @property
    @abstractmethod
    def complete(self) -> bool:
        """Whether the recipe, or the data, has said what the labels are."""

    @abstractmethod
    def completed(self, cells: Mapping[str, int]) -> Self:
        """The task with its labels as training rows have them: how often each cell of the label column stands there.

        Raises Mistake where these make no sense for a task of this kind.
        """

    @abstractmethod
    def proposal(self, cells: Mapping[str, int]) -> str:
        """What to write into the recipe instead, where a file holds these cells and many are no labels of the task."""

    @abstractmethod
    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """Which labels are alike for a split, so that each sort stands on both sides: N rows -> (N,)."""

    def stratum(self, number: int) -> str:
        """The labels that `strata` puts together under a number, in words."""
        return str(number)

    def misses(self, predictions: Labels, labels: Labels) -> NDArray[np.float64]:
        """How far each prediction, as handed out, is from its label: (N,), 0 where it is right."""
        return (~same(predictions, labels)).astype(np.float64)

    def views(self, outputs: Tensor, said: Labels, labels: Labels) -> Sequence[View]:
        """What a page shows of outputs (N, outputs) and what is said by them, N rows, beside the labels of these, the
        most telling first.
        """
        return ()

    @property
    def sequences(self) -> int:
        """How many sequences the encoder reads per example: 2 for a pair encoded apart."""
        return 2 if len(self.text) == 2 and self.pairs == "separate" else 1

    @property
    def predicted_in_both_orders(self) -> bool:
        """Whether predictions are the mean over both orders of the two texts."""
        return self.symmetric in (True, "both")

    @property
    def trained_in_both_orders(self) -> bool:
        """Whether training draws a pair in either order."""
        return self.symmetric in ("train", "both")

    @property
    def reads(self) -> tuple[object, ...]:
        """What the sequences made of texts depend on: tasks that agree in it make the same ones of the same texts."""
        both = self.predicted_in_both_orders
        return len(self.text), self.sequences, self.segments, self.max_length, both, self.reads_words

    def at_most(self, split: str) -> int | None:
        """How many rows of a split are used, where there are more; None for all."""
        if self.limit is None or isinstance(self.limit, int):
            return self.limit if split == "train" else None
        return next((limit for name, limit in self.limit.items() if name == split), None)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest score as the head gives it, where the task is `scored`."""
        return 0.0, 1.0

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the head's outputs: one logit a class, or a single score."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold its labels."""
        return (self.label,) if isinstance(self.label, str) else self.label

    def read(self, table: Table, words: NDArray[np.int64] | None) -> ReadLabels:
        """The labels in the rows of a table, the task's own words for what is wrong with them.

        `words` is how many words each text has, where the task reads words. Raises Mistake where a column is missing or
        holds what no label is, and where the task's classes or range cannot be found.
        """
        cells = LabelCells.of(table, self.label_columns[0])
        task = self if self.complete else self.found(cells.counted(), table.name, cells.name)
        values, wrong = [], {}
        for code, cell in enumerate(cells.distinct):
            try:
                values.append(task.read_label(cell))
            except Mistake as mistake:
                values.append(np.nan)
                if str(cell).strip():
                    wrong[code] = str(mistake)
        labels = np.append(np.array(values, dtype=np.float64), np.nan)[cells.codes]
        bad = np.flatnonzero(np.isnan(labels))
        said = {int(row): wrong.get(int(cells.codes[row])) for row in bad}
        return ReadLabels(
            task,
            labels,
            {row: f"column '{cells.name}': {message}" for row, message in said.items() if message is not None},
            [row for row, message in said.items() if message is None],
            cells.counted(list(wrong)),
            task.proposal(cells.counted()) if wrong else "",
        )

    def found(self, cells: Mapping[str, int], file: str, column: str) -> Self:
        """`completed`, with the place in what is wrong; raises NotFound."""
        try:
            return self.completed(cells)
        except Mistake as mistake:
            message = f"{file}: column '{column}' {mistake}; task '{self.name}'"
            raise NotFound(message, self.stand_in(cells)) from None

    def stand_in(self, cells: Mapping[str, int]) -> Self | None:
        """The task as if labels of which `completed` makes nothing were right; None where rows cannot be read so."""
        return None

    @abstractmethod
    def read_label(self, cell: object) -> float:
        """One label in a cell of a file, as a number; raises Mistake if the cell holds none."""

    def placed(self, outputs: Tensor, words: Tensor | None) -> Tensor:
        """The head's outputs with where they belong, which only a task that reads words says: (B, outputs).

        `words` (B, W) is then where the first piece of each word stands: 0 for no word, -1 for one beyond the end.
        """
        return outputs

    @abstractmethod
    def targets(self, labels: Labels) -> Tensor:
        """Labels as the loss wants them: (N, ...) of `target_type`."""

    def learn_from(self, labels: Labels) -> None:
        """Training begins on these labels: what the loss takes from all of them is settled."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example: (B, outputs), (B, ...) -> (B,)."""

    @abstractmethod
    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """How far two outputs for the same examples are apart, symmetric and never negative: -> (B,)."""

    @abstractmethod
    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        """Half the gradient of the divergence where outputs move by a small tangent: (B, outputs) -> (B, outputs).

        F * tangent, with F the Fisher matrix of the outputs: the divergence is then tangent * F * tangent. Unlike the
        divergence it does not subtract what is nearly equal, so that no tangent is too small for it.
        """

    @abstractmethod
    def decode(self, outputs: Tensor) -> Labels:
        """Predictions as handed out, in the units of the labels (class index or score): (N, outputs) -> N rows."""

    def measured(self, outputs: Tensor) -> Labels:
        """Predictions as metrics see them: (N, outputs) -> N rows. A score may lie outside of its range.

        Where a metric that is reported sees probabilities, they stand beside what is said (`beside`).
        """
        said = self.decode(outputs)
        if not any(self.all_metrics[name].ranks for name in self.reported):
            return said
        return self.beside(plain(said), np.stack(list(self.probabilities(outputs).values()), axis=1))

    def beside(self, said: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is said, (N,) or (N, C), with the probabilities of the classes (N, C), or what ranks as they do."""
        return np.column_stack([said, shares])

    def said(self, predictions: Labels) -> Labels:
        """What is said alone, of predictions as metrics see them: N rows."""
        if isinstance(predictions, Ragged) or self._shares(predictions) is None:
            return predictions
        said = predictions[:, : -len(self.class_names)]
        return said[:, 0] if self.exclusive else said

    def _shares(self, predictions: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The probabilities that stand beside what is said: (N, C)."""
        classes = len(self.class_names)
        wide = predictions.ndim == 2 and predictions.shape[1] > (1 if self.exclusive else classes) and classes > 0
        return predictions[:, -classes:] if wide else None

    def log_probabilities(self, outputs: Tensor) -> Tensor | None:
        """Logarithms of the classes' probabilities, in float32: (B, outputs).

        None where these are not the softmax of the outputs.
        """
        return None

    def mean_of(self, several: Sequence[Tensor]) -> Tensor:
        """Outputs that say what several, of as many models, say on average: M times (B, outputs) -> (B, outputs).

        Where the task has classes of which one is true, their probabilities are averaged.
        """
        logarithms = [log for outputs in several if (log := self.log_probabilities(outputs)) is not None]
        if len(logarithms) < len(several):
            return torch.stack([outputs.float() for outputs in several]).mean(0)
        mean: Tensor = torch.stack(logarithms).logsumexp(0) - math.log(len(several))
        return mean

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        """One column (N,) for each of `class_names`."""
        return {}

    @abstractmethod
    def say(self, prediction: Any) -> Any:
        """A decoded prediction, one row of them, as a person would write it."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What it says of a text, in a few words."""

    @abstractmethod
    def answers(self, outputs: Tensor) -> list[str]:
        """What it says of each text, and how sure it is where it has classes: (N, outputs) -> N lines."""

    def written(self, predictions: Labels) -> Any:
        """Predictions as a column of a file."""
        return [str(self.say(one)) for one in predictions]

    @property
    @abstractmethod
    def all_metrics(self) -> Mapping[str, Metric]:
        """Every metric that it has, those that are reported first."""

    def metrics(self, predictions: Labels, labels: Labels) -> dict[str, float]:
        """The metrics that are reported, over a whole split in float64, the main one first."""
        said, y, metrics = plain(self.said(predictions)), plain(labels), self.all_metrics
        return {
            name: metrics[name].take(self.sure(predictions) if metrics[name].ranks else said, y)
            for name in self.reported
        }

    def sure(self, predictions: Labels) -> NDArray[np.float64]:
        """How sure each class is: (N, C); whoever only says classes is as sure of them as can be."""
        found = plain(predictions)
        shares = self._shares(found)
        if shares is not None:
            return shares
        return np.eye(len(self.class_names))[found.astype(np.int64)] if self.exclusive else found

    def tallies(self, predictions: Labels, labels: Labels) -> NDArray[np.float64] | None:
        """Counts of each row (N, K), of whose sums over rows the main metric is made; None where it is of no such sort.

        A bootstrap over rows needs nothing else.
        """
        return None

    def of_tallies(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The main metric from sums of `tallies`: (..., K) -> (...)."""
        raise NotImplementedError

    def class_scores(self, predictions: Labels, labels: Labels) -> ClassScores | None:
        """How each class is found; None where there are no classes."""
        return None

    @abstractmethod
    def constant(self, labels: Labels) -> float:
        """The best prediction that ignores the text, learned from training labels."""

    def constantly(self, learned: Labels, labels: Labels) -> Labels:
        """The best prediction that ignores the text, for each of the rows that have these labels."""
        return np.full_like(plain(labels), self.constant(learned))

    @abstractmethod
    def constant_outputs(self, labels: Labels) -> Tensor:
        """The outputs for every text with the least loss on training labels: where a head begins, (outputs,)."""

    def normalised(self, metrics: dict[str, float]) -> float:
        """The main metric on a scale where 1 is perfect, so that tasks of different kinds can be averaged."""
        return self.all_metrics[self.main].counted(metrics[self.main], self.width)

    def score(self, metrics: Mapping[str, float]) -> float:
        """The main metric as models are judged by it."""
        return self.judged(metrics)[self.main]

    def judged(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics as models are judged by them, more being better: errors as they count in `overall`.

        An error without a greatest one has its sign changed.
        """
        found = {}
        for name, value in metrics.items():
            metric = self.all_metrics[name]
            if metric.scale != "error":
                found[name] = value
            else:
                found[name] = -value if self.width is None else metric.counted(value, self.width)
        return found

    @abstractmethod
    def describe_labels(self, labels: Labels) -> str:
        """Their distribution, in a line."""

    def absent(self, labels: Labels) -> list[str]:
        """The classes that no label names."""
        return []

    def oddities(self) -> list[str]:
        """What looks wrong with the labels that the task knows."""
        return []


def curvature_of_softmax(outputs: Tensor, tangent: Tensor) -> Tensor:
    """(diag(p) - p p^T) * tangent, with p the softmax over the last axis: (..., C), (..., C) -> (..., C) in float32."""
    p, t = outputs.float().softmax(-1), tangent.float()
    # seen from the likeliest class, so that nothing cancels where p is nearly 1
    seen = t - t.gather(-1, p.argmax(-1, keepdim=True))
    return p * (seen - (p * seen).sum(-1, keepdim=True))
