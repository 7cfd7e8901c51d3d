"""The minutes of a stage: how many steps fit into them, by what steps and evaluations have taken so far."""

from __future__ import annotations

import time
from collections.abc import Sequence

# shares of the time after which the length is settled anew; the last is late, so that little is left to go wrong
MARKS = (0.05, 0.15, 0.3, 0.5, 0.65, 0.8, 0.9, 0.96)


SHORTEST = 1e-6  # seconds a step, so that a clock which stands still divides nothing by 0


def clock() -> float:
    """Seconds since some instant, by the clock on the wall."""
    return time.perf_counter()


class Allowance:
    """So many seconds for a stage, of which `spent` are gone with `done` steps; the rest is counted from now on.

    A step takes as long as those since the length was settled last did, an evaluation as long as the last one.
    """

    def __init__(self, seconds: float, every: int, spent: float = 0.0, done: int = 0) -> None:
        self.seconds = seconds
        self.every = every  # steps from one evaluation to the next
        self._began = clock() - spent
        self._mark = self.elapsed
        self._rate = 0.0  # seconds a step
        self._evaluation = 0.0  # seconds an evaluation
        self._since = done, spent  # the step and the second from which on steps count

    @property
    def elapsed(self) -> float:
        """The seconds that the stage has taken."""
        return clock() - self._began

    @property
    def due(self) -> bool:
        """Whether a mark has been passed since the length was settled last."""
        return any(self._mark < mark * self.seconds <= self.elapsed for mark in MARKS)

    def tried(self, steps: Sequence[float], evaluation: float) -> None:
        """Steps and an evaluation have been tried, and took so many seconds; of several steps the first warms up."""
        counted = steps[1:] or steps
        self._rate, self._evaluation = max(sum(counted) / len(counted), SHORTEST), evaluation

    def evaluated(self, seconds: float) -> None:
        """An evaluation has taken so long, which is no part of the steps around it."""
        self._evaluation = seconds
        self._since = self._since[0], self._since[1] + seconds

    def steps(self, done: int) -> int:
        """How many steps the stage has in all, where so many are done; one more at least."""
        before, began = self._since
        if done > before:
            self._rate = max((self.elapsed - began) / (done - before), SHORTEST)
        self._since, self._mark = (done, self.elapsed), self.elapsed
        left = self.seconds - self.elapsed - self._evaluation  # the stage ends with an evaluation
        before_next = self.every - done % self.every
        fit = left / self._rate
        if fit > before_next:
            fit = left / (self._rate + self._evaluation / self.every)
        return done + max(1, int(fit))
