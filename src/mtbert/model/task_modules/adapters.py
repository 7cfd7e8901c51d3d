"""Bottleneck adapters."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import TaskModule
from mtbert.model.task_modules.vectors import Gain
from mtbert.registry import Count, Positive

Activation = Literal["gelu", "relu"]


class Adapter(TaskModule):
    """Bottlenecks of `size` units in every layer, each of which adds a small change to its input.

    `where: before_norm` adapts the update of the feed-forward network and, with `after_attention`, that of attention,
    before they are added and normalised. `where: after_norm` adapts the layer's output, which is then no longer
    normalised. `std` is the released code's; the paper says 0.01. With `lhuc`, each unit that an adapter adds is scaled
    by 2 * sigmoid(gain). The paper also trains all LayerNorms: add the module `layer_norm` for norms of the task's own,
    or train the shared norms with `train: [heads, modules, norms]`.

    Source: Houlsby et al., 2019, section 2.1, https://arxiv.org/abs/1902.00751
    Source: report 'Investigating BERT through Fine-Tuned Regularization and Layer-Level Adaptations'
    """

    def __init__(
        self,
        shape: Shape,
        *,
        size: Count = 64,
        activation: Activation = "gelu",
        where: Literal["before_norm", "after_norm"] = "before_norm",
        after_attention: bool = True,
        lhuc: bool = False,
        std: Positive = 1e-3,
    ) -> None:
        super().__init__()
        if after_attention and where == "after_norm":
            raise Mistake("`where: after_norm` adapts a layer's output alone: set `after_attention: false`")

        def bottlenecks() -> nn.ModuleList:
            return nn.ModuleList(Bottleneck(shape.width, size, activation, lhuc, std) for _ in range(shape.layers))

        self.before_norm = where == "before_norm"
        self.output = bottlenecks()
        self.attention = bottlenecks() if after_attention else None

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        adapted: Tensor = update if self.attention is None else self.attention[layer](update)
        return adapted

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        adapted: Tensor = self.output[layer](update) if self.before_norm else update
        return adapted

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        adapted: Tensor = y if self.before_norm else self.output[layer](y)
        return adapted


class Bottleneck(nn.Module):
    """Computes x + up(activation(down(x))), which is close to x at first."""

    def __init__(self, width: int, size: int, activation: Activation, lhuc: bool, std: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        self.gain = Gain(width) if lhuc else nn.Identity()
        self.activation = F.gelu if activation == "gelu" else F.relu
        for linear in (self.down, self.up):
            # the bounds are absolute: torch's defaults of -2 and 2 would cut nothing off
            nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.gain(self.up(self.activation(self.down(x))))
        return x + added
