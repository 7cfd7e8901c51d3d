"""Task-specific vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import TaskModule


class LHUC(TaskModule):
    """Learning hidden unit contributions: scale each unit of a layer's output by 2 * sigmoid(gain) (Swietojanski and
    Renals, 2014). A gain of zero, where training starts, scales by exactly one.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.zeros(shape.layers, shape.width))

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y * (2 * torch.sigmoid(self.gains[layer]))
