"""Commands that make something to look at: the pages. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtbert.app.options import DataFolder


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several stand side by side.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; in the first run by default.")] = None,
    data: DataFolder = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """One page about a run, or about several: scores, curves, mistakes, costs, in a file that needs nothing else.

    It can be made again at any time, also while the run trains.
    """
    import webbrowser

    from mtbert.pages.write import write_page
    from mtbert.runs.folder import Run

    path = write_page([Run.open(run) for run in runs], out, data)
    typer.echo(path)
    if show:
        webbrowser.open(path.resolve().as_uri())
