"""The loggers of a recipe, as a listener."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mtbert.errors import shown
from mtbert.registry import Choice
from mtbert.runs.folder import LOGS, Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Step
from mtbert.scoring.evaluation import Scores
from mtbert.training.loggers.base import Logger
from mtbert.training.trainer import Record


class Logging(Listener):
    """Hands steps and scores on to loggers, steps counted on through the stages of the run.

    What a logger cannot hand on is in the run's own log, so one that fails is noted and left out, and training goes on.
    """

    def __init__(self, run: Run, chosen: Sequence[Choice[Logger]], note: Callable[[str], None]) -> None:
        done = sum(1 for _ in run.log.only(Step)) if chosen else 0
        name = run.folder.resolve().name
        self._note = note
        self._step = done
        self._loggers: dict[str, Logger] = {}
        for one in chosen:
            with self._left_out(one.name):
                self._loggers[one.name] = one.make(run.folder / LOGS / one.name, name, done)

    def step(self, record: Record) -> None:
        self._step += 1
        self._each(lambda logger: logger.record(self._step, record))

    def scores(self, scores: Scores, kept: bool) -> None:
        self._each(lambda logger: logger.scores(self._step, scores.overall, scores.tasks))

    def close(self) -> None:
        """Nothing more will come."""
        self._each(lambda logger: logger.close())

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            with self._left_out(name):
                tell(logger)

    @contextmanager
    def _left_out(self, name: str) -> Iterator[None]:
        """Whatever goes wrong in a logger, also one of another package, costs no more than what it would have shown."""
        try:
            yield
        except Exception as error:
            self._loggers.pop(name, None)
            self._note(f"logger '{name}' is left out from here on: {type(error).__name__}: {shown(str(error), 200)}")


def check_loggers(chosen: Sequence[Choice[Logger]]) -> None:
    """Raise Mistake where what a logger hands to is not installed."""
    for one in chosen:
        maker: Any = one.maker
        maker.check()
