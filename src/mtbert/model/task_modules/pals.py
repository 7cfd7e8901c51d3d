"""Projected attention layers (PALs) and low-rank layers, beside the layers of the encoder or on top of them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.attention import attend
from mtbert.model.dropout import Dropout
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import TaskModule
from mtbert.registry import Count, NonNegative


class PALs(TaskModule):
    """Projected attention layers: small self-attention of the task's own, beside the layers, on top of the encoder, or
    both.

    `where: parallel` adds gelu(up(attention(down(x)))) of a layer's input x to the layer's own updates, before its last
    LayerNorm. `share` says what the PALs of the layers have in common: `none` (as in the report), the `projections`
    down and up (as in the released code), or `all`. With `scale`, each layer's PAL is multiplied by a learned number
    that begins there, one for `all_tasks` together or one for `each_task`, or by that number as it is: `fixed`.

    `where: top` applies up(attention(down(x))) to the encoder's last states, with `top_layers` layers of attention.
    Each of them has an output matrix with `top_output`, and also dropout, residual and LayerNorm with `top_blocks`;
    `top_residual` adds the last states to the result. The released code has 6 layers, 12 heads, blocks, and no outer
    residual. `where: both` makes two PALs, or with `objects: same` a single PAL that serves all layers and the top.

    Source: Stickland and Murray, 2019, https://arxiv.org/abs/1902.02671
    Source: report 'BERT Multitask Methods for Low-Parameter Fine-Tuning'
    """

    def __init__(
        self,
        shape: Shape,
        *,
        where: Literal["parallel", "top", "both"] = "parallel",
        size: Count = 204,
        heads: Count = 6,
        share: Literal["none", "projections", "all"] = "projections",
        scale: NonNegative | None = None,
        scale_of: Literal["all_tasks", "each_task", "fixed"] = "all_tasks",
        objects: Literal["different", "same"] = "different",
        top_layers: Count = 1,
        top_output: bool = True,
        top_blocks: bool = False,
        top_residual: bool = True,
    ) -> None:
        super().__init__()
        if size % heads:
            near = ", ".join(str(count) for count in range(1, size + 1) if size % count == 0)
            raise Mistake(f"{heads} heads do not divide a size of {size}; numbers of heads that do: {near}")
        if where == "top" and scale is not None:
            raise Mistake("`scale` weighs PALs beside the layers: leave it out, or set `where: parallel` or `both`")
        if scale_of == "fixed" and scale is None:
            raise Mistake("`scale_of: fixed` multiplies what the PALs add by a number: give it as `scale`")
        if objects == "same" and where != "both":
            raise Mistake("`objects: same` is for `where: both`, which has a PAL beside the layers and one on top")
        if objects == "same" and (share != "all" or top_layers > 1 or top_output or top_blocks):
            raise Mistake(
                "with `objects: same` one PAL serves all layers and the top: set `share: all`, `top_output: false`, "
                "`top_layers: 1` and `top_blocks: false`"
            )

        self.beside = None if where == "top" else Beside(shape, size, heads, share)
        own_top = where != "parallel" and objects == "different"
        self.top = OnTop(shape, size, heads, top_layers, top_output, top_blocks) if own_top else None
        self.same = objects == "same"
        self.top_residual = top_residual
        self.scales: nn.Parameter | list[float] | None = None
        if scale is not None:
            scales = torch.full((shape.layers,), float(scale))
            self.scales = scales.tolist() if scale_of == "fixed" else nn.Parameter(scales)
            self.in_common = ("scales",) if scale_of == "all_tasks" else ()

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        if self.beside is None:
            return update
        added: Tensor = self.beside(x, layer, batch.mask)
        return update + (added if self.scales is None else self.scales[layer] * added)

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        if self.top is not None:
            top = self.top(y, batch.mask)
        elif self.beside is not None and self.same:
            top = self.beside(y, 0, batch.mask)
        else:
            return y
        changed: Tensor = y + top if self.top_residual else top
        return changed


class Beside(nn.Module):
    """The PALs beside all layers; whatever the layers share is held once."""

    def __init__(self, shape: Shape, size: int, heads: int, share: Literal["none", "projections", "all"]) -> None:
        super().__init__()
        projections = shape.layers if share == "none" else 1
        attentions = 1 if share == "all" else shape.layers
        self.down = nn.ModuleList(_linear(shape.width, size) for _ in range(projections))
        self.attention = nn.ModuleList(
            SelfAttention(size, heads, shape.attention_dropout, output=False) for _ in range(attentions)
        )
        self.up = nn.ModuleList(_linear(size, shape.width) for _ in range(projections))

    def forward(self, x: Tensor, layer: int, mask: Tensor) -> Tensor:
        """What the PAL of a layer adds to it, given the layer's input: (S, L, D) -> (S, L, D)."""
        down, attention, up = (parts[min(layer, len(parts) - 1)] for parts in (self.down, self.attention, self.up))
        return F.gelu(up(attention(down(x), mask)))


class OnTop(nn.Module):
    """A projection down, layers of attention, and a projection up."""

    def __init__(self, shape: Shape, size: int, heads: int, layers: int, output: bool, blocks: bool) -> None:
        super().__init__()
        self.down = _linear(shape.width, size)
        attentions = [SelfAttention(size, heads, shape.attention_dropout, output) for _ in range(layers)]
        self.layers = nn.ModuleList(Block(attention, size, shape) if blocks else attention for attention in attentions)
        self.up = _linear(size, shape.width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """What the PAL on top makes of the last states: (S, L, D) -> (S, L, D)."""
        x = self.down(x)
        for layer in self.layers:
            x = layer(x, mask)
        lifted: Tensor = self.up(x)
        return lifted


class SelfAttention(nn.Module):
    """Multi-head self-attention in `size` dimensions, with or without an output matrix."""

    def __init__(self, size: int, heads: int, dropout: float, output: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.to_qkv = _linear(size, 3 * size)
        self.mix_heads = _linear(size, size) if output else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(S, L, size) -> (S, L, size)."""
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        mixed: Tensor = self.mix_heads(attend(q, k, v, mask, self.heads, self.dropout if self.training else 0.0))
        return mixed


class Block(nn.Module):
    """Attention whose output is added to its input and normalised, as in BERT's layers."""

    def __init__(self, attention: SelfAttention, size: int, shape: Shape) -> None:
        super().__init__()
        self.attention = attention
        self.dropout = Dropout(shape.dropout)
        # torch's ones and zeros: the released code draws the scales from N(0, 0.02), which nearly erases the states
        self.norm = nn.LayerNorm(size, shape.epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(S, L, size) -> (S, L, size)."""
        normalised: Tensor = self.norm(x + self.dropout(self.attention(x, mask)))
        return normalised


class LowRank(TaskModule):
    """Low-rank layers: PALs without attention, beside every layer of the encoder.

    They add up(gelu(down(x))) of a layer's input x to the layer's own updates, before its last LayerNorm.

    Source: Stickland and Murray, 2019, https://arxiv.org/abs/1902.02671
    """

    def __init__(self, shape: Shape, *, size: Count = 100) -> None:
        super().__init__()
        self.down = nn.ModuleList(_linear(shape.width, size) for _ in range(shape.layers))
        self.up = nn.ModuleList(_linear(size, shape.width) for _ in range(shape.layers))

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        added: Tensor = self.up[layer](F.gelu(self.down[layer](x)))
        return update + added


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with BERT's initialisation."""
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
