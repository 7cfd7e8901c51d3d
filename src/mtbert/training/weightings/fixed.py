"""Weights that stay as the recipe gives them."""

from __future__ import annotations

from torch import Tensor

from mtbert.training.weightings.base import Weighting


class Fixed(Weighting):
    """Multiply each loss by the weight that its task has in the recipe."""

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        return self.tasks[task].weight * loss
