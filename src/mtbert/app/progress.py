"""How far a command has come: one line that is drawn anew on a terminal, a line now and then elsewhere.

Everything goes to standard error, and every line fits the width of the terminal.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mtbert.reports.base import GAP, count, cut, duration, grid
from mtbert.runs.listener import Listener

if TYPE_CHECKING:
    from mtbert.scoring.evaluation import Scores
    from mtbert.training.trainer import Record

PLAIN_EVERY = 20.0  # seconds between two lines where nothing can be drawn anew
NAME = 16  # characters of a task's name in a line
WINDOW = 50  # steps of a task whose losses a line that is drawn anew shows the mean of


class Line:
    """The line that says how far it is."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._said = time.monotonic()

    def __enter__(self) -> Line:
        if self.console.is_terminal:
            self._live = Live(Text(""), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def due(self) -> bool:
        """Whether a line would be shown now."""
        return self._live is not None or time.monotonic() - self._said >= PLAIN_EVERY

    def show(self, line: str) -> None:
        """Draw the line anew, or print it where nothing can be drawn anew."""
        if self._live is not None:
            self._live.update(Text(line))
        else:
            self.console.print(Text(line))
            self._said = time.monotonic()


class TrainingProgress(Listener):
    """How training goes: steps, rate, time left and losses; after every evaluation a line a task."""

    def __init__(self) -> None:
        self._line = Line()
        self._since_line: dict[str, list[float]] = defaultdict(list)
        self._since_scores: dict[str, list[float]] = defaultdict(list)
        self._best: dict[str, tuple[float, float]] = {}  # task -> what it is judged by, of which more is better; value
        self._steps = self._taken = self._examples = 0
        self._seconds = 0.0
        self._reading: float | None = None  # since when texts are read before the first step

    def reading(self, done: int, texts: int) -> None:
        if self._reading is None:
            self._line.__enter__()
            self._reading = time.monotonic()
        elif self._line.due:
            spent = time.monotonic() - self._reading  # without the first batch, which has to warm up
            left = duration((texts - done) * spent / done)
            said = GAP.join([f"{done:,}/{count(texts, 'text')}", f"{left} left"])
            self._line.show(f"features beside the vector: {said}")
        if done >= texts:
            self.close()
            self._reading = None

    def begin(self, stage: int, steps: int, done: int) -> None:
        self.close()
        self._steps = steps
        self._taken = self._examples = 0
        self._seconds = 0.0
        if not done:  # what went before was another model's
            self._since_line.clear()
            self._since_scores.clear()
        going_on = f", going on from step {done:,}" if done else ""
        self._line.console.print(f"stage {stage}: {count(steps, 'step')}{going_on}")
        self._line.__enter__()

    def step(self, record: Record) -> None:
        for task, terms in record.terms.items():
            self._since_line[task].append(terms["loss"])
            self._since_scores[task].append(terms["loss"])
        self._taken += 1
        self._examples += record.examples
        self._seconds += record.seconds
        if self._line.due:
            left = (self._steps - record.step) * self._seconds / self._taken
            parts = [
                f"step {record.step:,}/{self._steps:,}",
                f"{duration(left)} left",
                f"{self._examples / self._seconds:.0f} examples/s",
            ]
            self._line.show(fitted(GAP.join(parts), self._losses(), self._line.console.width))
            if not self._line.console.is_terminal:
                self._since_line.clear()

    def scores(self, scores: Scores, kept: bool) -> None:
        self._since_line.clear()
        mains = {task: next(iter(metrics.items())) for task, metrics in scores.tasks.items()}
        cells = []
        for task, (metric, value) in mains.items():
            now = scores.judged.get(task, scores.tasks[task])[metric], value
            self._best[task] = max(now, self._best.get(task, now))
            cells.append([_mean(self._since_scores[task]), metric, f"{value:z.4f}", f"{self._best[task][1]:z.4f}"])
        self._line.console.print(grid("task", ["loss", "dev", "now", "best so far"], list(mains), cells))
        self._line.console.print(f"dev overall {scores.overall:z.4f}" + ("  (best so far, kept)" if kept else ""))
        self._since_scores.clear()

    def close(self) -> None:
        self._line.__exit__()

    def _losses(self) -> dict[str, float]:
        """Task -> the mean of its losses since the last line, of its last WINDOW steps where the line is drawn anew."""
        return {task: sum(some[-WINDOW:]) / len(some[-WINDOW:]) for task, some in self._since_line.items()}


class RowsProgress:
    """How many rows of a task have been read by the model, how fast, and how long it still takes."""

    def __init__(self) -> None:
        self._line = Line()
        self._task = ""
        self._began = time.monotonic()
        self._first = 0

    def __enter__(self) -> RowsProgress:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__()

    def reached(self, task: str, done: int, rows: int) -> None:
        """So many rows of a task are done, of so many in all."""
        if task != self._task:
            self._task, self._began, self._first = task, time.monotonic(), done
        spent, taken = time.monotonic() - self._began, done - self._first
        if not (self._line.due and taken and spent):
            return  # the first batch says nothing yet of how long one takes
        left = duration((rows - done) * spent / taken)
        said = GAP.join([f"{done:,}/{count(rows, 'row')}", f"{left} left", f"{taken / spent:,.0f} rows/s"])
        self._line.show(f"{cut(task, max(self._line.console.width - len(said) - 2, 8))}: {said}")


def fitted(start: str, losses: Mapping[str, float], width: int) -> str:
    """A line that begins with `start` and goes on with as many losses as fit, and how many more there are.

    >>> fitted("step 1/9", {"mood": 0.5, "same": 0.25}, 40)
    'step 1/9  loss: mood 0.500  same 0.250'
    >>> fitted("step 1/9", {"mood": 0.5, "same": 0.25}, 37)
    'step 1/9  loss: mood 0.500 and 1 more'
    """
    if not losses:
        return start
    said = [f"{cut(task, NAME)} {loss:z.3f}" for task, loss in losses.items()]
    for shown in range(len(said), 0, -1):
        more = "" if shown == len(said) else f" and {len(said) - shown} more"
        line = f"{start}  loss: {GAP.join(said[:shown])}{more}"
        if len(line) <= width:
            return line
    return start


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):z.3f}" if values else ""
