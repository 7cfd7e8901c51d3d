"""A random task at every step, drawn with chances that depend on the tasks' sizes.

Sizes are numbers of examples, as in the papers; every example is then seen equally often up to the last batch of a
pass, which may be smaller. An epoch of all these samplers is as many steps as all tasks together have batches.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from mtbert.data.samplers.base import Sampler
from mtbert.errors import Mistake, unknown
from mtbert.registry import Count, Positive, Share
from mtbert.schedules import Varied, Varying


class Proportional(Sampler):
    """A random task, as likely as it is large. An epoch: as many steps as all tasks together have batches."""

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        return _by_power(self.examples, 1.0)

    def draw(self, step: int, progress: float) -> list[str]:
        return [_drawn(self.chances(progress), self.seed, step)]


class SquareRoot(Sampler):
    """A random task, likelier by the square root of its size (Stickland and Murray, 2019).
    An epoch: as many steps as all tasks together have batches.
    """

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        return _by_power(self.examples, 0.5)

    def draw(self, step: int, progress: float) -> list[str]:
        return [_drawn(self.chances(progress), self.seed, step)]


class Temperature(Sampler):
    """A random task, likelier by its size to the power 1 / temperature (Arivazhagan et al., 2019).
    An epoch: as many steps as all tasks together have batches.

    `power` is 1 / temperature: 1 is `proportional`, 0 draws all tasks alike, the default is the paper's temperature 5.
    It may change during training.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int, *, power: Varying = 0.2) -> None:
        super().__init__(examples, batch_size, seed)
        self._power = Varied(power)

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        return _by_power(self.examples, self._power(progress))

    def draw(self, step: int, progress: float) -> list[str]:
        return [_drawn(self.chances(progress), self.seed, step)]


class Annealed(Sampler):
    """A random task, by size at first and towards the end nearly alike (Stickland and Murray, 2019).
    An epoch: as many steps as all tasks together have batches.

    The power of the size falls from 1 to `end` over the stage: in a line, or in as many `levels` as the stage of the
    paper has epochs (10 of `steps_per_epoch: 400` in report 'BERT Multitask Methods for Low-Parameter Fine-Tuning').
    """

    def __init__(
        self,
        examples: Mapping[str, int],
        batch_size: int,
        seed: int,
        *,
        end: Share = 0.2,
        levels: Count | None = None,
    ) -> None:
        super().__init__(examples, batch_size, seed)
        self.end = end
        self.levels = levels

    def power(self, progress: float) -> float:
        """Of the tasks' sizes."""
        if self.levels == 1:
            return 1.0
        if self.levels is None:
            return 1 - (1 - self.end) * progress
        # a level begins at its step even where that step's share of the stage was rounded down
        level = min(math.floor(progress * self.levels + 1e-9), self.levels - 1)
        return 1 - (1 - self.end) * level / (self.levels - 1)

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        return _by_power(self.examples, self.power(progress))

    def draw(self, step: int, progress: float) -> list[str]:
        return [_drawn(self.chances(progress), self.seed, step)]


class Weighted(Sampler):
    """A random task, as likely as its weight says. An epoch: as many steps as all tasks together have batches."""

    def __init__(
        self, examples: Mapping[str, int], batch_size: int, seed: int, *, weights: dict[str, Positive]
    ) -> None:
        super().__init__(examples, batch_size, seed)
        for task in weights:
            if task not in examples:
                raise Mistake(unknown("task in `weights` of sampler 'weighted':", task, examples))
        missing = [task for task in self.tasks if task not in weights]
        if missing:
            raise Mistake(f"sampler 'weighted' needs a weight for every task; missing: {', '.join(missing)}")
        total = math.fsum(weights.values())
        self._chances = {task: weights[task] / total for task in self.tasks}

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        return self._chances

    def draw(self, step: int, progress: float) -> list[str]:
        return [_drawn(self.chances(progress), self.seed, step)]


def _by_power(examples: Mapping[str, int], power: float) -> dict[str, float]:
    largest = max(examples.values())
    scaled = {task: (count / largest) ** power for task, count in examples.items()}  # no power overflows
    total = sum(scaled.values())
    return {task: share / total for task, share in scaled.items()}


def _drawn(chances: Mapping[str, float], seed: int, step: int) -> str:
    """One task, the same for the same seed and step."""
    edges = list(accumulate(chances.values()))
    point = np.random.default_rng([seed, step]).random() * edges[-1]
    return list(chances)[bisect_right(edges, point)]
