"""A score on a range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.metrics import SCORES, Metric
from mtbert.data.kinds.spelling import counted, cut, scores_in
from mtbert.data.labels import Labels, plain
from mtbert.data.views import Scatter, View
from mtbert.errors import Mistake

UNKNOWN_RANGE = (0.0, 0.0)  # of scores whose recipe names none, until the data are read


class Regression(Task):
    """A score on a range, by mean squared error on the range scaled to [0, 1], or as it is with `scaled: false`.

    A range that a recipe leaves out is that of the training file, rounded outward.
    """

    usual = ("pearson", "spearman", "rmse")
    from_data = frozenset({"range"})
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
        scores = scores_in(cells)
        if len(scores) < 2:
            raise Mistake(f"needs two or more different scores in a task of kind regression; {self.proposal(cells)}")
        return self.model_copy(update={"range": rounded_outward(min(scores), max(scores))})

    def stand_in(self, cells: Mapping[str, int]) -> Self | None:
        return self.model_copy(update={"range": (-math.inf, math.inf)}) if scores_in(cells) else None

    def proposal(self, cells: Mapping[str, int]) -> str:
        scores = scores_in(cells)
        if len(scores) < max(2, len(cells) / 2):
            return f"the file holds {counted(cells)}: write `kind: classification`"
        low, high = rounded_outward(min(scores), max(scores))
        return f"the file holds {min(scores):g} to {max(scores):g}: write `range: [{low:g}, {high:g}]`"

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """The quarters of the range."""
        low, high = self.range
        return np.clip(4 * (plain(labels) - low) / (high - low), 0, 3).astype(np.int64)

    def stratum(self, number: int) -> str:
        low, high = self.range
        quarter = (high - low) / 4
        return f"{low + number * quarter:g} to {low + (number + 1) * quarter:g}"

    def misses(self, predictions: Labels, labels: Labels) -> NDArray[np.float64]:
        """The distance between both."""
        return np.asarray(np.abs(plain(predictions) - plain(labels)))

    def views(self, outputs: Tensor, said: Labels, labels: Labels) -> Sequence[View]:
        return (Scatter(plain(said), plain(labels), self.range),)

    @property
    def ends(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.scaled else self.range

    @property
    def width(self) -> float:
        return self.range[1] - self.range[0]

    @property
    def outputs(self) -> int:
        return 1

    def read_label(self, cell: object) -> float:
        low, high = self.range
        text = str(cell)
        try:
            score = float(text.replace("_", "no digit"))  # Python would read 4_6 as 46
        except ValueError:
            raise Mistake(f"label '{cut(text)}' is not a number") from None
        if not math.isfinite(score):
            raise Mistake(f"label '{cut(text)}' is not a finite number")
        if not low <= score <= high:
            raise Mistake(f"label '{cut(text)}' is outside the range {low:g} to {high:g}")
        return score

    def targets(self, labels: Labels) -> Tensor:
        low, high = self.range
        scores = plain(labels)
        return torch.from_numpy((scores - low) / (high - low) if self.scaled else scores).float()

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

    def say(self, prediction: float) -> float:
        return float(prediction)

    @property
    def meaning(self) -> str:
        return f"a score from {self.range[0]:g} to {self.range[1]:g}"

    def answers(self, outputs: Tensor) -> list[str]:
        return [f"{score:z.2f}" for score in self.decode(outputs)]

    def written(self, predictions: Labels) -> Any:
        return predictions

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        return SCORES

    def constant(self, labels: Labels) -> float:
        return float(plain(labels).mean())

    def constant_outputs(self, labels: Labels) -> Tensor:
        """The mean, in the units of the targets."""
        return self.targets(labels).double().mean()[None].float()

    def describe_labels(self, labels: Labels) -> str:
        low, quarter, half, three_quarters, high = np.quantile(plain(labels), [0, 0.25, 0.5, 0.75, 1])
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
