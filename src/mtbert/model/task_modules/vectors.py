"""Task modules whose parameters are vectors: gains, shifts and what is added to queries, keys and values.

Each layer's vector is a parameter of its own, not a row of a matrix, since weight decay spares vectors as it does
biases.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.model.shape import Shape
from mtbert.model.taps import QKV
from mtbert.model.task_modules.base import TaskModule
from mtbert.registry import NonNegative


class Gain(nn.Module):
    """Scale each unit by 2 * sigmoid(gain), which is exactly 1 at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 * torch.sigmoid(self.gain))


class LHUC(TaskModule):
    """Learning hidden unit contributions: scale each unit of a layer's output by 2 * sigmoid(gain).

    Gains start at 0, which scales by exactly 1. To scale what an adapter adds instead, give `adapter` the option
    `lhuc`.

    Source: Swietojanski et al., 2016, https://arxiv.org/abs/1601.02828
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gains = nn.ModuleList(Gain(shape.width) for _ in range(shape.layers))

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        scaled: Tensor = self.gains[layer](y)
        return scaled


class EmBERT(TaskModule):
    """Task-embedded attention: add a vector of the task to the queries, keys and values of every layer.

    The vector of the keys has no effect and never learns, because it adds the same number to all scores of a query and
    softmax removes it. It is there because the method and its published size include it. Vectors start at 0 unless
    `std` is given; the original draws them with 0.02.

    Source: Maziarka and Danel, 2021, https://doi.org/10.1109/IJCNN52387.2021.9533990
    """

    def __init__(self, shape: Shape, *, std: NonNegative = 0.0) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (
            _vectors(shape, lambda width: std * torch.randn(width)) for _ in range(3)
        )

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        # in the type of what they are added to, so that reduced precision stays reduced
        return (
            q + self.queries[layer].to(q.dtype),
            k + self.keys[layer].to(k.dtype),
            v + self.values[layer].to(v.dtype),
        )


class LayerNorm(TaskModule):
    """LayerNorms of the task's own: another scale and shift after each of the two norms of every layer.

    They follow the encoder's scale and shift instead of replacing them, which reaches the same functions as norms
    trained for the task alone. Scales start at 1 and shifts at 0. The norm of the embeddings is left as it is.

    Source: Houlsby et al., 2019, section 2.1, https://arxiv.org/abs/1902.00751
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_scales, self.output_scales = (_vectors(shape, torch.ones) for _ in range(2))
        self.attention_shifts, self.output_shifts = (_vectors(shape, torch.zeros) for _ in range(2))

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        normalised: Tensor = y * self.attention_scales[layer] + self.attention_shifts[layer]
        return normalised

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        normalised: Tensor = y * self.output_scales[layer] + self.output_shifts[layer]
        return normalised


def _vectors(shape: Shape, make: Callable[[int], Tensor]) -> nn.ParameterList:
    """A vector of the encoder's width for each layer, made by `make`."""
    return nn.ParameterList(nn.Parameter(make(shape.width)) for _ in range(shape.layers))
