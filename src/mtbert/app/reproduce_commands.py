"""The command that repeats the five reports. Nothing heavy is imported before it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtbert.app.campaign import carry_out, command_line, show
from mtbert.app.options import AsJson, DataFolder, Quiet

if TYPE_CHECKING:
    from mtbert.reproduction.outlook import Prospect

Encoder = Annotated[
    str | None, typer.Option("--encoder", help="In place of the recipes': google-bert/bert-base-uncased.")
]
Recipes = Annotated[
    Path | None,
    typer.Option("--recipes", help="A folder with recipes of the rows, in place of those that mtbert brings."),
]


def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[REPORT[/ROW]]...", help="Such as R2 or R1/split1_10ep; all of them.")
    ] = None,
    data: DataFolder = None,
    encoder: Encoder = None,
    budget: Annotated[
        str, typer.Option("--budget", help="full: as the reports; quick: 19,200 examples a run; examples=M; steps=M.")
    ] = "full",
    seeds: Annotated[int, typer.Option("--seeds", help="How often each row runs.")] = 1,
    recipes: Recipes = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the rows' runs.")] = Path("runs/reproduce"),
    list_rows: Annotated[bool, typer.Option("--list", help="Show the rows, their recipes, and what is done.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show the runs and how long each is, and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """The rows of the five reports, run here: the report's number, ours, the difference, time and parameters.

    What is done is not done again: the same command goes on where it was cut off, and several may share a folder.
    """
    from mtbert.comparison.budget import Budget
    from mtbert.reproduction.outlook import Listing, Outlook
    from mtbert.reproduction.reproduce import Asked
    from mtbert.reproduction.reproduce import reproduce as run
    from mtbert.reproduction.rows import chosen, shipped
    from mtbert.reproduction.table import Reproduction

    rows = chosen(names or [])
    asked = Asked(recipes or shipped(), data, encoder, Budget.parse(budget), seeds)
    if list_rows or plan:
        foreseen = Listing.of(rows, asked.recipes, out) if list_rows else Outlook.of(asked, rows, out, _foretell(quiet))
        show(foreseen, as_json)
        return
    planned = [asked.plan(row) for row in rows]

    def found() -> tuple[Reproduction, list[Path]]:
        table = Reproduction.of(str(asked.budget), [command_line()], planned, out)
        return table, table.write(out)

    carry_out(lambda listener, told: run(asked, planned, out, listener, told), found, out, quiet=quiet, as_json=as_json)


def orderings(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDERING]...", help="Such as pals_top; all of them.")
    ] = None,
    data: DataFolder = None,
    encoder: Encoder = None,
    budget: Annotated[
        str,
        typer.Option("--budget", help="Of every run: quick (19,200 examples), examples=M, steps=M, seconds=M, full."),
    ] = "quick",
    seeds: Annotated[int, typer.Option("--seeds", help="Of every method. Six are the fewest for a verdict.")] = 6,
    recipes: Recipes = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the comparisons, one a report.")] = Path(
        "runs/orderings"
    ),
    list_claims: Annotated[bool, typer.Option("--list", help="Show the claims and what they compare.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """What the five reports claim of the order of their methods: each holds, does not hold, or cannot be told.

    Every claim is a comparison at equal budget over several seeds. What is done is not done again.
    """
    from mtbert.comparison.budget import Budget
    from mtbert.reproduction.orderings import Claims, Orderings, plans
    from mtbert.reproduction.orderings import orderings as claimed
    from mtbert.reproduction.orderings import run as run_plans
    from mtbert.reproduction.rows import shipped

    claims = claimed(names or [])
    if list_claims:
        show(Claims(claims), as_json)
        return
    declared = plans(claims, recipes or shipped(), data, encoder, Budget.parse(budget), seeds, out)

    def found() -> tuple[Orderings, list[Path]]:
        table = Orderings.of(claims, declared, out, command_line())
        return table, table.write(out)

    carry_out(
        lambda listener, told: run_plans(declared, out, command_line(), listener, told),
        found,
        out,
        quiet=quiet,
        as_json=as_json,
    )


def _foretell(quiet: bool) -> Callable[[Prospect], None]:
    """Say of each row what it will take: a few steps of sixty rows take minutes."""
    return lambda one: None if quiet else typer.echo(f"{one.row}: {one.minutes:.1f} minutes a seed", err=True)
