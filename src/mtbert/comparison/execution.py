"""Runs what a plan lacks. Several processes may work in one folder, and any of them may be cut off at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mtbert.comparison.measured import Measured, Stopwatch, measure, read_measured
from mtbert.comparison.plan import PlannedRun
from mtbert.recipe.reading import read_recipe
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener, Listeners
from mtbert.runs.lock import UnderWay, locked
from mtbert.runs.train import train_recipe
from mtbert.training.trainer import Unstable

WAIT = 1.0  # seconds between two looks at what other processes have done

Told = Callable[[Measured], None]


def run_missing(planned: Sequence[PlannedRun], folder: Path, listener: Listener, told: Told) -> str | None:
    """Run all that has no result yet, in order, and wait for what other processes have claimed.

    A run that was cut off goes on from its last checkpoint; one that has a result is never run again. `told` hears of
    every result that this process made. The reason where the listener asked to stop earlier, else None.
    """
    while missing := [one for one in planned if read_measured(folder, one.name) is None]:
        worked = False
        for one in missing:
            reason = listener.reason_to_stop()
            if reason is not None:
                return reason
            with claimed(folder, one.name) as ours:
                if not ours or read_measured(folder, one.name) is not None:
                    continue
                worked = True
                reason = _run(one, folder, listener, told)
                if reason is not None:
                    return reason
        if not worked:
            time.sleep(WAIT)
    return None


def run_folder(folder: Path, name: str) -> Path:
    """Where a run of a comparison is."""
    return folder / "runs" / name


@contextmanager
def claimed(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process may work on a run. However the process ends, the system takes the claim back."""
    claim = folder / "claims" / name
    with ExitStack() as held:
        try:
            held.enter_context(locked(claim))
        except UnderWay:
            yield False
        else:
            yield True


def _run(planned: PlannedRun, folder: Path, listener: Listener, told: Told) -> str | None:
    run = Run(run_folder(folder, planned.name))
    recipe = read_recipe(planned.content)
    stopwatch = Stopwatch(run)
    failure = None
    try:
        train_recipe(recipe, run, resume=True, listener=Listeners([listener, stopwatch]))
    except Unstable as found:
        failure = str(found)
    if failure is None and run.stopped is not None:
        stopwatch.save()
        return run.stopped
    told(measure(planned, recipe, run, stopwatch, failure, folder))
    return None


def tidy(planned: Sequence[PlannedRun], folder: Path) -> None:
    """Remove the weights that a kill has left behind a result."""
    for one in planned:
        with claimed(folder, one.name) as ours:
            if ours and read_measured(folder, one.name) is not None:
                Run(run_folder(folder, one.name)).remove_weights()
