"""Task-specific vectors.

Each layer's vector is a parameter of its own, so that weight decay leaves it alone as it does biases.
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
    """Scale each unit by 2 * sigmoid(gain), which is exactly one at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 * torch.sigmoid(self.gain))


class LHUC(TaskModule):
    """Learning hidden unit contributions: scale each unit of a layer's output by 2 * sigmoid(gain) (Swietojanski and
    Renals, 2014). A gain of zero, where training starts, scales by exactly one.

    To scale what an adapter adds instead, give `adapter` the option `lhuc`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gains = nn.ModuleList(Gain(shape.width) for _ in range(shape.layers))

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        scaled: Tensor = self.gains[layer](y)
        return scaled


class EmBERT(TaskModule):
    """Task-embedded attention: add a vector of the task to the queries, keys and values of every layer (Maziarka and
    Danel, 2021).

    The keys' vector has no effect: it adds the same number to all scores of a query, which the softmax takes out again,
    so it never learns. It is there because the method and its published size count it. Vectors begin at zero unless
    `std` is given; the original draws them with 0.02.
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
    """LayerNorms of the task's own: a scale and a shift behind each of the layers' two norms (Houlsby et al., 2019).

    Behind the encoder's scale and shift, which they do not replace, they reach the same functions as norms trained for
    the task alone, and begin at one and zero. The norm of the embeddings has none.
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
    return nn.ParameterList(nn.Parameter(make(shape.width)) for _ in range(shape.layers))
