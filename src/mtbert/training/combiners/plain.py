"""Combiners that ignore conflicts between the tasks: the sum and the mean of the gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from mtbert.training.combiners.base import Combiner
from mtbert.training.gramian import Gradients, weighted_sum


class Sum(Combiner):
    """The gradient of the sum of the losses; memory holds one graph at a time and a single copy of the gradients."""

    needs_several = False
    by_task = False

    def __call__(self, losses: Iterable[tuple[str, Tensor]], parameters: Mapping[str, nn.Parameter]) -> None:
        for _, loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]
        # a sum of sums, for which tasks need not be told apart
        self.world.sum_all(p.grad for p in parameters.values() if p.grad is not None)


class Mean(Combiner):
    """The mean of the tasks' gradients where they share parameters; heads keep the whole gradient of their task."""

    needs_several = False

    def combine(self, gradients: Gradients, tasks: Sequence[str]) -> dict[str, Tensor]:
        return weighted_sum(gradients, dict.fromkeys(tasks, 1 / len(tasks)))
