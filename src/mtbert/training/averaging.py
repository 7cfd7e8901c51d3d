"""Averages of the weights that a stage passes through, scored and kept like any other model.

A stage's `average:` in the recipe names one. Only what the stage trains is averaged, in float64: a small share of a
difference would be rounded away in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field, Strict
from torch import Tensor

from mtbert.registry import BelowOne, Count, Registry

Weights = Mapping[str, Tensor]  # parameters by name

PIECE = 1 << 16  # numbers that are moved at a time, so that a copy in another precision stays in the processor's cache


@torch.no_grad()
def follow(averages: Iterable[Tensor], weights: Iterable[Tensor], share: float) -> None:
    """averages + share * (weights - averages), in the precision and on the device of the averages, in place.

    Tensors come in pairs of one shape, and are contiguous.
    """
    for average, weight in zip(averages, weights, strict=True):
        pieces = zip(torch.split(average.view(-1), PIECE), torch.split(weight.detach().view(-1), PIECE), strict=True)
        for ours, theirs in pieces:
            ours.lerp_(theirs.to(ours), share)


@contextmanager
def holding(parameters: Weights, weights: Weights) -> Iterator[None]:
    """Give parameters these weights inside the block, and their own back afterwards, bit for bit."""
    with torch.no_grad():
        own = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            for name, p in parameters.items():
                p.copy_(weights[name])
            yield
        finally:
            for name, p in parameters.items():
                p.copy_(own[name])


class Average:
    """No average: what is scored and kept is the model that learns."""

    def __init__(self) -> None:
        self.learning: Weights = {}

    def begin(self, learning: Weights) -> None:
        """The stage begins, and trains these parameters, which hold their weights at any time."""
        self.learning = learning

    def after_step(self, step: int, progress: float) -> None:
        """So many of the stage's steps have been taken, and so much of it is over, in [0, 1]."""

    def after_evaluation(self, score: float) -> None:
        """The weights as they are have this score, by the measure that the stage is judged by."""

    def now(self) -> dict[str, Tensor] | None:
        """The average as it is, to be scored after an evaluation; None where there is none."""
        return None

    def at_the_end(self, score: Callable[[Weights], float]) -> dict[str, Tensor] | None:
        """The average that is made when the stage has ended, by the scores of others; None where there is none."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed stage needs, as tensors by name."""
        return {}

    def load(self, state: Weights) -> None:
        """Take over a state, after `begin`; raises KeyError, ValueError or RuntimeError for what is none."""


class Running(Average):
    """A mean that takes in the weights after every `every`-th step."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.taken = 0
        self.means: dict[str, Tensor] = {}

    def begin(self, learning: Weights) -> None:
        super().begin(learning)
        self.taken = 0
        self.means = {name: p.detach().to(torch.float64, copy=True) for name, p in learning.items()}

    def after_step(self, step: int, progress: float) -> None:
        if step % self.every == 0 and self.counts(progress):
            self.taken += 1
            follow(self.means.values(), self.learning.values(), self.share(self.taken))

    def counts(self, progress: float) -> bool:
        """Whether the weights are taken in when so much of the stage is over."""
        raise NotImplementedError

    def share(self, number: int) -> float:
        """The share of the weights that are the `number`-th to be taken in; 1 for the first."""
        raise NotImplementedError

    def now(self) -> dict[str, Tensor] | None:
        return {name: mean.float() for name, mean in self.means.items()} if self.taken else None

    def state(self) -> dict[str, Tensor]:
        means = {f"mean.{name}": mean for name, mean in self.means.items()}
        return {"taken": torch.tensor(self.taken)} | means

    def load(self, state: Weights) -> None:
        self.taken = int(state["taken"])
        if self.taken < 0:
            raise ValueError(f"{self.taken} weights taken into an average")
        for name, mean in self.means.items():
            mean.copy_(state[f"mean.{name}"])


class Ema(Running):
    """An exponential moving average of the weights (Tarvainen and Valpola, 2017).

    The weights of n steps ago count decay^n times as much as the newest; those before the stage count for nothing, as
    the shares are those of a weighted mean. They are taken in after every `every`-th step.

    Source: Tarvainen and Valpola, 2017, section 2, https://arxiv.org/abs/1703.01780
    """

    def __init__(self, *, decay: BelowOne = 0.999, every: Count = 10) -> None:
        super().__init__(every)
        self.decay = decay

    def counts(self, progress: float) -> bool:
        return True

    def share(self, number: int) -> float:
        kept = self.decay**self.every
        return (1 - kept) / (1 - kept**number)


class Last(Running):
    """The mean of the weights in the last `share` of the stage, each `every`-th step alike (Izmailov et al., 2018).

    Source: Izmailov et al., 2018, section 3, https://arxiv.org/abs/1803.05407
    """

    def __init__(self, *, share: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.25, every: Count = 10) -> None:
        super().__init__(every)
        self.part = share

    def counts(self, progress: float) -> bool:
        return progress > 1 - self.part

    def share(self, number: int) -> float:
        return 1 / number


class Soup(Average):
    """The mean of those evaluated models that make it better, tried from the best downward (Wortsman et al., 2022).

    The `top` models with the highest scores are held until the stage has ended. Then each is taken into the mean if the
    score on dev does not fall by it, which takes an evaluation each.

    Source: Wortsman et al., 2022, recipe 1, https://arxiv.org/abs/2203.05482
    """

    def __init__(self, *, top: Count = 5) -> None:
        super().__init__()
        self.top = top
        self.ranked: list[tuple[float, dict[str, Tensor]]] = []  # highest score first, and the earlier of equals

    def begin(self, learning: Weights) -> None:
        super().begin(learning)
        self.ranked = []

    def after_evaluation(self, score: float) -> None:
        place = sum(other >= score for other, _ in self.ranked)
        if place < self.top:
            weights = {name: p.detach().clone() for name, p in self.learning.items()}
            self.ranked = [*self.ranked[:place], (score, weights), *self.ranked[place:]][: self.top]

    def at_the_end(self, score: Callable[[Weights], float]) -> dict[str, Tensor] | None:
        if len(self.ranked) < 2:
            return None
        (best, first), *others = self.ranked
        taken, soup = [first], first
        for _, weights in others:
            tried = mean_of([*taken, weights])
            reached = score(tried)
            if reached >= best:
                best, soup = reached, tried
                taken.append(weights)
        return soup if len(taken) > 1 else None

    def state(self) -> dict[str, Tensor]:
        held = {f"{place}.weights.{name}": p for place, (_, held) in enumerate(self.ranked) for name, p in held.items()}
        return held | {
            f"{place}.score": torch.tensor(score, dtype=torch.float64) for place, (score, _) in enumerate(self.ranked)
        }

    @torch.no_grad()
    def load(self, state: Weights) -> None:
        count = sum(name.endswith(".score") and name.count(".") == 1 for name in state)
        self.ranked = [
            (
                float(state[f"{place}.score"]),
                {
                    name: torch.empty_like(p).copy_(state[f"{place}.weights.{name}"])
                    for name, p in self.learning.items()
                },
            )
            for place in range(count)
        ]


def mean_of(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several weights: summed in float64 in their order, and rounded to their own precision."""
    return {
        name: (sum((weights[name].double() for weights in several[1:]), first.double()) / len(several)).to(first.dtype)
        for name, first in several[0].items()
    }


AVERAGES: Registry[Average] = Registry("average", {"none": Average, "ema": Ema, "last": Last, "soup": Soup})
