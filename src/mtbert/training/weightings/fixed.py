"""Weights that stay as they are."""

from __future__ import annotations

from torch import Tensor

from mtbert.training.weightings.base import Weighting


class Fixed(Weighting):
    """Each loss by the weight that its task has in the recipe."""

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        return self.tasks[task].weight * loss
