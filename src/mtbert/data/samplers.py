"""Which tasks feed the next optimiser step.

A sampler is a function of the step and of progress, never of what it did before: a resumed run draws what the
uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from mtbert.registry import Registry


class Sampler(Protocol):
    """Made from the batches that one pass over each task has, and a seed."""

    @property
    def steps_per_epoch(self) -> int:
        """How many optimiser steps this sampler calls an epoch."""

    def draw(self, step: int, progress: float) -> list[str]:
        """The tasks that feed optimiser step `step`, one batch each."""


class RoundRobin:
    """One task after the other, in recipe order. An epoch: as many steps as all tasks together have batches."""

    def __init__(self, batches: Mapping[str, int], seed: int) -> None:
        self._tasks = list(batches)
        self.steps_per_epoch = sum(batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        return [self._tasks[step % len(self._tasks)]]


class Proportional:
    """A random task, likelier the more batches it has. An epoch: as many steps as all tasks together have batches."""

    def __init__(self, batches: Mapping[str, int], seed: int) -> None:
        self._tasks = list(batches)
        self._seed = seed
        self.steps_per_epoch = sum(batches.values())
        self._edges = np.cumsum(list(batches.values())) / self.steps_per_epoch

    def draw(self, step: int, progress: float) -> list[str]:
        chance = np.random.default_rng([self._seed, step]).random()
        return [self._tasks[int(np.searchsorted(self._edges, chance, side="right"))]]


SAMPLERS: Registry[Sampler] = Registry("sampler", {"round_robin": RoundRobin, "proportional": Proportional})
