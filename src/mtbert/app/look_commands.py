"""Commands that look things up: the methods there are, and reports on a run."""

from __future__ import annotations

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
