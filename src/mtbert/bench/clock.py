"""Two ways of doing the same work, timed in alternation, and what that says."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Rate:
    """Sentences a second over rounds of equal work: the median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, sentences: Sequence[int], times: Sequence[float]) -> Rate:
        """From the sentences and seconds of each round."""
        rates = [count / spent for count, spent in zip(sentences, times, strict=True)]
        if len(rates) < 2:
            return cls(rates[0], rates[0], rates[0])
        low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.1f} sentences/s ({self.low:.1f} to {self.high:.1f})"
