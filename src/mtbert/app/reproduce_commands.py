"""The command that repeats the five reports. Nothing heavy is imported before it runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtbert.app.options import AsJson, DataFolder, Quiet
from mtbert.app.output import print_json


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[REPORT[/ROW]]...", help="Such as R2 or R1/split1_10ep; all of them.")
    ] = None,
    data: DataFolder = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="In place of the recipes': google-bert/bert-base-uncased.")
    ] = None,
    budget: Annotated[
        str, typer.Option("--budget", help="full: as the reports; quick: 19,200 examples a run; examples=M; steps=M.")
    ] = "full",
    seeds: Annotated[int, typer.Option("--seeds", help="How often each row runs.")] = 1,
    recipes: Annotated[Path, typer.Option("--recipes", help="The folder of the rows' recipes.")] = Path(
        "recipes/reports"
    ),
    out: Annotated[Path, typer.Option("--out", help="The folder of the rows' runs.")] = Path("runs/reproduce"),
    list_rows: Annotated[bool, typer.Option("--list", help="Show the rows, their recipes, and what is done.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the runs and how long each is, and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The rows of the five reports, run here: the report's number, ours, the difference, time and parameters.

    What is done is not done again: the same command goes on where it was cut off, and several may share a folder.
    """
    from mtbert.app.compare_commands import tell
    from mtbert.app.console import OUTPUT
    from mtbert.app.progress import TrainingProgress
    from mtbert.app.signals import Signals
    from mtbert.comparison.budget import Budget
    from mtbert.process import reuse_freed_memory
    from mtbert.reproduction.outlook import Listing, Outlook
    from mtbert.reproduction.reproduce import Asked
    from mtbert.reproduction.reproduce import reproduce as run
    from mtbert.reproduction.rows import chosen
    from mtbert.reproduction.table import Reproduction
    from mtbert.runs.listener import Listeners

    rows = chosen(names or [])
    asked = Asked(recipes, data, encoder, Budget.parse(budget), seeds)
    if list_rows or plan:
        report = Listing.of(rows, recipes, out) if list_rows else Outlook.of(asked, rows, out)
        if as_json:
            print_json(report.as_dict())
        else:
            OUTPUT.print(report)
        return
    planned = [asked.plan(row) for row in rows]
    command = shlex.join(["mtbert", *sys.argv[1:]])
    reuse_freed_memory()
    progress = [] if quiet else [TrainingProgress()]
    try:
        with Signals() as signals:
            reason = run(asked, planned, out, Listeners([*progress, signals]), lambda one: tell(one, quiet))
    finally:
        for shown in progress:
            shown.close()
    table = Reproduction.of(str(asked.budget), [command], planned, out)
    files = table.write(out)
    if as_json:
        print_json(table.as_dict())
    else:
        OUTPUT.print(table)
        for path in files:
            typer.echo(path)
    if reason is not None:
        typer.echo(f"stopped by {reason}; what is done is kept in {out}; go on with: {command}", err=True)
        raise typer.Exit(signals.exit_code)
