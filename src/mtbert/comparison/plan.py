"""What a comparison will run: methods x blocks, each run with a name and a recipe, all of it fixed before any runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtbert.comparison.methods import WHOLE, Content, Method
from mtbert.comparison.splits import Splits, with_splits
from mtbert.errors import Mistake
from mtbert.runs.lock import LOCK
from mtbert.runs.writing import write_whole

PLAN = "plan.json"
FORMAT = 1
APART = 100  # between the seeds of two blocks: stage i of a run draws from its seed + i
OTHER = 50  # beside them: the seeds of an A/A check
TRIAL = 0  # the block in which candidates are tried


def seed_of(block: int, other: bool = False) -> int:
    """The seed that fixes all chance in a block: heads, data order, draws of tasks, dropout."""
    return block * APART + (OTHER if other else 0)


@dataclass(frozen=True)
class PlannedRun:
    """One run: a recipe, the block whose seed it has, and its place in the table."""

    method: Method
    candidate: str
    part: str
    block: int
    splits: Mapping[str, Splits]
    drawn: int  # which seed it has: the number of its block, where there are no folds

    @property
    def name(self) -> str:
        """The name of its folder."""
        number = list(self.method.candidates).index(self.candidate) + 1
        place = f"trial-{number}" if self.is_trial else f"block-{self.block}"
        return f"{self.method.folder}-{place}" + ("" if self.part == WHOLE else f"-{self.part}")

    @property
    def said(self) -> str:
        """The run as a person would name it."""
        part = "" if self.part == WHOLE else f", {self.part}"
        return f"{self.method.name}{part}, " + (f"trial '{self.candidate}'" if self.is_trial else f"block {self.block}")

    @property
    def is_trial(self) -> bool:
        """Whether it only serves to choose a candidate: then no reporting row is read."""
        return self.block == TRIAL

    @property
    def seed(self) -> int:
        return seed_of(self.drawn, self.method.other_seeds)

    @property
    def content(self) -> Content:
        """The recipe that it trains."""
        recipe = with_splits(self.method.candidates[self.candidate][self.part], self.splits)
        return {**recipe, "seed": self.seed}


@dataclass(frozen=True)
class Plan:
    """A comparison, declared: the first method is the one that all others are compared with.

    With folds a block is a fold with a seed: first all folds with the first seed, then with the next.
    """

    methods: Sequence[Method]
    blocks: int
    splits: Mapping[str, Splits]
    margin: float  # a difference of `overall` that would not matter
    asked: Mapping[str, Any]  # what the caller declared, as the plan's file holds it
    folds: Sequence[Mapping[str, Splits]] = ()

    @property
    def by_fold(self) -> Sequence[Mapping[str, Splits]]:
        """Task -> its splits, in each fold; where there are no folds, those of all blocks."""
        return self.folds or [self.splits]

    @property
    def tuned(self) -> bool:
        """Whether learning rates were tried; a single one is the same for all, and chosen by nobody."""
        return len(self.asked["rates"]) > 1

    def fold(self, block: int) -> int:
        """The number of a block's fold in `by_fold`."""
        return (block - 1) % len(self.by_fold)

    def trials(self) -> list[PlannedRun]:
        """The runs that choose between candidates; an A/A check takes what the first method chose."""
        return [
            PlannedRun(method, candidate, part, TRIAL, self.splits, TRIAL)
            for method in self.methods
            if len(method.candidates) > 1 and not method.other_seeds
            for candidate, parts in method.candidates.items()
            for part in parts
        ]

    def runs(self, chosen: Mapping[str, str]) -> list[PlannedRun]:
        """The runs of the table, block after block, so that a part of them has whole blocks; method -> candidate."""
        return [
            PlannedRun(
                method,
                chosen[method.name],
                part,
                block,
                self.by_fold[self.fold(block)],
                (block - 1) // len(self.by_fold) + 1,
            )
            for block in range(1, self.blocks + 1)
            for method in self.methods
            for part in method.candidates[chosen[method.name]]
        ]

    def declare(self, folder: Path) -> None:
        """Write the plan into its folder, or make sure that the folder holds this very one.

        Raises Mistake where it holds another comparison, or something else.
        """
        path, asked = folder / PLAN, {"format": FORMAT, **self.asked}
        if path.exists():
            _check_same(json.loads(path.read_text(encoding="utf-8")), asked, folder)
            return
        there = [one.name for one in folder.iterdir()] if folder.is_dir() else []
        strangers = sorted(set(there) - {"dev", LOCK})
        if strangers:
            raise Mistake(
                f"{folder} is not empty and holds no comparison (it holds {', '.join(strangers[:3])}); "
                "name another folder with --out"
            )
        write_whole(path, json.dumps(asked, indent=2, ensure_ascii=False) + "\n")


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What was declared in a folder, or None where nothing was."""
    path = folder / PLAN
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    found = _first_difference(dict(before), json.loads(json.dumps(now)))
    if found is not None:
        raise Mistake(
            f"{folder} holds another comparison ({found}); what is compared, and over how many seeds, is declared "
            "before anything runs: name another folder with --out"
        )


def _first_difference(then: Any, now: Any, *place: str) -> str | None:
    """Where two declarations differ first, and what stands there in each; None where they are the same."""
    if then == now:
        return None
    where = ", ".join(place)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        then, now = ({str(number): one for number, one in enumerate(some)} for some in (then, now))
    if not isinstance(then, dict) or not isinstance(now, dict):
        return f"{where}: then {_short(then)}, now {_short(now)}"
    if alone := [key for key in {**then, **now} if key not in then or key not in now]:
        return f"{', '.join((*place, alone[0]))}: in one of them only"
    return next(found for key in then if (found := _first_difference(then[key], now[key], *place, key)) is not None)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
