"""Commands that train, and the dry run before it. Nothing heavy is imported before one runs."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtbert.app.options import (
    AsJson,
    DataFolder,
    Force,
    Minutes,
    OutFolder,
    Overrides,
    Overwrite,
    Quiet,
    RecipeFile,
    Resume,
    RunFolder,
)
from mtbert.app.output import print_json

if TYPE_CHECKING:
    from mtbert.runs.folder import Run
    from mtbert.runs.listener import Listener


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where the run goes; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
    quiet: Quiet = False,
) -> None:
    """Train the embedded encoder on the embedded three tasks, and use it."""
    import mtbert.demo

    _follow(
        lambda told: mtbert.train(mtbert.demo.RECIPE, out=out, overwrite=True, listener=told), quiet, resumable=False
    )
    model = mtbert.load(out)
    for task, texts in mtbert.demo.QUESTIONS.items():
        typer.echo(f"\n{task}")
        for text in texts:
            for line in model.answers(task, [text] if isinstance(text, str) else text):
                typer.echo(f"  {line}")


def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: OutFolder = None,
    data: DataFolder = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    force: Force = False,
    minutes: Minutes = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a recipe into a run folder."""
    import mtbert

    _follow(
        lambda told: mtbert.train(
            recipe,
            data,
            out,
            overrides or [],
            resume=resume,
            overwrite=overwrite,
            force=force,
            minutes=minutes,
            listener=told,
        ),
        quiet,
        as_json,
    )


def add_task(
    run: RunFolder,
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: OutFolder = None,
    data: DataFolder = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add a recipe's tasks to a run's model, as a new run: what is there stays as it is, bit for bit."""
    import mtbert

    given = overrides or []
    _follow(
        lambda told: mtbert.add_task(
            run, recipe, data, out, given, resume=resume, overwrite=overwrite, force=force, listener=told
        ),
        quiet,
        as_json,
    )


def check(
    recipe: RecipeFile,
    overrides: Overrides = None,
    add_to: Annotated[Path | None, typer.Option("--add-to", help="A run: look at what add-task would do.")] = None,
    data: DataFolder = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Dry run: what would be read and trained, what it would cost, what looks wrong."""
    from mtbert.app.console import OUTPUT
    from mtbert.recipe.reading import read_recipe
    from mtbert.reports.check import check as look
    from mtbert.runs.add_task import join
    from mtbert.runs.build import build
    from mtbert.runs.data import mistakes_of_data_too

    given = overrides or []
    with mistakes_of_data_too():
        read = read_recipe(recipe, given, data) if add_to is None else join(add_to, recipe, data, given)
    report = look(build(read, looked_at=["test"]))
    if as_json:
        print_json(report.as_dict())
    elif quiet:
        for problem in report.problems:
            typer.echo(f"problem: {problem}")  # one a line, however long, for programs that look for lines
    else:
        OUTPUT.print(report)


def affinity(
    recipe: RecipeFile,
    overrides: Overrides = None,
    data: DataFolder = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the shared run.")] = 200,
    every: Annotated[int, typer.Option("--every", min=1, help="Steps between two looks.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Which tasks help each other: a short shared run that measures each one's steps on every other's loss."""
    from mtbert.app.console import OUTPUT
    from mtbert.recipe.reading import read_recipe
    from mtbert.reports.affinity import measure_affinity
    from mtbert.runs.build import build

    report = measure_affinity(build(read_recipe(recipe, overrides or [], data)), steps, every)
    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)


def _follow(train: Callable[[Listener], Run], quiet: bool, as_json: bool = False, resumable: bool = True) -> None:
    """Show how training goes and what came of it; a signal to end saves the state and says how to go on."""
    from mtbert.app.console import Notes, show_scores
    from mtbert.app.progress import TrainingProgress
    from mtbert.app.signals import Signals
    from mtbert.process import number, reuse_freed_memory
    from mtbert.reports.base import duration
    from mtbert.runs.folder import BEST, PAGE, RECIPE, SCORES
    from mtbert.runs.listener import Listeners

    reuse_freed_memory()
    began = time.monotonic()
    speaks = not number()  # of several processes, the first one does
    progress = [TrainingProgress()] if speaks and not quiet else []
    try:
        with Signals() as signals:
            run = train(Listeners([*([Notes()] if speaks else []), *progress, signals]))
    finally:
        for shown in progress:
            shown.close()
    if run.stopped is not None:
        if not speaks:
            raise typer.Exit(signals.exit_code)
        again = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        go_on = shlex.join(["mtbert", *again, *(["--resume"] if resumable else [])])
        typer.echo(f"stopped by {run.stopped}; the state is saved in {run.folder}; go on with: {go_on}", err=True)
        raise typer.Exit(signals.exit_code)
    if not speaks:
        return
    if as_json:
        print_json(run.scores)
    else:
        show_scores(run.scores["dev"], run.scores["constant"])
        typer.echo(f"run: {run.folder}")
    page = _write_page(run)
    if as_json or quiet:
        return
    held = {BEST: "the kept model", SCORES: "the scores above", RECIPE: "the recipe as it was run"}
    for name, holds in (held | ({PAGE: "all of it on a page"} if page else {})).items():
        typer.echo(f"  {name:<11}  {holds}")
    then = shlex.join(["mtbert", "evaluate", str(run.folder)])
    typer.echo(f"took {duration(time.monotonic() - began)}; next: {then}")


def _write_page(run: Run) -> bool:
    """Write the page of a run that is trained; where that fails, say why, as the run is whole without it."""
    from mtbert.errors import Mistake
    from mtbert.pages.write import write_page

    try:
        write_page([run])
    except Mistake as mistake:
        typer.echo(f"note: there is no page: {mistake}", err=True)
        return False
    except Exception as error:  # whatever is wrong with a page, the run that was trained is whole, and says so
        typer.echo(f"note: there is no page: {type(error).__name__}: {error}", err=True)
        return False
    return True
