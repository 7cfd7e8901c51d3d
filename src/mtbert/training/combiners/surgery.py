"""Combiners that change each task's gradient where it conflicts with others, and add up what is left."""

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
    """Project each task's gradient off those it conflicts with, and add them up (Yu et al., 2020).

    The others come in random order, and as they were before any projection.
    """

    def weights(self, gramian: Matrix) -> Vector:
        total = np.zeros(len(gramian))
        for task in range(len(gramian)):
            # every projection stays among the tasks' gradients: what is projected are the coefficients
            mixture = np.eye(len(gramian))[task]
            for other in _others(task, len(gramian)):
                along = gramian[other] @ mixture
                if along < 0 < gramian[other, other]:
                    mixture[other] -= along / gramian[other, other]
            total += mixture
        return total


class GradVac(Combiner):
    """Turn each task's gradient towards the others until their cosines are what they usually are (Wang et al., 2021).

    What is usual is learned, for each pair of tasks and each part of the model, as a moving average that starts from 0
    and takes the share `rate` of every new cosine; or it is `target`, the same for all. With a target of 0 it is
    PCGrad. `granularity` says what a part is: the whole `model`, a `layer` or a single `tensor`.
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
        self._usual: dict[str, float] = defaultdict(float)  # 'part/task/other' -> cosine

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
        return {"model": "model", "layer": place_of(name), "tensor": name}[self.granularity]

    def _turn(self, gramian: Matrix, tasks: Sequence[str], part: str) -> Vector:
        total = np.zeros(len(tasks))
        for task in range(len(tasks)):
            mixture = np.eye(len(tasks))[task]
            for other in _others(task, len(tasks)):
                pair = f"{part}/{tasks[task]}/{tasks[other]}"
                mixture[other] += self._push(gramian, mixture, other, pair)
            total += mixture
        return total

    def _push(self, gramian: Matrix, mixture: Vector, other: int, pair: str) -> float:
        """How much of the other gradient brings the mixture's cosine with it up to what is usual."""
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
    """Keep, at every number of the gradient, what points one way or the other, by chance (Chen et al., 2020).

    The more of the gradients' sum there is positive, the likelier that its positive parts stay and the negative ones
    go; `leak` is the share of each gradient that passes in any case. The paper does this to the gradients of a layer's
    outputs; here it is done to those of the parameters.
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
                # rand < (1 + sum / size) / 2, multiplied out, so that nothing is divided by 0
                positive = (2 * torch.rand_like(size) - 1) * size < combined
                kept = torch.where(positive, combined + size, combined - size) / 2
                combined.lerp_(kept, 1 - self.leak)
        return {name: next(iter(by_task.values())) for name, by_task in gradients.items()}


def _others(task: int, count: int) -> list[int]:
    """All tasks but one in random order, from the generator that checkpoints hold."""
    return [other for other in torch.randperm(count).tolist() if other != task]
