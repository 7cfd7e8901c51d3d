"""What a stage keeps, and when it has had enough."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Keeper:
    """Remembers the best evaluation of a stage; stops it after `patience` evaluations without a better one."""

    patience: int | None = None
    best: float = -math.inf
    waited: int = 0

    def take(self, score: float) -> bool:
        """Whether this evaluation is strictly better than all before it."""
        better = score > self.best
        self.best = score if better else self.best  # a score that is not a number is never better
        self.waited = 0 if better else self.waited + 1
        return better

    @property
    def satisfied(self) -> bool:
        return self.patience is not None and self.waited >= self.patience
