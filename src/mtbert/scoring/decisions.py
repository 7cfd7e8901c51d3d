"""From outputs to what is said: how sure is sure, from which probability on, and when to say nothing.

Everything here is for tasks whose rows have one of several classes (`Task.exclusive`), or any number of them
(`Task.independent`), and fitted on rows that the model was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, plain
from mtbert.errors import Mistake
from mtbert.registry import Positive, Share
from mtbert.scoring.calibration import calibration_error
from mtbert.scoring.thresholds import offsets_of, threshold_of, thresholds_of

NOT_SURE = "not sure"
FOLDS = 5
SEED = 20_220_503
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are tried


class Decided(NamedTuple):
    """What is said of N rows."""

    outputs: Tensor  # (N, outputs), cooled or heated
    predictions: Labels  # N rows
    sure: NDArray[np.bool_] | None  # (N,), None where it always says something


@dataclass(frozen=True)
class Decision:
    """How a task decides. Without anything it says the likeliest class."""

    temperature: Positive = 1.0  # that outputs are divided by
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None  # the second of two classes is said from here on
    sure_from: Share | None = None  # below this probability of what is said, it is not sure
    # of several classes, what is added to the logarithm of each one's probability before the largest is said
    offsets: dict[str, float] | None = None
    # where a row has any number of classes, the probability above which each of them is said
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None

    @property
    def says_the_likeliest(self) -> bool:
        """Whether it always says the likeliest class, or those that the task says by itself."""
        return all(one is None for one in (self.threshold, self.offsets, self.thresholds, self.sure_from))

    def decide(self, task: Task, outputs: Tensor) -> Decided:
        """What is said of outputs (N, outputs)."""
        cooled, said = outputs / self.temperature, task.decode(outputs)
        if self == Decision():
            return Decided(outputs, said, None)
        columns = _columns(task, cooled)
        if self.threshold is not None:
            said = (columns[:, 1] >= self.threshold).astype(np.float64)
        if self.offsets is not None:
            added = np.array([self.offsets[name] for name in task.class_names])
            said = (_logs(columns) + added).argmax(1).astype(np.float64)
        if self.thresholds is not None:
            said = (columns > np.array([self.thresholds[name] for name in task.class_names])).astype(np.float64)
        if self.sure_from is None:
            return Decided(cooled, said, None)
        return Decided(cooled, said, _sure(columns, plain(said)) >= self.sure_from)


PLAIN = Decision()


class HeldOut(NamedTuple):
    """How decisions do on rows that they were not fitted on, beside the likeliest class at temperature 1."""

    error_before: float  # ECE
    error: float
    brier_before: float
    brier: float
    metric_before: float | None  # none where neither threshold nor offsets were fitted
    metric: float | None
    precision: float | None  # share of right rows among those it is sure of; none where it always says something
    coverage: float | None  # share of the rows that it is sure of


@dataclass(frozen=True)
class Asked:
    """What a person wants of a task's decisions."""

    metric: str | None = None  # that a threshold shall make best, or offsets of more than two classes
    precision: float | None = None  # that what is said shall have, where it is sure
    temperature: bool = True  # whether one is fitted


def probability_of(task: Task, decided: Decided) -> NDArray[np.float64]:
    """The probability of what is said: (N,)."""
    return _sure(_columns(task, decided.outputs), plain(decided.predictions))


def fit(task: Task, outputs: Tensor, labels: NDArray[np.float64], asked: Asked) -> Decision:
    """The decision that suits these rows: outputs (N, outputs), labels (N,), of independent classes (N, C).

    The temperature has the least loss, the threshold or the offsets the best metric, and the rejection the least
    probability from which what is said is right as often as asked. Raises Mistake where no rejection can reach that.

    Source: Guo et al., 2017, section 4, https://arxiv.org/abs/1706.04599
    """
    decision = Decision(temperature=temperature_of(task, outputs, labels)) if asked.temperature else PLAIN
    columns = _columns(task, outputs / decision.temperature)
    if asked.metric is not None and task.binary:
        decision = replace(decision, threshold=threshold_of(columns[:, 1], labels == 1, asked.metric))
    elif asked.metric is not None and task.independent:
        least = thresholds_of(columns, labels, asked.metric)
        decision = replace(decision, thresholds=dict(zip(task.class_names, map(float, least), strict=True)))
    elif asked.metric is not None:
        found = offsets_of(_logs(columns), labels, asked.metric)
        decision = replace(decision, offsets=dict(zip(task.class_names, map(float, found), strict=True)))
    if asked.precision is not None:
        said = plain(decision.decide(task, outputs).predictions)
        decision = replace(decision, sure_from=rejection_of(_sure(columns, said), said == labels, asked.precision))
    return decision


