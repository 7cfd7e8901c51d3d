"""Method beside method: differences with intervals, tests and verdicts, per task and overall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from mtbert.comparison.outcomes import Outcome, overall
from mtbert.comparison.statistics.intervals import Interval, crossed_interval, t_interval
from mtbert.comparison.statistics.resampling import Floats, resampled
from mtbert.comparison.statistics.significance import (
    across_blocks,
    better_on_a_new_block,
    bootstrap_test,
    holm,
    mcnemar_test,
    sign_flip_test,
)
from mtbert.comparison.statistics.verdict import Verdict, judge
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, same
from mtbert.scoring.evaluation import counting

OVERALL = "overall"
DRAWS = 2000
FEW = 10  # seeds below which a t interval stands beside the bootstrap's


@dataclass(frozen=True)
class Contrast:
    """How a method differs from the one it is compared with, by one measure: positive where it scores higher."""

    method: str
    against: str
    measure: str  # `overall`, or a task for its main metric
    differences: list[float]  # block by block
    mean: float
    interval: Interval  # over new seeds and new rows; of a single block over new rows
    over_seeds: Interval | None  # a t interval on these very rows, where there are few seeds
    p: float  # of a sign-flip test over seeds
    p_corrected: float  # by Holm
    p_rows: float | None  # McNemar's or a bootstrap test over rows, all blocks together; none for `overall`
    better_on_a_new_block: float | None
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "against": self.against,
            "measure": self.measure,
            "differences": self.differences,
            "mean": self.mean,
            "interval": list(self.interval),
            "interval_varies": "seeds and rows" if len(self.differences) > 1 else "rows",
            "t_interval_over_seeds": None if self.over_seeds is None else list(self.over_seeds),
            "p_sign_flip": self.p,
            "p_holm": self.p_corrected,
            "p_rows": self.p_rows,
            "better_on_a_new_block": self.better_on_a_new_block,
            "verdict": str(self.verdict),
            "why": self.verdict.why,
        }


class Samples:
    """Every method's scores on the same samples of the reporting rows.

    Where blocks report different rows, `labels` are those of each fold, and `folds` says which fold each block has.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        labels: Sequence[Mapping[str, Labels]],
        outcomes: Mapping[str, Sequence[Outcome]],
        folds: Sequence[int],
    ) -> None:
        self.tasks, self.outcomes = tasks, outcomes
        self.labels = [labels[fold] for fold in folds]  # block by block
        runs = [one for some in outcomes.values() for one in some]
        ends = np.cumsum([len(some) for some in outcomes.values()])
        self._columns = {
            method: list(range(end - len(some), end))
            for (method, some), end in zip(outcomes.items(), ends, strict=True)
        }
        fold_of_run = np.array([fold for some in outcomes.values() for fold in folds[: len(some)]])
        self._scores = {}
        for index, (name, task) in enumerate(tasks.items()):
            scores = np.empty((DRAWS, len(runs)))
            for fold in sorted(set(folds)):
                mine = np.flatnonzero(fold_of_run == fold)
                said = [runs[run].predictions[name] for run in mine]
                # numpy takes a seed [a] for [a, 0]: a single fold draws as it always has
                generator = np.random.default_rng([index, fold])
                scores[:, mine] = resampled(task, said, labels[fold][name], DRAWS, generator)
            self._scores[name] = scores
        counted = {name: _normalised(tasks[name], self._scores[name]) for name in counting(tasks)}
        weights = [float(tasks[name].counts or 1) for name in counted]
        self._scores[OVERALL] = np.average(list(counted.values()), axis=0, weights=weights)

    @property
    def blocks(self) -> int:
        """How many blocks every method has."""
        return len(next(iter(self.outcomes.values())))

    def observed(self, measure: str, method: str) -> Floats:
        """Block by block, on the rows as they are: (S,)."""
        return np.array([_score(self.tasks, one, measure) for one in self.outcomes[method]])

    def drawn(self, measure: str, method: str) -> Floats:
        """Block by block, on every sample of the rows: (draws, S)."""
        return self._scores[measure][:, self._columns[method]]


def contrasts(
    samples: Samples,
    methods: Sequence[str],
    against: str,
    margin: float,
    planned: int,
    checks: Sequence[str] = (),
) -> list[Contrast]:
    """Each method against one, by `overall` and by every task.

    Holm's correction is over the methods for `overall`, the primary outcome, and over methods x tasks for the tasks.
    `checks` are methods that are no question of the comparison (the A/A check): they are judged without correction.
    """
    asked = [method for method in methods if method not in checks]
    found = []
    for measures in ([OVERALL], list(samples.tasks)):
        family = list(product(asked, measures))
        p_values = {pair: sign_flip_test(differences_of(samples, *pair, against)) for pair in family}
        corrected = dict(zip(family, holm([*p_values.values()]), strict=True))
        for pair in product(checks, measures):
            p_values[pair] = corrected[pair] = sign_flip_test(differences_of(samples, *pair, against))
        found += [
            _contrast(samples, *pair, against, Judged(p_values[pair], corrected[pair], margin, planned, tests))
            for pair in product(methods, measures)
            for tests in [1 if pair[0] in checks else len(family)]
        ]
    return found


def _normalised(task: Task, scores: Floats) -> Floats:
    """Scores by which a task is judged on the scale of `overall`, which errors are on already."""
    metric = task.all_metrics[task.main]
    if metric.scale == "error":
        return scores
    found: Floats = np.vectorize(lambda score: metric.counted(score, task.width))(scores)
    return found


def differences_of(samples: Samples, method: str, measure: str, against: str) -> Floats:
    """The paired differences, block by block: (S,)."""
    return samples.observed(measure, method) - samples.observed(measure, against)


def _score(tasks: Mapping[str, Task], outcome: Outcome, measure: str) -> float:
    if measure == OVERALL:
        return overall(tasks, outcome.reported)
    return tasks[measure].score(outcome.reported[measure])


class Judged(NamedTuple):
    """What a verdict needs beside the differences."""

    p: float
    corrected: float
    margin: float
    planned: int  # blocks
    tests: int  # that p is corrected for


def _contrast(samples: Samples, method: str, measure: str, against: str, by: Judged) -> Contrast:
    differences = differences_of(samples, method, measure, against)
    on_samples = samples.drawn(measure, method) - samples.drawn(measure, against)
    return Contrast(
        method,
        against,
        measure,
        differences.tolist(),
        float(differences.mean()),
        crossed_interval(differences, on_samples, np.random.default_rng(0)),
        t_interval(differences) if len(differences) < FEW else None,
        by.p,
        by.corrected,
        None if measure == OVERALL else _over_rows(samples, method, against, measure, on_samples),
        better_on_a_new_block(differences),
        judge(differences, by.corrected, by.margin, planned=by.planned, tests=by.tests),
    )


def _over_rows(samples: Samples, method: str, against: str, task: str, on_samples: Floats) -> float:
    """Whether the two differ on new rows: a test in each block, all blocks together."""
    if samples.tasks[task].main != "accuracy":
        return across_blocks([bootstrap_test(block) for block in on_samples.T])
    said = samples.tasks[task].said
    right = [
        [
            same(said(one.predictions[task]), labels[task])
            for one, labels in zip(samples.outcomes[name], samples.labels, strict=True)
        ]
        for name in (method, against)
    ]
    return across_blocks([mcnemar_test(ours, theirs) for ours, theirs in zip(*right, strict=True)])
