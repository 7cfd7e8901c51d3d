"""The loggers of a recipe, as a listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtbert.registry import Choice
from mtbert.runs.folder import LOGS, Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Step
from mtbert.scoring.evaluation import Scores
from mtbert.training.loggers.base import Logger
from mtbert.training.trainer import Record


class Logging(Listener):
    """Hands steps and scores on to loggers, steps counted on through the stages of the run."""

    def __init__(self, run: Run, chosen: Sequence[Choice[Logger]]) -> None:
        done = sum(1 for _ in run.log.only(Step)) if chosen else 0
        name = run.folder.resolve().name
        self._loggers = [one.make(run.folder / LOGS / one.name, name, done) for one in chosen]
        self._step = done

    def step(self, record: Record) -> None:
        self._step += 1
        for logger in self._loggers:
            logger.record(self._step, record)

    def scores(self, scores: Scores, kept: bool) -> None:
        for logger in self._loggers:
            logger.scores(self._step, scores.overall, scores.tasks)

    def close(self) -> None:
        """Nothing more will come."""
        for logger in self._loggers:
            logger.close()


def check_loggers(chosen: Sequence[Choice[Logger]]) -> None:
    """Raise Mistake where what a logger hands to is not installed."""
    for one in chosen:
        maker: Any = one.maker
        maker.check()
