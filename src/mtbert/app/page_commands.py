"""Commands that make something to look at: the pages. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtbert.app.options import AsJson, DataFolder, RunFolder
from mtbert.app.output import print_json


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


def errors(
    run: RunFolder,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="A task, once for each; all the run trained by default.")
    ] = None,
    split: Annotated[Literal["dev", "test", "train"], typer.Option("--split", help="The rows to look at.")] = "dev",
    labels: Annotated[
        bool, typer.Option("--labels", help="Also name training labels that are likely wrong, by cross-validation.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="A CSV file for every mistake; - for standard output.")
    ] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Where a run's model is wrong: by length, label, shared and single words, row by row; and labels to doubt."""
    from mtbert.app.console import OUTPUT
    from mtbert.app.progress import RowsProgress
    from mtbert.reports.errors import errors as look
    from mtbert.runs.folder import Run
    from mtbert.runs.output import Output

    place = None if output is None else Output(output)
    with RowsProgress() as progress:
        report = look(Run.open(run), data, tasks, split, labels, progress.reached)
    if place is not None:
        place.write(report.as_csv())
    if as_json:
        print_json(report.as_dict())
    elif place is None or not place.streams:
        OUTPUT.print(report)


def calibrate(
    run: RunFolder,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="A task, once for each; all that have classes by default.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="Fit the threshold, or offsets of several classes, best by it: f1, macro_f1."),
    ] = None,
    precision: Annotated[
        float | None, typer.Option("--precision", help="Say 'not sure' wherever less than this share would be right.")
    ] = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Fit how a run's tasks decide, on dev by cross-validation: temperature, thresholds, and when to say 'not sure'.

    What is fitted is stored with the model, and `mtbert predict` decides so.
    """
    from mtbert.app.console import OUTPUT
    from mtbert.reports.decisions import calibrate as decide
    from mtbert.runs.folder import Run

    report = decide(Run.open(run), data, tasks, metric, precision)
    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)
