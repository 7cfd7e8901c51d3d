"""How training went, as curves: losses, penalties, scores, rate and gradient over the steps of all stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mtbert.errors import Mistake
from mtbert.runs.folder import LAST, Run
from mtbert.runs.log import Evaluation, Line, Look, Note, Step


class Point(NamedTuple):
    """A value at a step, counted on through the stages."""

    step: int
    value: float


@dataclass(frozen=True)
class History:
    """What the log of a run says, as far as it can be read."""

    lines: Sequence[Line]
    problem: str | None  # what ended the reading before the end of the file
    offsets: dict[int, int] = field(default_factory=dict)  # stage -> steps of the stages before it

    @classmethod
    def of(cls, run: Run) -> History:
        """The log of a run; where a line is damaged, the lines before it."""
        lines: list[Line] = []
        problem = None
        try:
            for line in run.log:
                lines.append(line)  # noqa: PERF402 - what was read before a damaged line stays
        except Mistake as mistake:
            problem = str(mistake)
        if run.has(LAST) and not run.log.path.exists():
            problem = f"there is no {run.log.path}"
        offsets: dict[int, int] = {}
        lengths: dict[int, int] = {}
        for line in lines:
            lengths[line.stage] = max(lengths.get(line.stage, 0), line.step)
        passed = 0
        for stage in sorted(lengths):
            offsets[stage], passed = passed, passed + lengths[stage]
        return cls(lines, problem, offsets)

    @property
    def steps(self) -> list[Step]:
        return [line for line in self.lines if isinstance(line, Step)]

    @property
    def seconds(self) -> float:
        """What the steps took, evaluations not counted."""
        return sum(step.seconds for step in self.steps)

    @property
    def evaluations(self) -> list[Evaluation]:
        return [line for line in self.lines if isinstance(line, Evaluation)]

    @property
    def notes(self) -> list[Note]:
        return [line for line in self.lines if isinstance(line, Note)]

    def looks(self, observer: str) -> list[Look]:
        """What an observer of this name saw."""
        return [line for line in self.lines if isinstance(line, Look) and line.observer == observer]

    def at(self, line: Line) -> int:
        """The step of a line, counted on through the stages."""
        return self.offsets[line.stage] + line.step

    @property
    def rate(self) -> list[Point]:
        return [Point(self.at(line), line.lr) for line in self.steps]

    @property
    def gradient_norm(self) -> list[Point]:
        return [Point(self.at(line), line.gradient_norm) for line in self.steps]

    def terms(self, task: str) -> dict[str, list[Point]]:
        """Each term of a task's objective, its loss first."""
        found: dict[str, list[Point]] = {}
        for line in self.steps:
            for term, value in line.terms.get(task, {}).items():
                found.setdefault(term, []).append(Point(self.at(line), value))
        return found

    def metric(self, task: str) -> list[Point]:
        """A task's main metric at each evaluation."""
        return [
            Point(self.at(line), next(iter(line.tasks[task].values())))
            for line in self.evaluations
            if line.tasks.get(task)
        ]

    @property
    def overall(self) -> list[Point]:
        return [Point(self.at(line), line.overall) for line in self.evaluations]
