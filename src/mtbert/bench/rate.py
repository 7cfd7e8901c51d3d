"""Sentences a second over several rounds, as a median with quartiles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


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
