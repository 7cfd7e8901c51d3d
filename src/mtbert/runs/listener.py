"""Who follows a training, and may end it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that who only shows how far something is does not wait for torch
    from mtbert.scoring.evaluation import Scores
    from mtbert.training.trainer import Record


class Listener:
    """Is told how training goes. A listener overrides what it wants to hear; here every method does nothing."""

    def note(self, text: str) -> None:
        """Something that a person should know, in a line."""

    def reading(self, done: int, texts: int) -> None:
        """Before the first step, the original encoder has read so many of the texts that heads read it of."""

    def begin(self, stage: int, steps: int, done: int) -> None:
        """A stage of so many steps begins, or goes on after `done` of them."""

    def step(self, record: Record) -> None:
        """An optimiser step has been taken."""

    def scores(self, scores: Scores, kept: bool) -> None:
        """The model has been scored on the dev sets; `kept` says whether it is now the run's kept model."""

    def reason_to_stop(self) -> str | None:
        """Asked after every step. A reason ends training: the state is saved, so that the run can be resumed."""
        return None


class Listeners(Listener):
    """Several listeners as one; training ends for the first reason that any of them gives."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def note(self, text: str) -> None:
        for listener in self._listeners:
            listener.note(text)

    def reading(self, done: int, texts: int) -> None:
        for listener in self._listeners:
            listener.reading(done, texts)

    def begin(self, stage: int, steps: int, done: int) -> None:
        for listener in self._listeners:
            listener.begin(stage, steps, done)

    def step(self, record: Record) -> None:
        for listener in self._listeners:
            listener.step(record)

    def scores(self, scores: Scores, kept: bool) -> None:
        for listener in self._listeners:
            listener.scores(scores, kept)

    def reason_to_stop(self) -> str | None:
        reasons = [listener.reason_to_stop() for listener in self._listeners]
        return next((reason for reason in reasons if reason is not None), None)


class OfTeacher(Listeners):
    """Hears how a teacher is trained, for a listener that follows the model which learns from it.

    Scores become notes: they are not that model's.
    """

    def __init__(self, listener: Listener, number: int) -> None:
        super().__init__([listener])
        self._number = number

    def scores(self, scores: Scores, kept: bool) -> None:
        self.note(f"teacher {self._number}: overall {scores.overall:z.4f} on dev" + (", kept" if kept else ""))
