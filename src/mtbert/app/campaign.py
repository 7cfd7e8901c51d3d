"""Many runs under one command: their progress, what they came to, and how to go on where the command was cut off."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mtbert.app.output import print_json

if TYPE_CHECKING:
    from mtbert.comparison.execution import Told
    from mtbert.comparison.measured import Measured
    from mtbert.reports.base import Report
    from mtbert.runs.listener import Listener


def command_line() -> str:
    """The command that was given, as a shell reads it."""
    return shlex.join(["mtbert", *sys.argv[1:]])


def show(report: Report, as_json: bool) -> None:
    """For a person, or for a program."""
    from mtbert.app.console import OUTPUT

    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)


def carry_out(
    run: Callable[[Listener, Told], str | None],
    found: Callable[[], tuple[Report, list[Path]] | None],
    out: Path,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run what is missing, then show what was found and where it is written.

    `run` gives the reason where it was asked to stop before all was done: the command then ends as a shell expects of a
    signal, after saying how to go on.
    """
    from mtbert.app.progress import TrainingProgress
    from mtbert.app.signals import Signals
    from mtbert.process import reuse_freed_memory
    from mtbert.runs.listener import Listeners
    from mtbert.runs.lock import in_turn

    reuse_freed_memory()
    progress = [] if quiet else [TrainingProgress()]
    try:
        with Signals() as signals:
            reason = run(Listeners([*progress, signals]), lambda one: _tell(one, quiet))
    finally:
        for shown in progress:
            shown.close()
    with in_turn(out):  # several processes may end at once
        results = found()
    if results is not None:
        report, files = results
        show(report, as_json)
        for path in [] if as_json else files:
            typer.echo(path)
    if reason is not None:
        typer.echo(f"stopped by {reason}; what is done is kept in {out}; go on with: {command_line()}", err=True)
        raise typer.Exit(signals.exit_code)


def _tell(measured: Measured, quiet: bool) -> None:
    """Say what a run came to, in a line."""
    if quiet:
        return
    scores = measured.reported or measured.selected
    said = "  ".join(f"{task} {next(iter(metrics.values())):z.4f}" for task, metrics in scores.items())
    typer.echo(f"{measured.run}: {said}  ({measured.wall_seconds:.0f} s)", err=True)
