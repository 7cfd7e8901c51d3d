"""What changes during training: progress in [0, 1] -> factor."""

from __future__ import annotations

from typing import Protocol

from mtbert.registry import Registry, Share


class Schedule(Protocol):
    """A value as a function of progress through the stage, 0 at its first step and 1 at its end."""

    def __call__(self, progress: float) -> float: ...


class Constant:
    """The full value throughout, after an optional linear warm-up."""

    def __init__(self, *, warmup: Share = 0.0) -> None:
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        return _warmed(progress, self.warmup)


class Linear:
    """Rise linearly over the share `warmup` of the stage, then fall linearly to `end` (Devlin et al., 2019)."""

    def __init__(self, *, warmup: Share = 0.1, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return _warmed(progress, self.warmup)
        fallen = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return 1 - (1 - self.end) * min(fallen, 1.0)


def _warmed(progress: float, warmup: float) -> float:
    return progress / warmup if progress < warmup else 1.0


SCHEDULES: Registry[Schedule] = Registry("schedule", {"constant": Constant, "linear": Linear})
