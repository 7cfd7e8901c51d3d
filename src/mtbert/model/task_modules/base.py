"""The taps of the encoder, and the modules that plug into them.

A module knows neither its task nor its neighbours: TaskModules keeps one a task (or one for several) and hands the
encoder those of the batch's task, folded in recipe order. Plain BERT is a module that overrides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.tasks import Task
from mtbert.errors import Mistake

if TYPE_CHECKING:
    from mtbert.model.encoder import Encoder

QKV = tuple[Tensor, Tensor, Tensor]


class Taps(Protocol):
    """What the encoder offers to change: each tap gets a value and returns the new one."""

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

    def parts(self) -> Iterable[nn.Module]:
        """The modules behind the taps."""


class TaskModule(nn.Module):
    """A module that changes nothing; methods override the taps they use."""

    in_common: tuple[str, ...] = ()  # parameters that all tasks of a recipe's entry share, though each has its module

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        return q, k, v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        return y

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        return features

    def parts(self) -> Iterable[nn.Module]:
        return [self]

    def feature_width(self, width: int, task: Task) -> int:
        """How wide after_pooling makes features of this width; raises Mistake where it cannot serve the task."""
        return width

    def borrow(self, name: str, parameter: nn.Parameter) -> None:
        """Use a parameter that stands elsewhere in the model in place of one's own of that name."""
        delattr(self, name)
        object.__setattr__(self, name, parameter)  # past torch, which would list and save it a second time

    def merge_into(self, encoder: Encoder) -> None:
        """Write the module into the weights of an encoder, where that is possible; it is superfluous then."""
        raise Mistake("it cannot be merged into the weights of an encoder")


@dataclass(frozen=True)
class ModulePlan:
    """One entry of the recipe's `modules:`, options complete; no tasks means all of them."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: Sequence[str] | None = None
    shared: bool = False


class Fold:
    """Several modules as one: each tap is passed through all of them in recipe order."""

    def __init__(self, modules: Sequence[TaskModule]) -> None:
        self.modules = modules

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        for module in self.modules:
            q, k, v = module.qkv(q, k, v, x, layer, batch)
        return q, k, v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        for module in self.modules:
            update = module.after_attention(update, x, layer, batch)
        return update

    def after_attention_norm(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        for module in self.modules:
            y = module.after_attention_norm(y, layer, batch)
        return y

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        for module in self.modules:
            update = module.after_ffn(update, x, layer, batch)
        return update

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        for module in self.modules:
            y = module.after_layer(y, layer, batch)
        return y

    def after_encoder(self, y: Tensor, batch: Batch) -> Tensor:
        for module in self.modules:
            y = module.after_encoder(y, batch)
        return y

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        for module in self.modules:
            features = module.after_pooling(features, batch)
        return features

    def parts(self) -> Iterable[nn.Module]:
        return self.modules

    def feature_width(self, width: int, task: Task) -> int:
        for module in self.modules:
            width = module.feature_width(width, task)
        return width
