"""Low-rank adaptation (LoRA) of the encoder's attention matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.shape import Shape
from mtbert.model.taps import QKV
from mtbert.model.task_modules.base import TaskModule
from mtbert.registry import Count, Positive

if TYPE_CHECKING:
    from mtbert.model.encoder import Encoder


class LoRA(TaskModule):
    """Low-rank adaptation: add alpha / rank * up(down(x)) to the queries (`q`), keys (`k`) or values (`v`) that
    attention computes from a layer's input x.

    `up` starts at 0, so a fresh module changes nothing. The products have the same form as the encoder's matrices:
    `checkpoints.merged` adds those of one task to a copy of the encoder, which then costs what plain BERT costs.

    Source: Hu et al., 2022, equation 3, https://arxiv.org/abs/2106.09685
    """

    def __init__(
        self,
        shape: Shape,
        *,
        rank: Count = 8,
        alpha: Positive = 8.0,
        matrices: Annotated[list[Literal["q", "k", "v"]], Field(min_length=1)] = ["q", "v"],  # noqa: B006
    ) -> None:
        super().__init__()
        if len(set(matrices)) < len(matrices):
            raise Mistake(f"matrices names one twice: {', '.join(matrices)}")
        self.matrices = tuple(matrices)
        self.scaling = alpha / rank
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for layer in range(shape.layers):
            for matrix in matrices:
                down = nn.init.kaiming_uniform_(torch.empty(rank, shape.width), a=math.sqrt(5))  # as released
                self.down[f"{matrix}{layer}"] = nn.Parameter(down)
                self.up[f"{matrix}{layer}"] = nn.Parameter(torch.zeros(shape.width, rank))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        def adapted(matrix: str, value: Tensor) -> Tensor:
            if matrix not in self.matrices:
                return value
            key = f"{matrix}{layer}"
            return value + self.scaling * F.linear(F.linear(x, self.down[key]), self.up[key])

        return adapted("q", q), adapted("k", k), adapted("v", v)

    @torch.no_grad()
    def merge_into(self, encoder: Encoder) -> None:
        for layer in range(encoder.shape.layers):
            whole = encoder.get_parameter(f"layers.{layer}.to_qkv.weight")  # (3 D, D)
            for matrix, part in zip("qkv", whole.chunk(3), strict=True):  # parts are views
                if matrix in self.matrices:
                    part.add_(self.scaling * self.up[f"{matrix}{layer}"] @ self.down[f"{matrix}{layer}"])
