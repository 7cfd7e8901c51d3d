"""The command that searches for a recipe. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtbert.app.options import AsJson, DataFolder, Overrides, RecipeFile
from mtbert.app.output import print_json


def search(
    recipe: RecipeFile,
    space: Annotated[Path, typer.Option("--space", help="Keys of the recipe and what they may be, a YAML file.")],
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials in all, those done before included.")] = 20,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop after so long; to be gone on with.")] = None,
    finalists: Annotated[int, typer.Option("--finalists", min=1, help="Best trials to run with more seeds.")] = 3,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds of each finalist.")] = 3,
    data: DataFolder = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the search.")] = Path("runs/search"),
    as_json: AsJson = False,
) -> None:
    """Search over keys of a recipe: trial after trial, pruned by the median; the best recipe comes ready to run.

    The same command goes on with a search that was cut off.
    """
    from mtbert.app.console import Notes
    from mtbert.app.signals import Signals
    from mtbert.process import reuse_freed_memory
    from mtbert.runs.listener import Listeners
    from mtbert.search.page import said
    from mtbert.search.search import Asked
    from mtbert.search.search import search as look_for

    reuse_freed_memory()
    asked = Asked(recipe, space, trials, minutes, finalists, seeds, data, tuple(overrides or ()))
    with Signals() as signals:
        found = look_for(asked, out, Listeners([Notes(), signals]))
    if as_json:
        print_json(found.as_dict())
    else:
        typer.echo(said(found))
        typer.echo(f"search: {found.folder}")
    if signals.exit_code:
        raise typer.Exit(signals.exit_code)
