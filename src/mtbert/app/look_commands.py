"""Commands that look things up: the methods there are, the token cache, and reports on a run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Annotated

import typer

from mtbert.app.options import AsJson, RunFolder
from mtbert.app.output import print_json
from mtbert.reports.table import Reader


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Explain this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every table a recipe can name things from, one line a method; or all about one of them."""
    gc.disable()  # what is imported stays: looking through it for garbage is a fifth of the time that this takes
    from mtbert.app.console import explain, show_methods
    from mtbert.recipe.catalogue import find_methods, list_methods

    if name is not None:
        found = find_methods(name)
        if as_json:
            print_json([method.as_dict() for method in found])
        for method in () if as_json else found:
            explain(method)
        return
    families = list_methods()
    if as_json:
        print_json(
            {
                family: {name: method.as_dict() for name, method in by_name.items()}
                for family, by_name in families.items()
            }
        )
    else:
        show_methods(families)


def verify(
    run: RunFolder,
    steps: Annotated[int, typer.Option("--steps", min=1, help="How many of the first steps to replay.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Replay a run's first steps and score its kept model: equal, or where it first differs (exit code 1)."""
    from mtbert.app.console import OUTPUT
    from mtbert.reports.verify import verify as replay
    from mtbert.runs.folder import Run

    report = replay(Run.open(run), steps)
    if as_json:
        print_json(report.as_dict())
    else:
        OUTPUT.print(report)
    if not report.equal:
        raise typer.Exit(1)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all tokens; they can be computed again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the cache of tokens, or clear it: where it is, how much it holds, how much it may hold."""
    from mtbert.data import token_cache

    if clear:
        token_cache.clear()
    held = token_cache.entries()
    size, limit = sum(entry.bytes for entry in held) / 2**30, token_cache.size_limit() / 2**30
    folder = token_cache.cache_folder()
    if as_json:
        print_json({"folder": str(folder), "entries": len(held), "gib": size, "limit_gib": limit})
    else:
        typer.echo(f"{folder}: {len(held):,} columns of texts, {size:z.3f} of at most {limit:g} GiB")


def report_command(reader: Reader) -> Callable[..., None]:
    """The command of a report of the table."""

    def command(run: RunFolder, as_json: AsJson = False) -> None:
        from mtbert.app.console import OUTPUT
        from mtbert.runs.folder import Run

        opened = Run.open(run)
        report = reader.read(opened)
        drawn = report.draw(opened.folder)
        if as_json:
            print_json(report.as_dict())
            return
        OUTPUT.print(report)
        for path in drawn:
            typer.echo(path)

    return command
