"""The command that compares recipes. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtbert.app.campaign import carry_out, command_line, show
from mtbert.app.options import AsJson, DataFolder, Quiet
from mtbert.errors import Mistake

if TYPE_CHECKING:
    from mtbert.comparison.result import Comparison

Recipes = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE... [KEY=VALUE]...",
        help="Recipes or grids, the first the one to compare with; overrides for all.",
    ),
]


def compare(
    recipes: Recipes,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Blocks: how often each recipe runs. Six are the fewest for a verdict.")
    ] = 6,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="Of every run: examples or steps of the first recipe, examples=M, steps=M, seconds=M, quick, or full.",
        ),
    ] = "examples",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines", help="Add one model a task, the uniform sum, tuned fixed weights and an A/A check."
        ),
    ] = False,
    rates: Annotated[
        str, typer.Option("--rates", metavar="LR,...", help="Try every recipe with each of these learning rates first.")
    ] = "",
    folds: Annotated[
        int,
        typer.Option(
            "--folds", metavar="K", help="Cut the training files into K folds, each of which reports once a seed."
        ),
    ] = 0,
    margin: Annotated[float, typer.Option("--margin", help="A difference that would not matter.")] = 0.01,
    data: DataFolder = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the comparison.")] = Path("runs/compare"),
    plan: Annotated[bool, typer.Option("--plan", help="Show runs, hours and power, and do nothing.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Recipes at equal budget over several seeds: a table with intervals, tests, verdicts and costs, and pictures.

    What is done is not done again: the same command goes on where it was cut off, and several may share a folder.
    """
    from mtbert.comparison.budget import Budget
    from mtbert.comparison.compare import compare as run
    from mtbert.comparison.compare import report
    from mtbert.comparison.declare import Asked, declare, first_recipe
    from mtbert.comparison.methods import read_methods
    from mtbert.comparison.outlook import outlook, power_in_words

    asked = Asked(read_methods(recipes, data), seeds, Budget.parse(budget), baselines, _rates(rates), margin, folds)
    declared = declare(asked, out)
    tasks = first_recipe(declared.methods).tasks
    if plan:
        show(outlook(declared, tasks, out), as_json)
        return
    if not quiet:
        compared = sum(not method.other_seeds for method in declared.methods[1:])
        for line in power_in_words(declared.blocks, compared, len(tasks), folds=folds):
            typer.echo(line, err=True)
    carry_out(
        lambda listener, told: run(declared, out, command_line(), listener, told),
        lambda: _with_page(report(declared, out), out),
        out,
        quiet=quiet,
        as_json=as_json,
    )


def _with_page(found: tuple[Comparison, list[Path]] | None, out: Path) -> tuple[Comparison, list[Path]] | None:
    """What was found, and its files with the page that shows it."""
    from mtbert.pages.comparison_page import comparison_page
    from mtbert.runs.folder import PAGE
    from mtbert.runs.writing import write_whole

    if found is None:
        return None
    comparison, files = found
    write_whole(out / PAGE, comparison_page(comparison))
    return comparison, [*files, out / PAGE]


def _rates(given: str) -> list[float]:
    try:
        return [float(rate) for rate in given.split(",") if rate.strip()]
    except ValueError:
        raise Mistake(f"--rates {given}: give learning rates with commas between them, such as 5e-5,1e-4") from None
