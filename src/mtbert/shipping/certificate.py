"""What a graph says beside the model that it was made of: differences, decisions, scores and speed on the dev rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import RenderableType
from torch import Tensor

from mtbert.data.batches import Examples
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, plain, same
from mtbert.errors import Mistake
from mtbert.reports.base import Prose, Report, grid
from mtbert.scoring.intervals import intervals, spans

NEAR = 0.01  # of its range: how far apart two scores may be that count as the same decision

Side = Callable[[Task, Examples], Tensor]  # the outputs for all examples of a task: (N, outputs)


@dataclass(frozen=True)
class Said:
    """What one side says of a task's dev rows, beside the first side, which is the model itself."""

    scores: dict[str, float]  # the main metric first
    intervals: dict[str, list[float]]  # of 95 of 100 resamples of the rows
    difference: float  # the largest, of any output
    equal: float  # the share of rows with the same class, or a score that is as good as the same


@dataclass(frozen=True)
class Certificate(Report):
    """Task -> side -> what it says; sides are `torch` and the graphs."""

    bound: float  # how far the main metric of a task may fall
    rows: dict[str, int]
    tasks: dict[str, dict[str, Said]]
    rates: dict[str, float]  # side -> dev rows a second
    machine: dict[str, Any]

    @property
    def fallen(self) -> list[str]:
        """The scores that fall by more than the bound, each in words."""
        found = []
        for task, sides in self.tasks.items():
            metric, model = next(iter(sides["torch"].scores.items()))
            for side, said in sides.items():
                if not model - said.scores[metric] <= self.bound:
                    found.append(
                        f"{metric} of '{task}' falls from {model:z.4f} to {said.scores[metric]:z.4f} in {side}"
                    )
        return found

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": not self.fallen}

    def shown(self) -> Iterable[RenderableType]:
        names, cells = [], []
        for task, sides in self.tasks.items():
            for side, said in sides.items():
                metric, score = next(iter(said.scores.items()))
                low, high = said.intervals[metric]
                names.append(task if side == "torch" else "")
                cells.append([side, metric, f"{score:z.4f}", f"{low:z.4f} to {high:z.4f}"])
                cells[-1] += [f"{said.difference:.1e}", f"{said.equal:.2%}"]
        titles = ["side", "metric", "score", "95 % interval", "largest difference", "same decisions"]
        yield grid("task", titles, names, cells)
        rates = ", ".join(f"{side} {rate:,.0f}" for side, rate in self.rates.items())
        yield Prose(f"dev rows a second on {self.machine['threads']} threads of {self.machine['processor']}: {rates}")
        yield Prose("\n".join(self.fallen) or f"no score falls by more than {self.bound:g}")


def certify(
    sides: Mapping[str, Side], sets: Mapping[str, Examples], bound: float, machine: Mapping[str, Any]
) -> Certificate:
    """Let every side answer all rows; the first one is the model that the others are compared with.

    Raises Mistake where the rows of a task have no labels.
    """
    tasks: dict[str, dict[str, Said]] = {}
    spent = dict.fromkeys(sides, 0.0)
    for name, examples in sets.items():
        if examples.labels is None:
            raise Mistake(f"task '{name}' has no labels to be scored against")
        outputs: dict[str, Tensor] = {}
        for side, answer in sides.items():
            began = time.perf_counter()
            outputs[side] = answer(examples.task, examples)
            spent[side] += time.perf_counter() - began
        reference = next(iter(outputs.values()))
        tasks[name] = {side: _said(examples.task, one, reference, examples.labels) for side, one in outputs.items()}
    rows = {name: len(examples) for name, examples in sets.items()}
    rates = {side: sum(rows.values()) / seconds for side, seconds in spent.items()}
    return Certificate(bound, rows, tasks, rates, dict(machine))


def _said(task: Task, outputs: Tensor, reference: Tensor, labels: Labels) -> Said:
    measured, said, due = task.measured(outputs), task.decode(outputs), task.decode(reference)
    alike = np.abs(plain(said) - plain(due)) <= NEAR * np.ptp(plain(labels)) if task.scored else same(said, due)
    return Said(
        task.metrics(measured, labels),
        spans(intervals(task, measured, labels)),
        float((outputs - reference).abs().max()),
        float(alike.mean()),
    )
