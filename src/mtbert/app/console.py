"""What a person sees on the terminal: scores, methods, mistakes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from mtbert.recipe.catalogue import Method
from mtbert.recipe.text import as_line
from mtbert.reports.base import grid
from mtbert.runs.listener import Listener

OUTPUT = Console(highlight=False, soft_wrap=True)


class Notes(Listener):
    """Says on standard error what a person should know, also where no progress is shown."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"note: {text}\n")


def show_scores(scores: Mapping[str, Any], constant: Mapping[str, Any] | None = None) -> None:
    """Each task's metrics, beside those of a predictor that ignores the text."""
    names, cells = [], []
    for task, metrics in scores["tasks"].items():
        for number, (metric, value) in enumerate(metrics.items()):
            names.append("" if number else task)
            cells.append([metric, f"{value:z.4f}", *([f"{constant['tasks'][task][metric]:z.4f}"] if constant else [])])
    names.append("overall")
    cells.append(["", f"{scores['overall']:z.4f}", *([f"{constant['overall']:z.4f}"] if constant else [])])
    OUTPUT.print(grid("task", ["metric", "score", *(["constant"] if constant else [])], names, cells))


def show_methods(families: Mapping[str, Mapping[str, Method]]) -> None:
    """Every table, one line a method."""
    for family, methods in families.items():
        OUTPUT.print(f"[bold]{family}[/bold]")
        width = max((len(name) for name in methods), default=0)
        for name, method in methods.items():
            OUTPUT.print(f"  {name:<{width}}  {method.line}", markup=False)


def explain(method: Method) -> None:
    """One method: its whole docstring, its options, and how a recipe names it."""
    OUTPUT.print(f"[bold]{method.name}[/bold] ({method.family})\n")
    OUTPUT.print(method.text, markup=False)
    if method.options:
        OUTPUT.print("\noptions")
        width = max(len(name) for name in method.options)
        for name, option in method.options.items():
            usual = "required" if option.required else f"default {as_line(option.default)}"
            OUTPUT.print(f"  {name:<{width}}  {option.values}; {usual}", markup=False)
    if method.size:
        OUTPUT.print(f"\nsize with the defaults: {method.size}")
    OUTPUT.print(f"\nin a recipe:  {method.example}\n", markup=False)


def fail(message: str) -> None:
    """Say what went wrong, on standard error."""
    sys.stderr.write(f"error: {message}\n")
