"""Runs the rows of the reports that are missing, by the engine that compares recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert.comparison.budget import Budget, within
from mtbert.comparison.declare import training_rows
from mtbert.comparison.execution import Told, run_missing, tidy
from mtbert.comparison.methods import Content, Method, content_of
from mtbert.comparison.plan import PlannedRun
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reproduction.rows import Row
from mtbert.reproduction.sized import share_of_rows, with_share
from mtbert.runs.listener import Listener
from mtbert.runs.lock import LOCK, in_turn
from mtbert.runs.writing import write_whole

ASKED = "reproduction.json"
SEED = 11711  # of the course's starter code
APART = 100  # between seeds: stage i of a run draws from its seed + i


@dataclass(frozen=True)
class RowRun(PlannedRun):
    """One run of a row. Like a trial it is judged by dev alone, whose scores the reports print."""

    @property
    def name(self) -> str:
        return f"{self.method.folder}-seed-{self.block}" + (f"-{self.part}" if len(self._parts) > 1 else "")

    @property
    def is_trial(self) -> bool:
        return True

    @property
    def seed(self) -> int:
        return SEED + APART * (self.block - 1)

    @property
    def content(self) -> Content:
        return {**self._parts[self.part], "seed": self.seed}

    @property
    def _parts(self) -> Mapping[str, Content]:
        return self.method.candidates[self.candidate]


@dataclass(frozen=True)
class PlannedRow:
    """A row and its runs: seeds x models."""

    row: Row
    runs: Sequence[RowRun]
    share: float  # of the training rows: less than 1 where the budget is less than an epoch of all


@dataclass(frozen=True)
class Asked:
    """On what, and how long, rows are to run."""

    recipes: Path
    data: Path | None
    encoder: str | None  # None for the recipes' own
    budget: Budget
    seeds: int

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise Mistake(f"--seeds {self.seeds}: a row has at least one")
        if self.budget.currency == "seconds" or (self.budget.amount is None and self.budget.currency != "as written"):
            raise Mistake(f"--budget {self.budget}: give full, quick, examples=M or steps=M")

    def plan(self, row: Row) -> PlannedRow:
        """What a row will run; raises Mistake where a recipe cannot be read, or the budget is too small for it."""
        sized = {part: self._sized(path) for part, path in row.files(self.recipes).items()}
        method = Method(row.name, {row.name: {part: content for part, (content, _) in sized.items()}})
        seeds = range(1, self.seeds + 1)
        runs = [RowRun(method, row.name, part, seed, {}, seed) for seed in seeds for part in sized]
        return PlannedRow(row, runs, min(share for _, share in sized.values()))

    def declare(self, folder: Path) -> None:
        """Write into a folder what its runs are of; raises Mistake where it holds something else."""
        data = None if self.data is None else str(self.data.resolve())
        now = {"budget": str(self.budget), "encoder": self.encoder, "data": data}
        path = folder / ASKED
        if not path.exists():
            if folder.is_dir() and any(one.name != LOCK for one in folder.iterdir()):
                raise Mistake(f"{folder} is not empty and holds no rows of reports; name another folder with --out")
            write_whole(path, json.dumps(now, indent=2) + "\n")
        before = json.loads(path.read_text(encoding="utf-8"))
        for key, value in now.items():
            if before.get(key) != value:
                raise Mistake(
                    f"{folder} holds rows of another {key}: {before.get(key)}, not {value}; name another with --out"
                )

    def _sized(self, path: Path) -> tuple[Content, float]:
        """A recipe within the budget, as its file would hold it, and the share of the training rows that it reads."""
        recipe = read_recipe(path, [] if self.encoder is None else [f"encoder.name={self.encoder}"], self.data)
        content, rows = content_of(recipe), training_rows(recipe)
        share = share_of_rows(content, rows, self.budget, str(path))
        return within(with_share(content, rows, share), rows, self.budget, str(path)), share


def reproduce(asked: Asked, planned: Sequence[PlannedRow], folder: Path, listener: Listener, told: Told) -> str | None:
    """Run what is missing, seed after seed, so that every row is there early.

    The reason where the listener asked to stop before all was done, else None.
    """
    with in_turn(folder):  # several processes may begin at once
        asked.declare(folder)
    runs = sorted((run for row in planned for run in row.runs), key=lambda run: run.block)
    reason = run_missing(runs, folder, listener, told)
    tidy(runs, folder)
    return reason
