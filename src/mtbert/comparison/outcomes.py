"""What each method came to in each block: the runs it is made of, joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.comparison.measured import Measured, Metrics, read_measured, read_predictions
from mtbert.comparison.plan import PlannedRun
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.scoring.evaluation import Scores


@dataclass(frozen=True)
class Outcome:
    """One method in one block."""

    runs: Sequence[Measured]  # one, or one a task
    predictions: Mapping[str, Labels]  # task -> on the reporting rows

    @property
    def reported(self) -> Metrics:
        return {task: metrics for run in self.runs for task, metrics in run.reported.items()}

    @property
    def selected(self) -> Metrics:
        return {task: metrics for run in self.runs for task, metrics in run.selected.items()}

    @property
    def last(self) -> Metrics:
        return {task: metrics for run in self.runs for task, metrics in run.last.items()}

    def total(self, cost: str) -> float:
        """A cost of all its runs: steps, examples, wall_seconds, processor_seconds or parameters."""
        return float(sum(getattr(run, cost) for run in self.runs))

    @property
    def failures(self) -> list[str]:
        return [f"{run.run}: {run.failure}" for run in self.runs if run.failure]


def overall(tasks: Mapping[str, Task], metrics: Metrics) -> float:
    """The mean of the tasks' normalised main metrics, of those that count."""
    return Scores.of(tasks, metrics).overall


def outcome(planned: Sequence[PlannedRun], folder: Path) -> Outcome | None:
    """The runs of one method in one block, joined; None unless all of them have a result."""
    found = [read_measured(folder, one.name) for one in planned]
    runs = [one for one in found if one is not None]
    if len(runs) < len(found):
        return None
    return Outcome(
        runs,
        {task: values for one in runs if one.reported for task, values in read_predictions(folder, one.run).items()},
    )


def choose(trials: Sequence[PlannedRun], tasks: Mapping[str, Task], folder: Path) -> dict[str, dict[str, float]]:
    """Method -> candidate -> `overall` of its trial on the selecting rows; trials without a result are left out."""
    found: dict[str, dict[str, float]] = {}
    for method, candidate in dict.fromkeys((one.method.name, one.candidate) for one in trials):
        mine = [one for one in trials if (one.method.name, one.candidate) == (method, candidate)]
        tried = outcome(mine, folder)
        if tried is not None:
            found.setdefault(method, {})[candidate] = overall(tasks, tried.selected)
    return found
