"""Samplers that draw one task at random for every step, with probabilities that depend on the tasks' sizes.

The size of a task is its number of examples, as in the papers, and not its number of batches. An epoch of each of these
samplers is as many steps as all tasks together have batches.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from mtbert.data.samplers.base import BatchSize, Sampler
from mtbert.errors import Mistake, unknown
from mtbert.registry import Count, Positive, Share
from mtbert.schedules import Varied, Varying


class AtRandom(Sampler):
    """Draws one task for each step by the probabilities `chances`, which are all that a method has to say.

    The draw depends on the seed and the step alone: the same step of the same run always gets the same task.
    """

    def chances(self, progress: float) -> dict[str, float]:
        """Task -> the probability that a step draws it."""
        raise NotImplementedError

    def draw(self, step: int, progress: float) -> list[str]:
        chances = self.chances(progress)
        edges = list(accumulate(chances.values()))
        point = np.random.default_rng([self.seed, step]).random() * edges[-1]
        return [list(chances)[bisect_right(edges, point)]]


class Proportional(AtRandom):
    """A random task, with a probability proportional to its size. An epoch: as many steps as all tasks together have
    batches.

    Every example is then seen equally often, but for the last batch of a pass, which may be smaller.
    """

    def chances(self, progress: float) -> dict[str, float]:
        return _by_power(self.examples, 1.0)


class SquareRoot(AtRandom):
    """A random task, with a probability proportional to the square root of its size. An epoch: as many steps as all
    tasks together have batches.

    Source: Stickland and Murray, 2019, https://arxiv.org/abs/1902.02671
    """

    def chances(self, progress: float) -> dict[str, float]:
        return _by_power(self.examples, 0.5)


class Temperature(AtRandom):
    """A random task, with a probability proportional to its size to the power 1 / temperature. An epoch: as many steps
    as all tasks together have batches.

    The option `power` is 1 / temperature: 1 is the same as `proportional`, 0 draws all tasks equally often, the default
    is the paper's temperature 5. The power may change during training.

    Source: Arivazhagan et al., 2019, https://arxiv.org/abs/1907.05019
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int, *, power: Varying = 0.2) -> None:
        super().__init__(examples, batch_size, seed)
        self._power = Varied(power)

    def chances(self, progress: float) -> dict[str, float]:
        return _by_power(self.examples, self._power(progress))


class Annealed(AtRandom):
    """A random task, drawn in proportion to its size at first and almost evenly towards the end. An epoch: as many
    steps as all tasks together have batches.

    The probability is proportional to size to a power that falls from 1 to `end` over the stage: linearly, or in as
    many equal steps as `levels` says. The papers lower it once per epoch; the report has 10 levels of 400 steps each
    (`steps_per_epoch: 400`).

    Source: Stickland and Murray, 2019, https://arxiv.org/abs/1902.02671
    Source: report 'BERT Multitask Methods for Low-Parameter Fine-Tuning'
    """

    def __init__(
        self,
        examples: Mapping[str, int],
        batch_size: BatchSize,
        seed: int,
        *,
        end: Share = 0.2,
        levels: Count | None = None,
    ) -> None:
        super().__init__(examples, batch_size, seed)
        self.end = end
        self.levels = levels

    def power(self, progress: float) -> float:
        """The power that the tasks' sizes are raised to at this point of the stage."""
        if self.levels == 1:
            return 1.0
        if self.levels is None:
            return 1 - (1 - self.end) * progress
        # a level begins at its step even where that step's share of the stage was rounded down
        level = min(math.floor(progress * self.levels + 1e-9), self.levels - 1)
        return 1 - (1 - self.end) * level / (self.levels - 1)

    def chances(self, progress: float) -> dict[str, float]:
        return _by_power(self.examples, self.power(progress))


class Weighted(AtRandom):
    """A random task, with a probability proportional to its weight. An epoch: as many steps as all tasks together have
    batches.
    """

    def __init__(
        self, examples: Mapping[str, int], batch_size: BatchSize, seed: int, *, weights: dict[str, Positive]
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
        return self._chances


def _by_power(examples: Mapping[str, int], power: float) -> dict[str, float]:
    """Probabilities proportional to the numbers of examples to this power."""
    largest = max(examples.values())
    scaled = {task: (count / largest) ** power for task, count in examples.items()}  # no power overflows
    total = sum(scaled.values())
    return {task: share / total for task, share in scaled.items()}
