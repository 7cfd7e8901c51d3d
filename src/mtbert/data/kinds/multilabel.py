"""Any number of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from mtbert.data.formats.base import Table
from mtbert.data.kinds.base import ReadLabels
from mtbert.data.kinds.class_scores import ClassScore, ClassScores
from mtbert.data.kinds.imbalance import side_weights_of, weighed_binary_losses
from mtbert.data.kinds.metrics import Metric, area_of_labels, average_precision_of_labels
from mtbert.data.kinds.named_classes import NamedClasses
from mtbert.data.kinds.spelling import Spellings, class_names_in, counted, cut, listed
from mtbert.data.label_cells import LabelCells, ListCells
from mtbert.data.labels import Labels, plain
from mtbert.errors import Mistake, unknown
from mtbert.registry import EACH, ONE, ONE_OR_EACH, Share


class Multilabel(NamedClasses):
    """Any number of several labels, each by the binary cross-entropy of a logit of its own. The loss of a row is the
    mean over its labels.

    Labels stand in a column of lists, in one of texts with a `separator` between labels (`fun|short`, empty for none),
    or in a column for each label (`label: [toxic, insult]`), which holds 0 and 1 or false and true. An empty cell of
    those is a gap: what is not known is neither learned nor scored. A label is predicted where its probability is above
    the threshold, one for all or one by name.

    `class_weights: {insult: 10}` lets a label count so many times where it is there, and `balanced` lets the rows that
    have a label count as much as those that do not, label by label. `focal` and `label_smoothing` are of the two sides
    of each label (Lin et al., 2017).

    Source: Lin et al., 2017, equation 4, https://arxiv.org/abs/1708.02002
    """

    independent = True
    several_columns = True
    kind: Literal["multilabel"] = "multilabel"
    miss = "share of its labels wrong"
    usual = ("macro_f1", "micro_f1", "all_right")
    separator: str = Field("|", min_length=1)
    thresholds: Annotated[Annotated[Share, ONE] | Annotated[dict[str, Share], EACH], ONE_OR_EACH] = 0.5

    @model_validator(mode="before")
    @classmethod
    def _named_by_their_columns(cls, given: Any) -> Any:
        label = given.get("label") if isinstance(given, Mapping) else None
        if isinstance(label, (list, tuple)) and not given.get("classes"):
            return {**given, "classes": list(label)}
        return given

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        if not isinstance(self.label, str) and len(self.label) != len(self.classes):
            raise Mistake(f"names {len(self.classes)} classes for {len(self.label)} columns of labels")
        for name in self.thresholds if isinstance(self.thresholds, dict) else ():
            if self.classes and name not in self.classes:
                raise Mistake(unknown("class of a threshold:", name, self.classes))
        return self

    def completed(self, cells: Mapping[str, int]) -> Self:
        names = class_names_in(cells)
        if len(names) < 2:
            raise Mistake(f"needs two or more different labels in a task of several; the file holds {counted(cells)}")
        return self.model_copy(update={"classes": names})

    def read(self, table: Table, words: NDArray[np.int64] | None) -> ReadLabels:
        return self._read_columns(table) if not isinstance(self.label, str) else self._read_lists(table, self.label)

    def _read_columns(self, table: Table) -> ReadLabels:
        labels, wrong, found = (
            np.full((table.columns.num_rows, len(self.classes)), np.nan),
            dict[int, str](),
            dict[str, int](),
        )
        for place, name in enumerate(self.label_columns):
            cells = LabelCells.of(table, name)
            values, bad = [], []
            for code, cell in enumerate(cells.distinct):
                try:
                    values.append(float(PRESENT.place(cell)) if str(cell).strip() else np.nan)
                except Mistake:
                    values.append(np.nan)
                    bad.append(code)
            labels[:, place] = np.append(np.array(values, dtype=np.float64), np.nan)[cells.codes]
            if bad:
                rows = np.flatnonzero(np.isin(cells.codes, bad))
                said = {int(row): cut(str(cells.distinct[cells.codes[row]])) for row in rows}
                wrong |= {row: f"column '{name}': '{cell}' is neither 0 nor 1" for row, cell in said.items()}
                found |= cells.counted(bad)
        missing = set(np.flatnonzero(np.isnan(labels).all(1)).tolist()) - wrong.keys()
        return ReadLabels(self, labels, wrong, sorted(missing), found, "")

    def _read_lists(self, table: Table, column: str) -> ReadLabels:
        cells = ListCells.of(table, column, self.separator)
        entries = cells.entries
        task = self if self.complete else self.found(entries.counted(), table.name, column)
        places, bad = [], {}
        for code, cell in enumerate(entries.distinct):
            try:
                places.append(task.read_label(cell))
            except Mistake as mistake:
                places.append(-1)
                bad[code] = str(mistake)
        rows = cells.rows_of(np.arange(len(entries.codes)))
        chosen = np.array([*places, -1], dtype=np.int64)[entries.codes]
        labels = np.zeros((len(cells), len(task.classes)))
        labels[rows[chosen >= 0], chosen[chosen >= 0]] = 1.0
        wrong = {row: f"column '{column}': {message}" for row, message in cells.wrong.items()}
        for entry in np.flatnonzero(chosen < 0)[::-1]:
            message = bad.get(int(entries.codes[entry]), "a label in the list is missing")
            wrong[int(rows[entry])] = f"column '{column}': {message}"
        missing = [int(row) for row in np.flatnonzero(cells.missing) if int(row) not in wrong]
        proposal = task.proposal(entries.counted()) if bad else ""
        return ReadLabels(task, labels, wrong, missing, entries.counted(list(bad)), proposal)

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """The rarest label of each row, so that rare labels stand on both sides; one sort more for none."""
        there = np.nan_to_num(plain(labels)) > 0
        ranked = np.argsort(there.sum(0), kind="stable")
        first = there[:, ranked].argmax(1)
        sorts: NDArray[np.int64] = np.where(there.any(1), ranked[first], there.shape[1])
        return sorts

    def stratum(self, number: int) -> str:
        return self.classes[number] if number < len(self.classes) else "none"

    def misses(self, predictions: Labels, labels: Labels) -> NDArray[np.float64]:
        """The share of the known labels that are wrong."""
        known = ~np.isnan(plain(labels))
        wrong = (plain(predictions) != plain(labels)) & known
        return np.asarray(wrong.sum(1) / np.maximum(known.sum(1), 1))

    def targets(self, labels: Labels) -> Tensor:
        """1 for a label, 0 for none, nan for what is not known: (N, C)."""
        return torch.from_numpy(plain(labels)).float()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        there = targets.where(known, 0.0)
        if self.counts_all_alike:
            losses = F.binary_cross_entropy_with_logits(outputs.float(), there, reduction="none")
        else:
            losses = weighed_binary_losses(outputs.float(), there, self._weights, self.focal, self.label_smoothing)
        return losses.where(known, 0.0).sum(-1) / known.sum(-1).clamp(min=1)

    def learn_from(self, labels: Labels) -> None:
        self._weights = side_weights_of(self.class_weights, self.classes, plain(labels))

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """The mean over the labels of the symmetric Kullback-Leibler divergence of two coins,
        (sigmoid(u) - sigmoid(v)) * (u - v).
        """
        u, v = outputs.float(), others.float()
        return ((u.sigmoid() - v.sigmoid()) * (u - v)).mean(-1)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        u = outputs.float()
        return u.sigmoid() * (-u).sigmoid() * tangent.float() / u.shape[-1]

    def decode(self, outputs: Tensor) -> Labels:
        return (outputs.double().sigmoid().cpu().numpy() > self._thresholds).astype(np.float64)

    def mean_of(self, several: Sequence[Tensor]) -> Tensor:
        """Of the probability of each label."""
        return torch.stack([outputs.double().sigmoid() for outputs in several]).mean(0).logit(eps=1e-15).float()

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        return dict(zip(self.classes, outputs.double().sigmoid().cpu().numpy().T, strict=True))

    def say(self, prediction: Any) -> list[str]:
        return [name for name, there in zip(self.classes, prediction, strict=True) if there > 0]

    @property
    def meaning(self) -> str:
        return f"any of {listed(self.classes, 8)}"

    def answers(self, outputs: Tensor) -> list[str]:
        sure = outputs.double().sigmoid().cpu().numpy()
        said = [
            [f"{name} ({sure[row, place]:.0%})" for place, name in enumerate(self.classes) if one[place] > 0]
            for row, one in enumerate(plain(self.decode(outputs)))
        ]
        return [", ".join(names) or "none" for names in said]

    def written(self, predictions: Labels) -> list[list[str]]:
        return [self.say(one) for one in plain(predictions)]

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        return METRICS

    def tallies(self, predictions: Labels, labels: Labels) -> NDArray[np.float64] | None:
        """How often each label is rightly predicted, predicted, and there; or whether a row has all right, and 1."""
        said, there = plain(predictions), plain(labels)
        if self.main == "all_right":
            return np.stack([_rows_right(said, there), np.ones(len(there))], axis=1)
        return None if self.all_metrics[self.main].ranks else np.concatenate(_marks(said, there), axis=1)

    def of_tallies(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.main == "all_right":
            return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))
        right, said, there = np.split(sums, 3, axis=-1)
        if self.main == "micro_f1":
            return np.asarray(_f1(right.sum(-1), said.sum(-1), there.sum(-1)))
        f1 = _f1(right, said, there)
        if self.main == "weighted_f1":
            return np.asarray((f1 * there).sum(-1) / np.maximum(there.sum(-1), 1))
        return np.asarray(f1.mean(-1))

    def class_scores(self, predictions: Labels, labels: Labels) -> ClassScores:
        right, said, there = _counts(predictions, labels)
        return ClassScores(
            [
                ClassScore(name, _share(right[i], said[i]), _share(right[i], there[i]), float(f1), int(there[i]))
                for i, (name, f1) in enumerate(zip(self.classes, _f1(right, said, there), strict=True))
            ],
            None,
        )

    def constant(self, labels: Labels) -> float:
        """1: that every label is there finds all of them, which F1 rates above finding none."""
        return 1.0

    def constant_outputs(self, labels: Labels) -> Tensor:
        """The log-odds of each label, each counted once more on either side."""
        found = plain(labels)
        logits = np.log(np.nansum(found, 0) + 1) - np.log(np.nansum(1 - found, 0) + 1)
        return torch.from_numpy(logits).float()

    def describe_labels(self, labels: Labels) -> str:
        found = plain(labels)
        counts = np.nansum(found, 0).astype(np.int64)
        none = int((np.nansum(found, 1) == 0).sum())
        gaps = int(np.isnan(found).sum())
        said = listed([f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)])
        return f"{said}; none {none:,}" + (f"; gaps {gaps:,}" if gaps else "")

    def absent(self, labels: Labels) -> list[str]:
        counts = np.nansum(plain(labels), 0)
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]

    @property
    def _thresholds(self) -> NDArray[np.float64]:
        given = self.thresholds
        return np.array([given.get(name, 0.5) if isinstance(given, dict) else given for name in self.classes])


PRESENT = Spellings(("0", "1"))  # what a column of a single label holds


def _counts(predictions: Labels, labels: Labels) -> tuple[NDArray[np.float64], ...]:
    """How often each label is rightly predicted, predicted, and there, where it is known: each (C,)."""
    return tuple(marks.sum(0) for marks in _marks(plain(predictions), plain(labels)))


def _marks(said: NDArray[np.float64], there: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Which labels are rightly predicted, predicted, and there, where they are known: each (N, C)."""
    known = ~np.isnan(there)
    return [one * known for one in (said * np.nan_to_num(there), said, np.nan_to_num(there))]


def _macro_f1(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    return float(_f1(*_counts(predictions, labels)).mean())


def _micro_f1(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    return float(_f1(*(one.sum() for one in _counts(predictions, labels))))


def _weighted_f1(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    right, said, there = _counts(predictions, labels)
    return float((_f1(right, said, there) * there).sum() / max(there.sum(), 1))


def _all_right(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """The share of rows that have every known label right."""
    return float(_rows_right(predictions, labels).mean())


def _rows_right(predictions: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((predictions == labels) | np.isnan(labels)).all(1))


def _f1(right: Any, said: Any, there: Any) -> Any:
    """2 right / (said + there), 0 where there is neither."""
    return 2 * right / np.maximum(said + there, 1)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


METRICS: Mapping[str, Metric] = {
    "macro_f1": Metric(_macro_f1),
    "micro_f1": Metric(_micro_f1),
    "all_right": Metric(_all_right),
    "weighted_f1": Metric(_weighted_f1),
    "auc": Metric(area_of_labels, ranks=True),
    "average_precision": Metric(average_precision_of_labels, ranks=True),
}
