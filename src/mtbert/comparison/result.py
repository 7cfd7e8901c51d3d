"""What a comparison found, as far as its runs go: computed from their results, shown, and read by programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType

from mtbert.comparison.baselines import APART, CONSTANT
from mtbert.comparison.contrasts import OVERALL, Contrast
from mtbert.comparison.leakage import Leak
from mtbert.comparison.outcomes import Outcome, overall
from mtbert.comparison.pictures import draw_forest, draw_pareto
from mtbert.comparison.statistics.power import expected_best
from mtbert.comparison.statistics.verdict import Word
from mtbert.data.kinds.base import Task
from mtbert.reports.base import Report, grid, plain

COSTS = ("examples", "steps", "wall_seconds", "processor_seconds", "parameters")


@dataclass(frozen=True)
class Row:
    """One method: means over its blocks."""

    method: str
    baseline: bool
    candidate: str | None  # the one that its trials chose
    scores: dict[str, float]  # `overall`, and each task's main metric, on the reporting rows
    blocks: list[dict[str, float]]  # the same block by block
    selected: float  # `overall` of the kept model on the selecting rows
    last: float  # `overall` of the last step there
    costs: dict[str, float]  # of a run; none for the constant predictor
    failures: list[str]
    runs: list[list[str]]  # block by block, the run folders
    seeds: list[int]

    @property
    def named(self) -> str:
        """Its method, with what its trials chose."""
        return self.method if self.candidate is None else f"{self.method} ({self.candidate})"

    @classmethod
    def of(
        cls,
        method: str,
        outcomes: Sequence[Outcome],
        tasks: Mapping[str, Task],
        *,
        baseline: bool,
        candidate: str | None,
    ) -> Row:
        """The row of a method from its outcomes, block by block."""
        blocks = [_scores(tasks, one) for one in outcomes]
        return cls(
            method,
            baseline,
            candidate,
            {measure: float(np.mean([block[measure] for block in blocks])) for measure in blocks[0]},
            blocks,
            float(np.mean([overall(tasks, one.selected) for one in outcomes])),
            float(np.mean([overall(tasks, one.last) for one in outcomes])),
            {cost: float(np.mean([one.total(cost) for one in outcomes])) for cost in COSTS},
            [failure for one in outcomes for failure in one.failures],
            [[run.run for run in one.runs] for one in outcomes],
            [one.runs[0].seed for one in outcomes],
        )


class Written(NamedTuple):
    """A table in words: its head, the name of every row, and the cells behind it."""

    head: list[str]
    names: list[str]
    cells: list[list[str]]

    @property
    def lines(self) -> list[list[str]]:
        """The rows with their names, below the head."""
        return [self.head, *([name, *row] for name, row in zip(self.names, self.cells, strict=True))]


@dataclass(frozen=True)
class Comparison(Report):
    """A table of methods, how each differs from the first, and all that one needs to judge it."""

    commands: list[str]
    facts: dict[str, Any]  # version, budget, blocks, seeds, margin, where the rows come from, readings
    rows: list[Row]
    constant: dict[str, float]  # the scores of the constant predictor
    contrasts: list[Contrast]  # with the first method
    against_apart: list[Contrast]  # with one model a task, by task
    trials: dict[str, dict[str, float]]  # method -> candidate -> `overall` of its trial on the selecting rows
    leaks: list[Leak]
    cautions: list[str]
    unfinished: str | None = None
    environments: dict[str, Any] = field(default_factory=dict)

    @property
    def measures(self) -> list[str]:
        return list(self.constant)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "contrasts": [one.as_dict() for one in self.contrasts],
            "against_apart": [one.as_dict() for one in self.against_apart],
        }

    def shown(self) -> Iterable[RenderableType]:
        for table in (self.scores(), self.costs(), self.differences(), self.by_task()):
            if table.cells:
                yield grid(table.head[0], table.head[1:], table.names, table.cells)
                yield plain("")
        yield from map(plain, self.words())

    def draw(self, folder: Path) -> list[Path]:
        """A forest plot of the differences and a Pareto picture, each as PNG and SVG."""
        points = [(row.costs["processor_seconds"], row.scores[OVERALL], row.method) for row in self.rows]
        forest = draw_forest(self.contrasts, self.measures, self.rows[0].method, folder)
        return [*forest, *draw_pareto(points, folder)]

    def scores(self) -> Written:
        """On the reporting rows, beside `overall` on the rows that select checkpoints."""
        cells = [
            [*(f"{row.scores[measure]:z.4f}" for measure in self.measures), f"{row.selected:z.4f}", f"{row.last:z.4f}"]
            for row in self.rows
        ]
        cells.append([*(f"{score:z.4f}" for score in self.constant.values()), "", ""])
        head = ["method", *self.measures, "dev, kept", "dev, last step"]
        return Written(head, [*(row.named for row in self.rows), CONSTANT], cells)

    def costs(self) -> Written:
        """Of one run, on the mean over blocks."""
        head = ["method", "examples", "steps", "seconds", "processor s", "parameters", "diverged"]
        cells = [[*(f"{row.costs[cost]:,.0f}" for cost in COSTS), str(len(row.failures))] for row in self.rows]
        return Written(head, [row.named for row in self.rows], cells)

    def differences(self) -> Written:
        """By `overall`, the primary outcome."""
        head = ["overall, difference", "mean", "95 % interval", "p (Holm)", "verdict"]
        primary = [one for one in self.contrasts if one.measure == OVERALL]
        cells = [
            [f"{one.mean:+z.4f}", _interval(one.interval), f"{one.p_corrected:.3g}", str(one.verdict)]
            for one in primary
        ]
        return Written(head, [one.method for one in primary], cells)

    def by_task(self) -> Written:
        """Differences by every task, with a verdict where there is one."""
        measures = [measure for measure in self.measures if measure != OVERALL]
        found = {(one.method, one.measure): one for one in self.contrasts}
        methods = list(dict.fromkeys(one.method for one in self.contrasts))
        cells = [[_brief(found[method, measure]) for measure in measures] for method in methods]
        return Written(["difference by task", *measures], methods, cells)

    def in_full(self) -> Written:
        """All that is known of every difference."""
        head = ["difference", "by", "mean", "95 % interval", "t interval over seeds", "p", "p (Holm)", "p over rows"]
        head += ["better on a new block", "verdict", "why"]
        cells = [
            [
                one.measure,
                f"{one.mean:+z.4f}",
                _interval(one.interval),
                _interval(one.over_seeds),
                f"{one.p:.3g}",
                f"{one.p_corrected:.3g}",
                "" if one.p_rows is None else f"{one.p_rows:.3g}",
                "" if one.better_on_a_new_block is None else f"{one.better_on_a_new_block:.0%}",
                str(one.verdict),
                one.verdict.why,
            ]
            for one in self.contrasts
        ]
        return Written(head, [one.method for one in self.contrasts], cells)

    def words(self) -> list[str]:
        """What stands below the tables, a sentence a line."""
        return [
            *([f"unfinished: {self.unfinished}"] if self.unfinished else []),
            *self._about_rows(),
            *self._about_verdicts(),
            *self._about_apart(),
            *self._about_trials(),
            *(f"failed: {failure}" for row in self.rows for failure in row.failures),
            *(f"leakage: {leak}" for leak in self.leaks),
            *(f"caution: {caution}" for caution in self.cautions),
            *(f"made by: {command}" for command in self.commands),
        ]

    def _about_rows(self) -> list[str]:
        blocks, first = self.facts["blocks"], self.rows[0].method
        folds = f"{self.facts['folds']} folds x " if self.facts["folds"] else ""
        seeds = _joined(dict.fromkeys(self.rows[0].seeds))
        varies = "new seeds and new rows" if blocks > 1 else "new rows alone: there is one block"
        return [
            f"budget: {self.facts['budget']}; {blocks} blocks, {folds}seeds {seeds}",
            *(f"rows of {task}: {said}" for task, said in self.facts["rows"].items()),
            f"the reporting rows were read {self.facts['readings']:,} times, by {self._runs:,} runs",
            f"differences are with {first}; intervals are over {varies} (crossed bootstrap), "
            "t intervals over seeds alone",
        ]

    @property
    def _runs(self) -> int:
        return sum(len(block) for row in self.rows for block in row.runs)

    def _about_verdicts(self) -> list[str]:
        primary = [one for one in self.contrasts if one.measure == OVERALL]
        said = [f"{one.method}, overall: {one.verdict} ({one.verdict.why})" for one in primary]
        doubted = [
            f"{one.method}, {one.measure}: {one.verdict} on these rows; the interval over new rows holds 0"
            for one in self.contrasts
            if one.verdict.word in (Word.BETTER, Word.WORSE) and one.interval.low <= 0 <= one.interval.high
        ]
        return said + doubted

    def _about_apart(self) -> list[str]:
        said = []
        for method in dict.fromkeys(one.method for one in self.against_apart):
            mine = [one for one in self.against_apart if one.method == method and one.measure != OVERALL]
            parts = [
                f"{word} " + ", ".join(f"{one.measure} {one.mean:+z.4f} [{_interval(one.interval)}]" for one in some)
                for word, some in (
                    ("gains", [one for one in mine if one.mean > 0]),
                    ("loses", [one for one in mine if one.mean <= 0]),
                )
                if some
            ]
            said.append(f"against {APART}, {method} {'; '.join(parts)}")
        return said

    def _about_trials(self) -> list[str]:
        said = []
        for method, scores in self.trials.items():
            best = max(scores, key=lambda candidate: scores[candidate])
            reached = ", ".join(
                f"{trials}: {expected_best(list(scores.values()), trials):z.4f}" for trials in range(1, len(scores) + 1)
            )
            said.append(
                f"trials of {method} on dev: '{best}' was chosen of {len(scores)}; expected best of n {reached}"
            )
        return said


def _scores(tasks: Mapping[str, Task], one: Outcome) -> dict[str, float]:
    found = one.reported
    return {OVERALL: overall(tasks, found)} | {name: task.score(found[name]) for name, task in tasks.items()}


def _brief(one: Contrast) -> str:
    return f"{one.mean:+z.4f}" + ("" if one.verdict.word is Word.UNTOLD else f" ({one.verdict})")


def _interval(interval: Any) -> str:
    return "" if interval is None else f"{interval.low:+z.4f} to {interval.high:+z.4f}"


def _joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