def cross_validated(task: Task, outputs: Tensor, labels: NDArray[np.float64], asked: Asked) -> HeldOut:
    """How `fit` does on rows that it has not seen: each fifth of the rows decided as the other four suggest."""
    folds = _folds(task.strata(labels))
    cooled, said = outputs.clone(), np.zeros(labels.shape)
    sure = np.ones(len(labels), dtype=bool)
    for fold in range(FOLDS):
        mine = folds == fold
        if not mine.any():
            continue
        try:
            decision = fit(task, outputs[~mine], labels[~mine], asked)
        except Mistake:  # what all rows reach, these do not
            decision = replace(fit(task, outputs[~mine], labels[~mine], replace(asked, precision=None)), sure_from=1.0)
        decided = decision.decide(task, outputs[mine])
        cooled[mine], said[mine] = decided.outputs, plain(decided.predictions)
        sure[mine] = True if decided.sure is None else decided.sure
    before = plain(task.decode(outputs))  # what a temperature leaves as it is
    measured = None if asked.metric is None else task.all_metrics[asked.metric].take
    return HeldOut(
        error_before=_error(task, outputs, before, labels),
        error=_error(task, cooled, before, labels),
        brier_before=_brier(task, outputs, labels),
        brier=_brier(task, cooled, labels),
        metric_before=None if measured is None else measured(before, labels),
        metric=None if measured is None else measured(said, labels),
        precision=None if asked.precision is None else float((said == labels)[sure].mean()) if sure.any() else 0.0,
        coverage=None if asked.precision is None else float(sure.mean()),
    )


def temperature_of(task: Task, outputs: Tensor, labels: NDArray[np.float64]) -> float:
    """The temperature with the least loss on these rows."""
    from scipy.optimize import minimize_scalar  # late, as elsewhere

    targets, wide = task.targets(labels), outputs.double()

    def loss(logarithm: float) -> float:
        return float(task.losses(wide / float(np.exp(logarithm)), targets).double().mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def rejection_of(sure: NDArray[np.float64], right: NDArray[np.bool_], precision: float) -> float:
    """The least probability from which on the share of right rows is at least `precision`: (N,), (N,).

    Raises Mistake where there is none.
    """
    order = np.argsort(-sure, kind="stable")
    last = np.append(np.diff(sure[order]) != 0, True)
    shares = np.cumsum(right[order]) / np.arange(1, len(right) + 1)
    able = np.flatnonzero(last & (shares >= precision))
    if not len(able):
        best = float(shares[last].max())
        raise Mistake(f"a precision of {precision:g} cannot be reached at any probability: the best is {best:z.4f}")
    return float(sure[order][able[-1]])


def brier(columns: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """The mean squared distance between probabilities (N, C) and what is true, from 0 to 2.

    Source: Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    true = np.arange(columns.shape[1]) == labels.astype(np.int64)[:, None]
    return float(np.square(columns - true).sum(1).mean())


def _columns(task: Task, outputs: Tensor) -> NDArray[np.float64]:
    """Probabilities: (N, C)."""
    return np.stack(list(task.probabilities(outputs).values()), axis=1)


def _logs(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, C) -> (N, C), of what is 0 a very low one."""
    logs: NDArray[np.float64] = np.log(np.maximum(columns, np.finfo(np.float64).tiny))
    return logs


def _sure(columns: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of what is said: (N, C), (N,) -> (N,)."""
    return columns[np.arange(len(said)), said.astype(np.int64)]


def _error(task: Task, outputs: Tensor, said: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    columns = _columns(task, outputs)
    if task.independent:  # every known label is a prediction of two classes
        first, there = _known(columns, labels)
        return calibration_error(np.maximum(first, 1 - first), (first > 0.5) == there)
    return calibration_error(_sure(columns, said), said == labels)


def _brier(task: Task, outputs: Tensor, labels: NDArray[np.float64]) -> float:
    columns = _columns(task, outputs)
    if not task.independent:
        return brier(columns, labels)
    first, there = _known(columns, labels)
    return brier(np.stack([1 - first, first], axis=1), there.astype(np.float64))


def _known(columns: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probabilities of all labels that are known, and whether they are there."""
    known = ~np.isnan(labels)
    return columns[known], labels[known] == 1


def _folds(strata: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which fold each row is in: (N,), those of a stratum spread evenly."""
    generator = np.random.default_rng(SEED)
    folds = np.empty(len(strata), dtype=np.int64)
    for one in np.unique(strata):
        rows = generator.permutation(np.flatnonzero(strata == one))
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds
