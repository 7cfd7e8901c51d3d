"""Runs of one task beside a run of several: what the same rows are worth to a model that learned nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.runs.folder import BEST, Run

MOST = 500  # folders beside a run that are looked into


class Single(NamedTuple):
    """A run of one task, scored on the same dev rows."""

    name: str  # of its folder
    metrics: Mapping[str, float]


def single_runs(run: Run, tasks: Mapping[str, Task]) -> dict[str, Single]:
    """For each task the best run of it alone in the folder that holds `run`; none for a run of one task.

    Only runs count whose dev rows are those of `run`, row by row.
    """
    best: dict[str, Single] = {}
    if len(tasks) < 2:
        return best
    here = run.folder.resolve()
    due = _dev_rows(run)
    for folder in sorted(here.parent.iterdir())[:MOST]:
        other = Run(folder)
        if folder == here or not other.exists or not other.has(BEST):
            continue
        try:
            rows = _dev_rows(other)
            if len(rows) != 1:
                continue
            ((task, content),) = rows.items()
            if task not in tasks or content is None or due.get(task) != content:
                continue
            metrics = other.scores["dev"]["tasks"][task]
        except Mistake:
            continue  # a damaged run, of which this page is not
        known = {name: value for name, value in metrics.items() if name in tasks[task].all_metrics}
        if tasks[task].main not in known:
            continue  # judged by another metric, which this run does not report
        if task not in best or tasks[task].score(known) > tasks[task].score(best[task].metrics):
            best[task] = Single(folder.name, known)
    return best


def _dev_rows(run: Run) -> dict[str, str | None]:
    """Every task of a run, and the checksum of its dev rows."""
    recorded = run.environment.get("data", {})
    return {key.rpartition(".")[0]: one["sha256"] for key, one in recorded.items() if key.endswith(".dev")}
