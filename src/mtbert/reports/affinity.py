"""Which tasks help each other, measured in one short shared run, and which to train together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from mtbert.errors import Mistake
from mtbert.reports.base import Report, grid, plain
from mtbert.runs.build import Experiment
from mtbert.training.observers import Affinity


@dataclass(frozen=True)
class AffinityReport(Report):
    """affinity[i][j]: the share by which a step on task i lowers the loss of task j, a mean over the looks."""

    tasks: list[str]
    affinity: list[list[float]]
    spread: list[list[float]]  # standard error of the mean over the looks
    looks: int
    steps: int
    together: list[list[str]]  # the partition into groups that help their members most

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        cells = [
            [f"{value:+.2%} ({error:.2%})" for value, error in zip(values, errors, strict=True)]
            for values, errors in zip(self.affinity, self.spread, strict=True)
        ]
        yield grid("a step on", [f"lowers {task}" for task in self.tasks], self.tasks, cells)
        yield plain(f"means over {self.looks} looks in {self.steps:,} steps, standard error in brackets")
        yield plain("train together: " + "; ".join(" + ".join(group) for group in self.together))


def measure_affinity(experiment: Experiment, steps: int, every: int) -> AffinityReport:
    """Train the first stage for some steps and look every so many; raises Mistake where no two tasks share anything."""
    trainer = experiment.stage(0).trainer
    observer = Affinity(trainer, every=every)
    seen = []
    for record in trainer:
        if record.step % every == 0:
            seen.append(observer.look()["affinity"])
        if record.step >= steps:
            break
    if not seen:
        raise Mistake(f"{steps} steps are too few to look every {every}")
    looks = np.array(seen)
    tasks = list(trainer.streams)
    mean = looks.mean(0)
    return AffinityReport(
        tasks,
        mean.tolist(),
        (looks.std(0, ddof=1) / np.sqrt(len(looks)) if len(looks) > 1 else np.full_like(mean, np.nan)).tolist(),
        len(looks),
        min(steps, trainer.steps),
        [[tasks[index] for index in group] for group in best_partition(mean)],
    )


def best_partition(affinity: NDArray[np.float64]) -> list[list[int]]:
    """Groups in which the tasks gain most: a task gains the mean of what the others of its group give it, alone 0."""

    def gain(partition: Sequence[Sequence[int]]) -> float:
        return sum(
            float(np.mean([affinity[giver, task] for giver in group if giver != task]))
            for group in partition
            if len(group) > 1
            for task in group
        )

    return max(_partitions(list(range(len(affinity)))), key=gain)


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in _partitions(rest):
        yield [[first], *partition]
        for index, group in enumerate(partition):
            yield [*partition[:index], [first, *group], *partition[index + 1 :]]
