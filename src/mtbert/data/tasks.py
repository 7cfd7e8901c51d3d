"""A task and its kind: which columns it reads, and what its outputs mean.

The kind owns loss, divergence, decoding and metrics, so that no trainer, regulariser or evaluator asks which kind it
holds. A new kind is a subclass of Task and one line in KINDS.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator
from torch import Tensor, nn

from mtbert.data.formats.base import Quotes
from mtbert.data.lookalikes import told_apart
from mtbert.data.views import Confusion, Reliability, Scatter, View
from mtbert.errors import Mistake
from mtbert.registry import EACH, ONE, ONE_OR_EACH, Count, Named, Positive, Registry, Share

MOST_CLASSES = 1_000_000
MOST_SPLIT_OFF = 0.5  # of a file's rows, for dev and test together
TRUTHS = {"false": "0", "true": "1"}  # in whatever case
NAMED = 12  # labels that a message names
FULL_OF_NAMES = 0.5  # the share of its rows that a column with another label in each is taken for no labels from

# what an editor is told of keys that may be written in several ways
_ONE_OR_TWO = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}]}
)
_NAMES_OR_COUNT = WithJsonSchema(
    {
        "anyOf": [
            {
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]},
                "minItems": 2,
            },
            {"type": "integer", "minimum": 2},
        ]
    }
)
_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


def share_of(source: Any) -> float | None:
    """The share of its training file that a task takes for a split, 0.1 for `10%`; None for a file or a table."""
    found = _SHARE.fullmatch(source.strip()) if isinstance(source, str) else None
    return float(found[1]) / 100 if found else None


class Task(BaseModel):
    """What every kind of task has in common: a section under `tasks:` in the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    main: ClassVar[str]  # the metric by which the task is judged
    scored: ClassVar[bool] = False  # whether its output is a score on a scale, not classes
    miss: ClassVar[str] = "share wrong"  # what the mean of `misses` is, in words
    # with noise sigma, a negative log likelihood is in_likelihood * loss / sigma^2 + log sigma
    in_likelihood: ClassVar[float] = 1.0

    name: str
    kind: str
    text: Annotated[tuple[str, ...], _ONE_OR_TWO] = Field(min_length=1, max_length=2, description="a column, or two")
    label: str = Field(description="a column")
    id: str | None = None
    where: dict[str, str] = Field(default={})  # column -> value of the rows that are this task's, in a file of several
    train: Any = Field(None, description="a file, a folder or a table")
    dev: Any = Field(None, description="a file, a folder or a table, or a share of train such as 10%")
    test: Any = Field(None, description="a file, a folder or a table, or a share of train such as 10%")
    # rows at most; a number is of `train`
    limit: (
        Annotated[
            Annotated[Count, ONE] | Annotated[dict[Literal["train", "dev"], Count], EACH],
            ONE_OR_EACH,
        ]
        | None
    ) = None
    bad_rows: Literal["error", "skip"] = "error"
    quotes: Quotes = "checked"
    pairs: Literal["joint", "separate"] = "joint"
    segments: Literal["pair", "zeros"] = "pair"
    symmetric: bool = False
    max_length: int = Field(512, ge=8)
    pooling: Named = "mean"
    features: Named = "difference"
    head: Named = "linear"
    dropout: Share = 0.1
    weight: Positive = 1.0
    counts: bool = True  # in `overall` and `mean`

    @field_validator("text", mode="before")
    @classmethod
    def _one_or_two_columns(cls, text: Any) -> Any:
        return (text,) if isinstance(text, str) else text

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

    @field_validator("where", mode="before")
    @classmethod
    def _values_as_texts(cls, where: Any) -> Any:
        if not isinstance(where, Mapping):
            return where
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in where.items()}

    @model_validator(mode="after")
    def _shares_of_train(self) -> Self:
        shares = {split: share_of(getattr(self, split)) for split in ("train", "dev", "test")}
        if shares["train"] is not None:
            raise Mistake(f"train is a file, not a share ({self.train}); dev and test may be shares of it")
        given = {split: share for split, share in shares.items() if share is not None}
        if given and self.train is None:
            raise Mistake(f"{' and '.join(given)} cannot be a share of `train`, which names no file")
        if any(share == 0 for share in given.values()) or sum(given.values()) > MOST_SPLIT_OFF:
            said = " and ".join(f"{split}: {getattr(self, split)}" for split in given)
            raise Mistake(
                f"{said}: above 0% and {MOST_SPLIT_OFF:.0%} together at most, so that most rows are learned from"
            )
        return self

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
    def strata(self, labels: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which labels are alike for a split, so that each sort stands on both sides: (N,) -> (N,)."""

    def stratum(self, number: int) -> str:
        """The labels that `strata` puts together under a number, in words."""
        return str(number)

    def misses(self, predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each prediction, as handed out, is from its label: (N,), 0 where it is right."""
        return (predictions != labels).astype(np.float64)

    def views(self, outputs: Tensor, labels: NDArray[np.float64]) -> Sequence[View]:
        """What a page shows of outputs (N, outputs) beside their labels (N,), most telling first."""
        return ()

    @property
    def sequences(self) -> int:
        """How many sequences the encoder reads per example: 2 for a pair encoded apart."""
        return 2 if len(self.text) == 2 and self.pairs == "separate" else 1

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

    @abstractmethod
    def read_label(self, cell: object) -> float:
        """The label in a cell of a file as a number; raises Mistake if the cell holds none."""

    @abstractmethod
    def targets(self, labels: NDArray[np.float64]) -> Tensor:
        """Labels as the loss wants them: (N,)."""

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example: (B, outputs), (B,) -> (B,)."""

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
    def decode(self, outputs: Tensor) -> NDArray[np.float64]:
        """Predictions as handed out, in the units of the labels (class index or score): (N, outputs) -> (N,)."""

    def measured(self, outputs: Tensor) -> NDArray[np.float64]:
        """Predictions as metrics see them: (N, outputs) -> (N,). A score may lie outside of its range."""
        return self.decode(outputs)

    @abstractmethod
    def log_probabilities(self, outputs: Tensor) -> Tensor | None:
        """Logarithms of the classes' probabilities, in float32: (B, outputs); None where the task has no classes."""

    @abstractmethod
    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        """One column (N,) a class; empty where the task has no classes."""

    @abstractmethod
    def say(self, prediction: float) -> str | float:
        """A decoded prediction as a person would write it."""

    @abstractmethod
    def metrics(self, predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
        """Metrics over a whole split in float64, the main one first."""

    @abstractmethod
    def constant(self, labels: NDArray[np.float64]) -> float:
        """The best prediction that ignores the text, learned from training labels."""

    @abstractmethod
    def constant_outputs(self, labels: NDArray[np.float64]) -> Tensor:
        """The outputs for every text with the least loss on training labels: where a head begins, (outputs,)."""

    @abstractmethod
    def normalised(self, metrics: dict[str, float]) -> float:
        """The main metric on a scale where 1 is perfect, so that tasks of different kinds can be averaged."""

    @abstractmethod
    def describe_labels(self, labels: NDArray[np.float64]) -> str:
        """Their distribution, in a line."""

    def absent(self, labels: NDArray[np.float64]) -> list[str]:
        """The classes that no label names."""
        return []

    def oddities(self) -> list[str]:
        """What looks wrong with the labels that the task knows."""
        return []


class Classification(Task):
    """One of two or more classes, by cross-entropy. Labels in files are class names, or their index where no class has
    a number for a name. True and false, in whatever case, and 1 and 0 are the same.

    Classes that a recipe leaves out are the labels of the training file, numbers in their order, names by the alphabet.

    Binary tasks have two logits: a softmax over one logit would make every divergence exactly 0. A head with one logit
    (`one_logit`) gives it beside a second that is 0.
    """

    main = "accuracy"
    kind: Literal["classification"] = "classification"
    classes: Annotated[tuple[str, ...], _NAMES_OR_COUNT] = ()

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, classes: Any) -> Any:
        if classes is None:
            return ()
        if isinstance(classes, int) and not isinstance(classes, bool):
            if classes > MOST_CLASSES:
                raise Mistake(f"takes at most {MOST_CLASSES:,} classes, not {classes:,}")
            classes = range(classes)
        if not isinstance(classes, Sequence) or isinstance(classes, str):
            raise Mistake("give the class names as a list, or how many there are (labels 0, 1, ...)")
        if any(not isinstance(name, (str, int)) for name in classes):
            raise Mistake("class names are texts, integers, or true and false; put everything else in quotes")
        names = tuple(str(name).lower() if isinstance(name, bool) else str(name).strip() for name in classes)
        if len(names) < 2:
            raise Mistake(f"needs at least two classes, not {len(names)}")
        for name, count in Counter(names).items():
            if count > 1:
                raise Mistake(f"class '{name}' is named twice")
        return names

    @property
    def complete(self) -> bool:
        return bool(self.classes)

    def completed(self, cells: Mapping[str, int]) -> Self:
        names, rows = _class_names_in(cells), sum(cells.values())
        if len(names) < 2:
            only = f"only '{names[0]}'" if names else "none"
            raise Mistake(f"has two or more different labels in a task with classes, and the file holds {only}")
        if len(names) > NAMED and len(names) > FULL_OF_NAMES * rows:
            few = f"{len(names):,} different labels in {rows:,} rows: {counted(cells)}"
            score = "; for scores write `kind: regression`" if all(map(_is_number, names)) else ""
            raise Mistake(f"holds {few}; is it the column of labels?{score} (else name the `classes`)")
        return self.model_copy(update={"classes": names})

    def proposal(self, cells: Mapping[str, int]) -> str:
        names = _class_names_in(cells)
        if len(names) > NAMED and all(map(_is_number, names)):
            return "these look like scores: `kind: regression`"
        listed = _as_list(names) if len(names) <= NAMED else "[...], or leave `classes` out to take them from train"
        return f"the file holds {counted(cells)}: write `classes: {listed}`"

    def strata(self, labels: NDArray[np.float64]) -> NDArray[np.int64]:
        """The classes themselves."""
        return labels.astype(np.int64)

    def stratum(self, number: int) -> str:
        return self.classes[number]

    def views(self, outputs: Tensor, labels: NDArray[np.float64]) -> Sequence[View]:
        said = self.decode(outputs)
        sure = outputs.double().softmax(-1).amax(-1).cpu().numpy()
        return Confusion.of(self.classes, said, labels), Reliability(sure, said == labels)

    def oddities(self) -> list[str]:
        alike: dict[str, list[str]] = {}
        for name in self.classes:
            alike.setdefault(name.casefold(), []).append(name)
        return [f"the classes {' and '.join(names)} differ by case only" for names in alike.values() if len(names) > 1]

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def read_label(self, cell: object) -> float:
        text = str(cell).strip()
        for spelt in (text, text.lower() if text.lower() in TRUTHS else "", _integer(text)):
            if spelt in self._spellings:
                return self._spellings[spelt]
        either = f", nor an index from 0 to {len(self.classes) - 1}" if self._indexed else ""
        hint = told_apart(text, self.classes)
        remedy = f"; {hint}: write the same in the file and under `classes`" if hint else ""
        raise Mistake(f"label '{_cut(text)}' is not one of {_listed(self.classes)}{either}{remedy}")

    @cached_property
    def _spellings(self) -> dict[str, int]:
        """Every way in which a file may name a class; a name comes before all others."""
        names = {name: index for index, name in enumerate(self.classes)}
        truths = {name.lower(): index for name, index in names.items() if name.lower() in TRUTHS}
        if truths.keys() == set(TRUTHS):
            truths |= {TRUTHS[truth]: index for truth, index in truths.items()}
        elif names.keys() == set(TRUTHS.values()):
            truths = {truth: names[number] for truth, number in TRUTHS.items()}
        indices = {str(index): index for index in range(len(names))} if self._indexed else {}
        return indices | truths | names

    @property
    def _indexed(self) -> bool:
        """Whether a number in a file can be the index of a class: never where a class has a number for a name."""
        return not any(re.fullmatch(r"[+-]?[0-9]+(\.0*)?", name) or name.lower() in TRUTHS for name in self.classes)

    def targets(self, labels: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.float(), targets, reduction="none")

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Symmetric Kullback-Leibler divergence, KL(p||q) + KL(q||p) (Jiang et al., 2020)."""
        log_p, log_q = self.log_probabilities(outputs), self.log_probabilities(others)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        """(diag(p) - p p^T) * tangent."""
        p = outputs.float().softmax(-1)
        # seen from the likeliest class, so that nothing cancels where p is nearly 1
        seen = tangent.float() - tangent.float().gather(-1, p.argmax(-1, keepdim=True))
        return p * (seen - (p * seen).sum(-1, keepdim=True))

    def decode(self, outputs: Tensor) -> NDArray[np.float64]:
        return outputs.argmax(-1).double().cpu().numpy()

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.float().log_softmax(-1)

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        columns = outputs.double().softmax(-1).cpu().numpy().T
        return dict(zip(self.classes, columns, strict=True))

    def say(self, prediction: float) -> str | float:
        return self.classes[int(prediction)]

    def metrics(self, predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score  # late: with scipy most of a second, before any training

        return {
            "accuracy": float(accuracy_score(labels, predictions)),
            "macro_f1": float(f1_score(labels, predictions, average="macro", zero_division=0)),
        }

    def constant(self, labels: NDArray[np.float64]) -> float:
        return float(np.bincount(labels.astype(np.int64)).argmax())

    def constant_outputs(self, labels: NDArray[np.float64]) -> Tensor:
        """Logarithms of the classes' shares, moved so that their mean is 0: classes of equal size begin at 0.

        Each class is counted once more, so that one without labels is no infinity.
        """
        logits = np.log(np.bincount(labels.astype(np.int64), minlength=len(self.classes)) + 1)
        return torch.from_numpy(logits - logits.mean()).float()

    def normalised(self, metrics: dict[str, float]) -> float:
        return metrics["accuracy"]

    def describe_labels(self, labels: NDArray[np.float64]) -> str:
        counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes))
        return _listed([f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)])

    def absent(self, labels: NDArray[np.float64]) -> list[str]:
        counts = np.bincount(labels.astype(np.int64), minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]


UNKNOWN_RANGE = (0.0, 0.0)  # of scores whose recipe names none, until the data are read


class Regression(Task):
    """A score on a range, by mean squared error on the range scaled to [0, 1], or as it is with `scaled: false`.

    A range that a recipe leaves out is that of the training file, rounded outward.
    """

    main = "pearson"
    scored = True
    miss = "mean absolute error"
    in_likelihood = 0.5
    kind: Literal["regression"] = "regression"
    range: tuple[float, float] = UNKNOWN_RANGE
    scaled: bool = True

    @field_validator("range")
    @classmethod
    def _ascending(cls, ends: tuple[float, float]) -> tuple[float, float]:
        low, high = ends
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise Mistake(f"range is {low:g} to {high:g}: the lower end must come first")
        return ends

    @property
    def complete(self) -> bool:
        return self.range != UNKNOWN_RANGE

    def completed(self, cells: Mapping[str, int]) -> Self:
        scores = _scores_in(cells)
        if len(scores) < 2:
            raise Mistake(f"has two or more different scores in a task of kind regression; {self.proposal(cells)}")
        return self.model_copy(update={"range": rounded_outward(min(scores), max(scores))})

    def proposal(self, cells: Mapping[str, int]) -> str:
        scores = _scores_in(cells)
        if len(scores) < max(2, len(cells) / 2):
            return f"the file holds {counted(cells)}: write `kind: classification`"
        low, high = rounded_outward(min(scores), max(scores))
        return f"the file holds {min(scores):g} to {max(scores):g}: write `range: [{low:g}, {high:g}]`"

    def strata(self, labels: NDArray[np.float64]) -> NDArray[np.int64]:
        """The quarters of the range."""
        low, high = self.range
        return np.clip(4 * (labels - low) / (high - low), 0, 3).astype(np.int64)

    def stratum(self, number: int) -> str:
        low, high = self.range
        quarter = (high - low) / 4
        return f"{low + number * quarter:g} to {low + (number + 1) * quarter:g}"

    def misses(self, predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distance between both."""
        distances: NDArray[np.float64] = np.abs(predictions - labels)
        return distances

    def views(self, outputs: Tensor, labels: NDArray[np.float64]) -> Sequence[View]:
        return (Scatter(self.decode(outputs), labels, self.range),)

    @property
    def ends(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.scaled else self.range

    @property
    def outputs(self) -> int:
        return 1

    def read_label(self, cell: object) -> float:
        low, high = self.range
        text = str(cell)
        try:
            score = float(text.replace("_", "no digit"))  # Python would read 4_6 as 46
        except ValueError:
            raise Mistake(f"label '{_cut(text)}' is not a number") from None
        if not low <= score <= high:
            raise Mistake(f"label '{_cut(text)}' is outside the range {low:g} to {high:g}")
        return score

    def targets(self, labels: NDArray[np.float64]) -> Tensor:
        low, high = self.range
        return torch.from_numpy((labels - low) / (high - low) if self.scaled else labels).float()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.float().squeeze(-1) - targets).square()

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Squared distance (Jiang et al., 2020)."""
        return (outputs.float() - others.float()).square().squeeze(-1)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        """The tangent itself."""
        return tangent.float()

    def decode(self, outputs: Tensor) -> NDArray[np.float64]:
        return np.clip(self.measured(outputs), *self.range)

    def measured(self, outputs: Tensor) -> NDArray[np.float64]:
        # as the course's starter code and the published scores of these tasks have it: a correlation of raw outputs
        low, high = self.range
        scores: NDArray[np.float64] = outputs.double().squeeze(-1).cpu().numpy()
        return low + (high - low) * scores if self.scaled else scores

    def log_probabilities(self, outputs: Tensor) -> None:
        return None

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        return {}

    def say(self, prediction: float) -> str | float:
        return float(prediction)

    def metrics(self, predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
        from scipy.stats import pearsonr, spearmanr  # late, as above

        # a correlation with a constant is undefined; a constant predictor has learned nothing
        varied = _varies(predictions) and _varies(labels)
        return {
            "pearson": float(pearsonr(predictions, labels).statistic) if varied else 0.0,
            "spearman": float(spearmanr(predictions, labels).statistic) if varied else 0.0,
            "rmse": float(np.sqrt(np.mean((predictions - labels) ** 2))),
        }

    def constant(self, labels: NDArray[np.float64]) -> float:
        return float(labels.mean())

    def constant_outputs(self, labels: NDArray[np.float64]) -> Tensor:
        """The mean, in the units of the targets."""
        return self.targets(labels).double().mean()[None].float()

    def normalised(self, metrics: dict[str, float]) -> float:
        return (metrics["pearson"] + 1) / 2

    def describe_labels(self, labels: NDArray[np.float64]) -> str:
        low, quarter, half, three_quarters, high = np.quantile(labels, [0, 0.25, 0.5, 0.75, 1])
        ends = f"{low:g} to {high:g} in a range of {self.range[0]:g} to {self.range[1]:g}"
        return f"{ends}, quartiles {quarter:.3g}, {half:.3g}, {three_quarters:.3g}"


def rounded_outward(low: float, high: float) -> tuple[float, float]:
    """The ends of a range that holds both scores, on the steps of a scale that has up to ten of them.

    >>> rounded_outward(0.4, 4.75)
    (0.0, 5.0)
    >>> rounded_outward(12, 97)
    (10.0, 100.0)
    """
    whole = float(math.floor(low)), float(math.ceil(high))
    if whole[1] - whole[0] <= 2 * (high - low) < 2:
        return whole  # 0.05 to 0.9 are shares
    step = 10.0 ** math.floor(math.log10(high - low))
    # in whole steps, and then divided where the step is a fraction, so that 0.3 is not 0.30000000000000004
    ends = math.floor(round(low / step, 9)), math.ceil(round(high / step, 9))
    return (ends[0] * step, ends[1] * step) if step >= 1 else (ends[0] / round(1 / step), ends[1] / round(1 / step))


def _class_names_in(cells: Iterable[str]) -> tuple[str, ...]:
    """The classes that these cells name, each in one spelling: numbers in their order, names in the alphabet's."""
    names = {text.lower() if text.lower() in TRUTHS else _integer(text) or text for text in map(str.strip, cells)}
    truths = names & TRUTHS.keys()
    if truths and names <= TRUTHS.keys() | set(TRUTHS.values()):
        names = set(TRUTHS)
    names.discard("")
    numbers = all(map(_is_number, names))
    return tuple(sorted(names, key=lambda name: (float(name) if numbers else 0.0, name.casefold(), name)))


def _scores_in(cells: Iterable[str]) -> list[float]:
    return [float(text) for text in cells if _is_number(text) and math.isfinite(float(text))]


def _is_number(text: str) -> bool:
    try:
        float(text.replace("_", "no digit"))
    except ValueError:
        return False
    return True


def _as_list(names: Sequence[str]) -> str:
    """Names as a list of a recipe, in quotes where they need them."""
    plain = re.compile(r"(?!null$)(?:[^\W\d_](?:[\w -]*\w)?|0|-?[1-9][0-9]*)", re.IGNORECASE)
    quoted = [name if plain.fullmatch(name) else "'" + name.replace("'", "''") + "'" for name in names]
    return f"[{', '.join(quoted)}]"


def counted(cells: Mapping[str, int]) -> str:
    """The labels in a file, the most frequent first, with how many rows have each."""
    ranked = sorted(cells.items(), key=lambda item: (-item[1], item[0]))
    more = f", ... ({len(ranked):,} in all)" if len(ranked) > NAMED else ""
    return ", ".join(f"{_cut(text, 40)} {count:,}" for text, count in ranked[:NAMED]) + more


def _varies(values: NDArray[np.float64]) -> bool:
    """Whether values differ by more than their rounding."""
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())


def _integer(text: str) -> str:
    """A whole number as it is counted with: '1' for '1.0' and '+1'; empty for everything else, '01' included."""
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})(\.0*)?", text) else ""


def _cut(text: str, room: int = 80) -> str:
    return text if len(text) <= room else f"{text[:room]}..."


def _listed(names: Sequence[str], shown: int = 50) -> str:
    """Names in a line, the first of them where there are many."""
    more = f", ... ({len(names):,} in all)" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


KINDS: Registry[Task] = Registry("kind of task", {"classification": Classification, "regression": Regression})
