"""Which tasks help each other, measured in one short shared run, and which to train together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from mtbert.errors import Mistake
from mtbert.reports.base import Report, count, grid, plain
from mtbert.runs.build import Experiment
from mtbert.training.observers import Affinity

EXACT = 8  # tasks up to which every partition is tried; beyond that groups are merged two at a time
DOUBT = 0.05  # the chance, over all affinities together, that one of them is taken for other than 0 and is not


@dataclass(frozen=True)
class AffinityReport(Report):
    """affinity[i][j]: the share by which a step on task i lowers the loss of task j, a mean over the looks."""

    tasks: list[str]
    affinity: list[list[float]]
    spread: list[list[float]]  # standard error of the mean over the looks; nan where there is one look
    looks: int
    steps: int
    together: list[list[str]]  # the groups that surely help their members, each task in one; empty where none does

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        several = self.looks > 1
        cells = [
            [f"{value:+.2%}" + several * f" ({error:.2%})" for value, error in zip(values, errors, strict=True)]
            for values, errors in zip(self.affinity, self.spread, strict=True)
        ]
        yield grid("a step on", [f"lowers {task}" for task in self.tasks], self.tasks, cells)
        looks = count(self.looks, "look")
        brackets = ", standard error in brackets" if several else ", which has no standard error"
        yield plain(f"means over {looks} in {count(self.steps, 'step')}{brackets}")
        if self.together:
            yield plain("train together: " + "; ".join(" + ".join(group) for group in self.together))
        else:
            yield plain(
                f"{looks} cannot say which tasks to train together: no group surely helps its members; "
                "look longer with --steps"
            )


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
    return affinity_of(list(trainer.streams), np.array(seen), min(steps, trainer.steps))


def affinity_of(tasks: Sequence[str], looks: NDArray[np.float64], steps: int) -> AffinityReport:
    """What the looks (looks, K, K) of so many steps amount to."""
    mean, count_seen = looks.mean(0), len(looks)
    error = looks.std(0, ddof=1) / np.sqrt(count_seen) if count_seen > 1 else np.full_like(mean, np.nan)
    groups = best_partition(surely(mean, error, count_seen))
    return AffinityReport(
        list(tasks),
        mean.tolist(),
        error.tolist(),
        count_seen,
        steps,
        [[tasks[index] for index in group] for group in groups] if any(len(group) > 1 for group in groups) else [],
    )


def surely(mean: NDArray[np.float64], error: NDArray[np.float64], looks: int) -> NDArray[np.float64]:
    """The affinities that their standard errors carry, 0 in the place of all others: (K, K) -> (K, K).

    By Student's t, at a level that allows for the number of affinities (Bonferroni).
    """
    if looks < 2:
        return np.zeros_like(mean)
    from scipy.stats import t

    pairs = mean.size - len(mean)
    carried: NDArray[np.float64] = np.where(np.abs(mean) > t.ppf(1 - DOUBT / (2 * pairs), looks - 1) * error, mean, 0.0)
    return carried


def best_partition(affinity: NDArray[np.float64]) -> list[list[int]]:
    """Groups in which the tasks gain most: a task gains the mean of what the others of its group give it, alone 0.

    Of more than EXACT tasks, the two groups are merged whose merging gains most, for as long as one gains anything.
    """

    def gain(partition: Sequence[Sequence[int]]) -> float:
        return sum(
            float(np.mean([affinity[giver, task] for giver in group if giver != task]))
            for group in partition
            if len(group) > 1
            for task in group
        )

    alone = [[task] for task in range(len(affinity))]
    if len(affinity) <= EXACT:
        return max((alone, *_partitions(list(range(len(affinity))))), key=gain)
    groups, reached = alone, 0.0
    while len(groups) > 1:
        merged = [_merged(groups, *pair) for pair in combinations(range(len(groups)), 2)]
        best = max(merged, key=gain)
        if gain(best) <= reached:
            break
        groups, reached = best, gain(best)
    return groups


def _merged(groups: Sequence[list[int]], one: int, other: int) -> list[list[int]]:
    kept = [group for place, group in enumerate(groups) if place not in (one, other)]
    return [*kept, groups[one] + groups[other]]


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in _partitions(rest):
        yield [[first], *partition]
        for index, group in enumerate(partition):
            yield [*partition[:index], [first, *group], *partition[index + 1 :]]
