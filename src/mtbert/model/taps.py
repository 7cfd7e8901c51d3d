"""The taps: the places in the encoder where a task module may change the values that pass.

Plain BERT is an encoder whose taps change nothing. To add a tap, add a method to both classes here and to `TaskModule`
(task_modules/base.py), and call it in the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task

QKV = tuple[Tensor, Tensor, Tensor]


class Taps(Protocol):
    """Everything that the encoder lets a task module change: each tap is given a value and returns the new value."""

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        """Queries, keys and values before the split into heads, each (S, L, D); `x` is the layer's input."""

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        """Attention's update (S, L, D) before it is added to the layer's input `x` and normalised."""

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        """What the feed-forward network reads (S, L, D), after attention's LayerNorm."""

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        """The feed-forward update (S, L, D) before it is added and normalised; `x` is the layer's input."""

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        """The layer's output (S, L, D), after its last LayerNorm."""

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        """The last hidden states (S, L, D), before pooling."""

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        """What the head reads: (B, F) -> (B, feature_width(F))."""

    def feature_width(self, width: int, task: Task) -> int:
        """The width that after_pooling turns this width into; raises Mistake if the taps cannot serve the task."""

    def parts(self) -> Iterable[nn.Module]:
        """The modules behind the taps."""


class Fold:
    """Several task modules as one: the value that a tap returns enters the same tap of the next module, in recipe
    order.

    >>> from types import SimpleNamespace
    >>> double, increment = (
    ...     SimpleNamespace(after_encoder=change) for change in (lambda y, batch: 2 * y, lambda y, batch: y + 1)
    ... )
    >>> Fold([double, increment]).after_encoder(10, batch=None), Fold([increment, double]).after_encoder(10, batch=None)
    (21, 22)
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        for module in self.modules:
            q, k, v = module.qkv(q, k, v, x, layer, batch)
        return q, k, v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return self._through("after_attention", update, x, layer, batch)

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return self._through("after_attention_norm", y, layer, batch)

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return self._through("after_ffn", update, x, layer, batch)

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return self._through("after_layer", y, layer, batch)

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return self._through("after_encoder", y, batch)

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return self._through("after_pooling", features, batch)

    def feature_width(self, width: int, task: Task) -> int:
        for module in self.modules:
            width = module.feature_width(width, task)
        return width

    def parts(self) -> Iterable[nn.Module]:
        return self.modules

    def _through(self, tap: str, value: Tensor, *where: Any) -> Tensor:
        for module in self.modules:
            value = getattr(module, tap)(value, *where)
        return value
