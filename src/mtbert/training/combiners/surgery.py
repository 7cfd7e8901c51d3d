"""Combiners that change each task's gradient where it conflicts with other tasks, and add up the results."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, Strict
from torch import Tensor

from mtbert.model.parameters.names import place_of
from mtbert.registry import Share
from mtbert.training.combiners.base import Combiner, combine_by_gramian
from mtbert.training.gramian import Gradients, Matrix, Vector, length, pieces

NEARLY_ONE = 1 - 1e-7

Cosine = Annotated[float, Strict(), Field(gt=-1, lt=1)]


class PCGrad(Combiner):
    """Project each task's gradient off those it conflicts with, and add up the results.

    For each task the other gradients come in random order, and as they were before any projection.

    Source: Yu et al., 2020, algorithm 1, https://arxiv.org/abs/2001.06782
    """

    def weights(self, gramian: Matrix) -> Vector:
        total = np.zeros(len(gramian))
        for task in range(len(gramian)):
            # a projection is a mixture of the tasks' gradients again, so it is enough to work on the coefficients
            mixture = np.eye(len(gramian))[task]
            for other in _others(task, len(gramian)):
                along = gramian[other] @ mixture
                if along < 0 < gramian[other, other]:
                    mixture[other] -= along / gramian[other, other]
            total += mixture
        return total


class GradVac(Combiner):
    """Turn each task's gradient towards the others until their cosines are what they usually are.

    What is usual is learned for each pair of tasks and each part of the model, as a moving average that starts at 0 and
    takes in each new cosine at `rate`; with `target` it is that number for all. A target of 0 gives PCGrad.
    `granularity` says what a part is: the whole `model`, a `layer` or a single `tensor`.

    Source: Wang et al., 2021, https://arxiv.org/abs/2010.05874
    """

    def __init__(
        self,
        *,
        rate: Share = 0.01,
        granularity: Literal["model", "layer", "tensor"] = "layer",
        target: Cosine | None = None,
    ) -> None:
        self.rate = rate
        self.granularity = granularity
        self.target = target
        self._usual: dict[str, float] = defaultdict(float)  # 'part/task/other' -> usual cosine

    def combine(self, gradients: Gradients, tasks: Sequence[str]) -> dict[str, Tensor]:
        parts: dict[str, dict[str, Mapping[str, Tensor]]] = defaultdict(dict)
        for name, by_task in gradients.items():
            parts[self._part(name)][name] = by_task
        combined: dict[str, Tensor] = {}
        for part, some in parts.items():
            combined |= combine_by_gramian(some, tasks, partial(self._turn, tasks=tasks, part=part))
        return combined

    def state(self) -> dict[str, Tensor]:
        return {pair: torch.tensor(cosine, dtype=torch.float64) for pair, cosine in self._usual.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._usual.clear()
        self._usual.update({pair: float(cosine) for pair, cosine in state.items()})

    def _part(self, name: str) -> str:
        """The part of the model whose cosines a parameter belongs to."""
        return {"model": "model", "layer": place_of(name), "tensor": name}[self.granularity]

    def _turn(self, gramian: Matrix, tasks: Sequence[str], part: str) -> Vector:
        """The weights of the gradients in the sum of all turned gradients, for one part: (K, K) -> (K,)."""
        total = np.zeros(len(tasks))
        for task in range(len(tasks)):
            mixture = np.eye(len(tasks))[task]
            for other in _others(task, len(tasks)):
                pair = f"{part}/{tasks[task]}/{tasks[other]}"
                mixture[other] += self._push(gramian, mixture, other, pair)
            total += mixture
        return total

    def _push(self, gramian: Matrix, mixture: Vector, other: int, pair: str) -> float:
        """How much of the other gradient to add so that the mixture's cosine with it becomes the usual one."""
        ours, theirs = length(gramian, mixture), math.sqrt(gramian[other, other])
        if not ours or not theirs:
            return 0.0
        cosine = min(max(float(gramian[other] @ mixture) / (ours * theirs), -NEARLY_ONE), NEARLY_ONE)
        wanted = self._usual[pair] if self.target is None else self.target
        if self.target is None:
            self._usual[pair] += self.rate * (cosine - wanted)
        if cosine >= wanted:
            return 0.0
        sine, wanted_sine = math.sqrt(1 - cosine**2), math.sqrt(1 - wanted**2)
        return ours * (wanted * sine - cosine * wanted_sine) / (theirs * wanted_sine)


class GradDrop(Combiner):
    """For each number of the gradient keep either the positive or the negative parts, chosen at random.

    The more the positive parts outweigh the negative ones, the likelier it is that they stay and the negative ones are
    dropped. `leak` is the share of each gradient that passes in any case. The paper does this to the gradients of a
    layer's outputs; here it is done to those of the parameters.

    Source: Chen et al., 2020, https://arxiv.org/abs/2010.06808
    """

    def __init__(self, *, leak: Share = 0.0) -> None:
        self.leak = leak

    def combine(self, gradients: Gradients, tasks: Sequence[str]) -> dict[str, Tensor]:
        for by_task in gradients.values():
            for combined, *others in pieces(by_task.values()):
                size = combined.abs()
                for part in others:
                    combined.add_(part)
                    size.add_(part.abs())
                # rand < (1 + sum / size) / 2, multiplied by 2 * size so that there is no division by 0
                positive = (2 * torch.rand_like(size) - 1) * size < combined
                kept = torch.where(positive, combined + size, combined - size) / 2
                combined.lerp_(kept, 1 - self.leak)
        return {name: next(iter(by_task.values())) for name, by_task in gradients.items()}


def _others(task: int, count: int) -> list[int]:
    """All tasks but this one in random order, drawn from torch's generator, whose state a checkpoint holds."""
    return [other for other in torch.randperm(count).tolist() if other != task]
