"""The table of what the reports print beside what came of their recipes here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from rich.console import RenderableType

from mtbert.comparison.contrasts import OVERALL
from mtbert.comparison.measured import Measured, Metrics, read_measured
from mtbert.comparison.outcomes import overall
from mtbert.comparison.statistics.intervals import Interval, t_interval
from mtbert.comparison.written import csv_text, markdown
from mtbert.recipe.reading import read_recipe
from mtbert.reports.base import Report, grid, plain
from mtbert.reproduction.reproduce import PlannedRow
from mtbert.runs.writing import write_whole

TEST = "test files have no labels here: what a report prints of test stands beside an empty cell"


@dataclass(frozen=True)
class Cell:
    """One number of a report, and ours. What is empty in the report is None, and so is what has not been run."""

    row: str
    split: str
    measure: str
    report: float | None
    ours: float | None  # the mean over seeds
    interval: Interval | None  # over new seeds on these very rows; none for one seed
    n: int

    @property
    def difference(self) -> float | None:
        return None if self.report is None or self.ours is None else self.ours - self.report


@dataclass(frozen=True)
class Cost:
    """What a row costs: a mean over its seeds, all its models together."""

    row: str
    title: str
    table: str
    done: int
    planned: int  # runs
    examples: float | None
    steps: float | None
    seconds: float | None
    parameters: float | None
    report_seconds: float | None  # an epoch, on the report's machine
    share: float  # of the training rows that the row uses
    failures: list[str]

    @classmethod
    def of(cls, planned: PlannedRow, found: Sequence[Measured]) -> Self:
        row, seeds = planned.row, len({one.seed for one in found})

        def a_seed(cost: str) -> float | None:
            return sum(float(getattr(one, cost)) for one in found) / seeds if seeds else None

        return cls(
            row.name,
            row.title,
            row.table,
            len(found),
            len(planned.runs),
            examples=a_seed("examples"),
            steps=a_seed("steps"),
            seconds=a_seed("wall_seconds"),
            parameters=a_seed("parameters"),
            report_seconds=row.seconds,
            share=planned.share,
            failures=[f"{one.run}: {one.failure}" for one in found if one.failure],
        )


@dataclass(frozen=True)
class Reproduction(Report):
    """Every row asked for, cell by cell, and what it cost."""

    budget: str
    commands: list[str]
    cells: list[Cell]
    costs: list[Cost]

    @classmethod
    def of(cls, budget: str, commands: Sequence[str], planned: Sequence[PlannedRow], folder: Path) -> Self:
        """What the results in a folder say."""
        cells, costs = [], []
        for row in planned:
            found = [one for one in (read_measured(folder, run.name) for run in row.runs) if one is not None]
            cells += _cells(row, found)
            costs.append(Cost.of(row, found))
        return cls(budget, list(commands), cells, costs)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"cells": [asdict(cell) | {"difference": cell.difference} for cell in self.cells]}

    def shown(self) -> Iterable[RenderableType]:
        for head, rows in (self.scores(), self.spent()):
            yield grid(head[0], head[1:], [row[0] for row in rows], [row[1:] for row in rows])
            yield plain("")
        yield from map(plain, self.words())

    def scores(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table of scores."""
        head = ["row", "split", "measure", "report", "ours", "95 % interval", "n", "difference"]
        return head, [
            [
                cell.row,
                cell.split,
                cell.measure,
                _number(cell.report, "z.3f"),
                _number(cell.ours, "z.4f"),
                "" if cell.interval is None else f"{cell.interval.low:z.4f} to {cell.interval.high:z.4f}",
                str(cell.n or ""),
                _number(cell.difference, "+z.4f"),
            ]
            for cell in self.cells
        ]

    def spent(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table of costs."""
        head = [
            "row",
            "in the report",
            "runs",
            "examples",
            "steps",
            "seconds",
            "parameters",
            "report: seconds an epoch",
        ]
        return head, [
            [
                cost.row,
                f"{cost.title}, {cost.table}",
                f"{cost.done} of {cost.planned}",
                *(_number(one, ",.0f") for one in (cost.examples, cost.steps, cost.seconds, cost.parameters)),
                _number(cost.report_seconds, ",.0f"),
            ]
            for cost in self.costs
        ]

    def words(self) -> list[str]:
        """What stands below the tables."""
        return [
            f"budget: {self.budget}",
            "ours are dev scores of the kept model, means over n seeds; intervals are over new seeds alone",
            *([TEST] if any(cell.split == "test" for cell in self.cells) else []),
            *(
                f"{cost.row}: tasks come one after the other: the budget is an epoch over {cost.share:.0%} of the rows"
                for cost in self.costs
                if cost.share < 1
            ),
            *(f"failed: {failure}" for cost in self.costs for failure in cost.failures),
            *(f"made by: {command}" for command in self.commands),
        ]

    def write(self, folder: Path) -> list[Path]:
        """table.md, table.csv, costs.csv and result.json; their paths."""
        (head, rows), (spent_head, spent) = self.scores(), self.spent()
        files = {
            "table.md": "\n\n".join(
                [
                    markdown([head, *rows]),
                    markdown([spent_head, *spent]),
                    "\n".join(f"- {line}" for line in self.words()),
                ]
            )
            + "\n",
            "table.csv": csv_text([head, *rows]),
            "costs.csv": csv_text([spent_head, *spent]),
            "result.json": json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n",
        }
        for name, content in files.items():
            write_whole(folder / name, content)
        return [folder / name for name in files]


def _cells(planned: PlannedRow, found: Sequence[Measured]) -> list[Cell]:
    """The measures of a row: those that its report prints or its runs have, `overall` last; then those of test."""
    recipes = [read_recipe(run.content) for run in planned.runs if run.block == 1]
    tasks = {name: task for recipe in recipes for name, task in recipe.tasks.items()}
    scores: list[dict[str, float]] = []
    for seed in dict.fromkeys(run.seed for run in planned.runs):
        metrics: Metrics = {task: of for one in found if one.seed == seed for task, of in one.selected.items()}
        if metrics.keys() == tasks.keys():
            main = {task: tasks[task].score(metrics[task]) for task in tasks}
            scores.append(main | {OVERALL: overall(tasks, metrics)})
    cells = []
    for measure in [*tasks, OVERALL]:
        ours = np.array([of[measure] for of in scores])
        printed = planned.row.dev.get(measure)
        mean, interval = (float(ours.mean()), t_interval(ours)) if len(ours) else (None, None)
        cells.append(Cell(planned.row.name, "dev", measure, printed, mean, interval, len(ours)))
    tested = [Cell(planned.row.name, "test", name, value, None, None, 0) for name, value in planned.row.test.items()]
    return cells + tested


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
