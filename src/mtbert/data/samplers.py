"""Which tasks feed the next optimiser step, and with batches of what size.

A sampler is a function of the step and of progress, never of what it did before: a resumed run draws what the
uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtbert.registry import Registry


class Sampler:
    """Made from how many examples each task has, the batch size asked for, and a seed.

    `batch_sizes` says how many examples a batch of each task has, `steps_per_epoch` what the sampler calls an epoch,
    and `several` whether one step is fed by more than one task.
    """

    several = False
    steps_per_epoch: int

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        self.tasks = list(examples)
        self.seed = seed
        self.batch_sizes = dict.fromkeys(examples, batch_size)
        self.batches = {task: -(-count // batch_size) for task, count in examples.items()}
        self.steps_per_epoch = sum(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        """The tasks that feed step `step`, one batch each; `progress` in [0, 1] is how far the stage has come."""
        raise NotImplementedError


class RoundRobin(Sampler):
    """One task after the other, in recipe order. An epoch: as many steps as all tasks together have batches."""

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class Proportional(Sampler):
    """A random task, likelier the more batches it has. An epoch: as many steps as all tasks together have batches."""

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        self._edges = np.cumsum(list(self.batches.values())) / self.steps_per_epoch

    def draw(self, step: int, progress: float) -> list[str]:
        chance = np.random.default_rng([self.seed, step]).random()
        return [self.tasks[int(np.searchsorted(self._edges, chance, side="right"))]]


SAMPLERS: Registry[Sampler] = Registry("sampler", {"round_robin": RoundRobin, "proportional": Proportional})
