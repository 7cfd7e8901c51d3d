"""What a person sees on the terminal: progress, scores, methods, mistakes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mtbert.recipe.catalogue import Method
from mtbert.recipe.text import as_line
from mtbert.runs.listener import Listener
from mtbert.scoring.evaluation import Scores
from mtbert.training.trainer import Record

OUTPUT = Console(highlight=False, soft_wrap=True)
PLAIN_EVERY = 20.0  # seconds between plain progress lines


class TrainingProgress(Listener):
    """A bar with rate, loss and time left on a terminal; plain lines elsewhere. Goes to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        self._losses: dict[str, float] = {}
        self._steps = self._taken = self._examples = 0
        self._seconds = 0.0
        self._said = time.monotonic()

    def begin(self, stage: int, steps: int, done: int) -> None:
        self.close()
        self._steps = steps
        self._taken = self._examples = 0
        self._seconds = 0.0
        self._console.print(f"stage {stage}: {steps:,} steps" + (f", going on from step {done:,}" if done else ""))
        if self._console.is_terminal:
            columns = TextColumn("{task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}")
            self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console)
            self._bar.start()
            self._bar_task = self._bar.add_task("", total=steps, completed=done)

    def step(self, record: Record) -> None:
        for task, terms in record.terms.items():
            self._losses[task] = 0.98 * self._losses.get(task, terms["loss"]) + 0.02 * terms["loss"]
        self._taken += 1
        self._examples += record.examples
        self._seconds += record.seconds
        losses = " ".join(f"{task} {loss:.3f}" for task, loss in self._losses.items())
        rate = f"{self._examples / self._seconds:.0f} examples/s"
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=record.step, description=f"{rate}  loss: {losses}")
        elif time.monotonic() - self._said >= PLAIN_EVERY:
            self._said = time.monotonic()
            left = (self._steps - record.step) * self._seconds / self._taken
            self._console.print(f"step {record.step:,}/{self._steps:,}  {rate}  loss: {losses}  {_duration(left)} left")

    def scores(self, scores: Scores, kept: bool) -> None:
        tasks = "  ".join(f"{task} {next(iter(metrics.values())):.4f}" for task, metrics in scores.tasks.items())
        self._console.print(f"dev overall {scores.overall:.4f}  {tasks}" + ("  (best so far, kept)" if kept else ""))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Notes(Listener):
    """Says on standard error what a person should know, also where no progress is shown."""

    def note(self, text: str) -> None:
        sys.stderr.write(f"note: {text}\n")


def show_scores(scores: Mapping[str, Any], constant: Mapping[str, Any] | None = None) -> None:
    """Each task's metrics, beside those of a predictor that ignores the text."""
    table = Table(box=None, pad_edge=False)
    for column in ("task", "metric", "score", *(("constant",) if constant else ())):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for task, metrics in scores["tasks"].items():
        for number, (metric, value) in enumerate(metrics.items()):
            floor = (f"{constant['tasks'][task][metric]:.4f}",) if constant else ()
            table.add_row("" if number else task, metric, f"{value:.4f}", *floor)
    table.add_row("overall", "", f"{scores['overall']:.4f}", *((f"{constant['overall']:.4f}",) if constant else ()))
    OUTPUT.print(table)


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


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
