"""What a search has come to."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finalist:
    """One of the best trials, over several seeds."""

    trial: int
    overrides: list[str]
    scores: list[float]  # by the recipe's measure on dev, a seed each

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)


@dataclass(frozen=True)
class Found:
    """What a search has come to."""

    folder: Path
    measure: str
    done: int  # trials that have ended
    pruned: int
    failed: int
    evaluations: int  # how often dev was scored
    finalists: list[Finalist]  # best first; none where the search is not through
    stopped: str | None

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder), "finalists": [vars(one) for one in self.finalists]}
