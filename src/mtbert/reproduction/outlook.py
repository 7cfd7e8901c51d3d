"""What there is to repeat, and what repeating it would run: nothing is trained and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import RenderableType

from mtbert.comparison.budget import lengths, spent
from mtbert.comparison.declare import training_rows
from mtbert.comparison.measured import read_measured
from mtbert.comparison.methods import Method
from mtbert.recipe.reading import read_recipe
from mtbert.reports.base import Report, grid, plain
from mtbert.reports.check import costs
from mtbert.reproduction.reproduce import Asked, PlannedRow
from mtbert.reproduction.rows import Row
from mtbert.runs.build import build


@dataclass(frozen=True)
class Listed:
    """A row, where it comes from, and how many of its runs are in the folder."""

    row: str
    title: str
    table: str
    recipes: list[str]
    done: int


@dataclass(frozen=True)
class Listing(Report):
    """All rows that can be asked for."""

    rows: list[Listed]

    @classmethod
    def of(cls, rows: Sequence[Row], recipes: Path, folder: Path) -> Self:
        """The rows, and what the folder holds of them."""
        return cls(
            [
                Listed(
                    row.name,
                    row.title,
                    row.table,
                    [f"{path.parent.name}/{path.name}" for path in row.files(recipes).values()],
                    done,
                )
                for row in rows
                for done in [len(list((folder / "measured").glob(f"{Method(row.name, {}).folder}-seed-*.json")))]
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        cells = [[one.title, one.table, " ".join(one.recipes), str(one.done)] for one in self.rows]
        yield grid("row", ["in the report", "table", "recipe", "runs done"], [one.row for one in self.rows], cells)


@dataclass(frozen=True)
class Prospect:
    """The runs of a row."""

    row: str
    runs: int
    done: int
    steps: int  # a seed, all its models together
    examples: float
    minutes: float
    measured: str  # whether by runs that are there or by a few steps

    @classmethod
    def of(cls, planned: PlannedRow, folder: Path) -> Self:
        found = [one for one in (read_measured(folder, run.name) for run in planned.runs) if one is not None]
        recipes = [read_recipe(run.content) for run in planned.runs if run.block == 1]
        stages = [length for recipe in recipes for length in lengths(recipe, training_rows(recipe))]
        if found:
            minutes = sum(one.wall_seconds for one in found) / len(found) * len(recipes) / 60
        else:
            minutes = sum(stage.minutes for recipe in recipes for stage in costs(build(recipe)))
        return cls(
            planned.row.name,
            len(planned.runs),
            len(found),
            int(spent(stages, "steps")),
            spent(stages, "examples"),
            minutes,
            "its runs" if found else "a few steps",
        )


@dataclass(frozen=True)
class Outlook(Report):
    """What is to run, and for how long."""

    budget: str
    seeds: int
    prospects: list[Prospect]

    @classmethod
    def of(cls, asked: Asked, rows: Sequence[Row], folder: Path, told: Callable[[Prospect], None]) -> Self:
        """By the runs that the folder holds, or by a few steps of each row; `told` hears of each as it is known."""
        prospects = []
        for row in rows:
            prospects.append(Prospect.of(asked.plan(row), folder))
            told(prospects[-1])
        return cls(str(asked.budget), asked.seeds, prospects)

    @property
    def hours(self) -> float:
        """Of one process, for what is not done yet."""
        return sum(one.minutes * self.seeds * (1 - one.done / one.runs) for one in self.prospects) / 60

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"hours": self.hours}

    def shown(self) -> Iterable[RenderableType]:
        head = ["runs", "done", "steps a seed", "examples a seed", "minutes a seed", "by"]
        cells = [
            [one.runs, one.done, f"{one.steps:,}", f"{one.examples:,.0f}", f"{one.minutes:.1f}", one.measured]
            for one in self.prospects
        ]
        yield grid("row", head, [one.row for one in self.prospects], cells)
        yield plain(f"budget: {self.budget}")
        yield plain(f"about {self.hours:.1f} hours of one process for what is not done")
