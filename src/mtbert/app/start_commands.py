"""Commands of the first hour: a recipe from files, and what an editor knows of recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtbert.app.output import print_json
from mtbert.errors import Mistake

if TYPE_CHECKING:
    from mtbert.start.draft import Question


def init(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Tables with texts and labels, or folders.")],
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.yaml"),
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: take the guesses.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the recipe that is there.")] = False,
) -> None:
    """Write a recipe for your files: it guesses columns, kinds, classes and splits, and asks where it is unsure."""
    from mtbert.recipe.reading import read_recipe
    from mtbert.runs.data import read_data
    from mtbert.runs.writing import write_whole
    from mtbert.start.draft import draft_recipe, take_the_guess

    if out.exists() and not overwrite:
        raise Mistake(f"{out} is there already; --overwrite replaces it, --out names another")
    asked = sys.stdin.isatty() and sys.stdout.isatty() and not yes
    text = draft_recipe(files, out, _ask if asked else take_the_guess)
    write_whole(out, text)
    typer.echo(text)
    recipe = read_recipe(out)
    try:
        read, rows = read_data(recipe, list(recipe.tasks), ["train", "dev"], ["test"])
    except Mistake as mistake:
        raise Mistake(f"{out} is written, and needs your hand before it can be trained:\n{mistake}") from None
    for name, task in read.tasks.items():
        counts = ", ".join(f"{len(by_task[name]):,} {split}" for split, by_task in rows.items())
        typer.echo(f"{name}: {task.kind}, rows: {counts}")
    typer.echo(f"wrote {out}; look at it, then: mtbert train {out}")


def schema() -> None:
    """Print the JSON Schema of a recipe, by which an editor completes and checks one."""
    from mtbert.recipe.completion import recipe_schema

    print_json(recipe_schema())


def _ask(question: Question) -> str:
    """Put a question on the terminal; Enter takes the guess."""
    typer.echo(question.text)
    for number, answer in enumerate(question.answers, start=1):
        typer.echo(f"  {number}  {answer}" + ("  (the guess)" if number == 1 else ""))
    numbers = [str(number) for number in range(1, len(question.answers) + 1)]
    while (chosen := typer.prompt("number", default="1").strip()) not in numbers:
        typer.echo(f"there is no answer {chosen}: give a number from 1 to {len(numbers)}")
    return question.answers[int(chosen) - 1]
