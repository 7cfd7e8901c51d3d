"""What a plan would run, how long that takes and what it can see: all that `--plan` says, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import RenderableType

from mtbert.comparison.declare import experiment_of
from mtbert.comparison.measured import Measured, read_measured
from mtbert.comparison.outcomes import overall
from mtbert.comparison.plan import Plan, PlannedRun
from mtbert.comparison.statistics.power import (
    USUAL_SPREAD,
    blocks_needed,
    fewest_for_a_verdict,
    smallest_seen,
)
from mtbert.comparison.statistics.verdict import FEWEST
from mtbert.data.kinds.base import Task
from mtbert.reports.base import Report, grid, plain
from mtbert.reports.check import costs

WORTH_SEEING = (0.01, 0.006, 0.004, 0.003)


@dataclass(frozen=True)
class Prospect:
    """The runs of one method."""

    method: str
    trials: int
    runs: int
    done: int
    minutes_a_run: float
    measured: str  # whether by runs that are there or by a few steps


@dataclass(frozen=True)
class Outlook(Report):
    """Runs, hours and power of a plan."""

    budget: str
    prospects: list[Prospect]
    hours: float  # of one process, for what is not done yet
    power: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        head = ["trials", "runs", "done", "minutes a run", "by"]
        cells = [[p.trials, p.runs, p.done, f"{p.minutes_a_run:.1f}", p.measured] for p in self.prospects]
        yield grid("method", head, [p.method for p in self.prospects], cells)
        yield plain(f"budget: {self.budget}")
        yield plain(f"about {self.hours:.1f} hours of one process for what is not done yet")
        yield from map(plain, self.power)


def power_in_words(blocks: int, methods: int, tasks: int, spread: float | None = None, folds: int = 0) -> list[str]:
    """What so many blocks can see; `spread` is the standard deviation of `overall` from run to run, if it is known."""
    by_folds = (
        [f"each of {blocks} blocks, {folds} folds x {blocks // folds} seeds, counts as a seed here"] if folds else []
    )
    known = f"{spread:z.4f}, as measured here" if spread else f"{USUAL_SPREAD:g}, the usual one"
    spread = spread or USUAL_SPREAD
    seen = smallest_seen(blocks, spread)
    others = ", ".join(f"{size:g} needs {blocks_needed(size, spread)}" for size in WORTH_SEEING)
    said = [
        f"with {blocks} seeds this design sees differences of overall from {seen:z.3f} (standard deviation of a run "
        f"{known}; 80 %, alpha 0.05); {others}"
        if seen is not None
        else f"one seed sees no difference between methods; {others}"
    ]
    if blocks < FEWEST:
        said.append(f"below {FEWEST} seeds every verdict is 'cannot be told': no test over seeds can reach p < 0.05")
    for family, words in ((methods, "overall"), (methods * tasks, "single tasks")):
        if FEWEST <= blocks < fewest_for_a_verdict(family):
            said.append(
                f"with {family} tests no verdict of better or worse on {words} is possible below "
                f"{fewest_for_a_verdict(family)} seeds (Holm)"
            )
    return by_folds + said


def outlook(plan: Plan, tasks: Mapping[str, Task], folder: Path) -> Outlook:
    """What the plan would run. Where no run of a method is there, a few of its steps are timed."""
    trials = plan.trials()
    runs = plan.runs({method.name: next(iter(method.candidates)) for method in plan.methods})
    prospects, hours = [], 0.0
    for method in plan.methods:
        mine = [one for one in (*trials, *runs) if one.method is method]
        done = [found for one in mine if (found := read_measured(folder, one.name)) is not None]
        minutes = _minutes(mine, done, len(plan.folds))
        hours += minutes * (len(mine) - len(done)) / 60
        tried = sum(one.is_trial for one in mine)
        how = "runs that are there" if done else "a few steps"
        prospects.append(Prospect(method.name, tried, len(mine) - tried, len(done), minutes, how))
    compared = sum(not method.other_seeds for method in plan.methods[1:])
    spread = _spread(plan, runs, tasks, folder)
    power = power_in_words(plan.blocks, compared, len(tasks), spread, len(plan.folds))
    return Outlook(plan.asked["budget"], prospects, hours, power)


def _minutes(planned: list[PlannedRun], done: list[Measured], folds: int) -> float:
    """Of a run, on the mean over its parts."""
    if done:
        return fmean(found.wall_seconds for found in done) / 60
    parts = {one.part: one.method.candidates[one.candidate][one.part] for one in planned}
    return fmean(
        sum(stage.minutes for stage in costs(experiment_of(planned[0].method.name, content, folds)))
        for content in parts.values()
    )


def _spread(plan: Plan, runs: list[PlannedRun], tasks: Mapping[str, Task], folder: Path) -> float | None:
    """The standard deviation of `overall` over the blocks of the first method that are done, from three on."""
    mine = [read_measured(folder, one.name) for one in runs if one.method is plan.methods[0]]
    scores = [overall(tasks, found.reported) for found in mine if found is not None]
    return stdev(scores) if len(scores) >= 3 else None
