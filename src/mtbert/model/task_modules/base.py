"""What a task module is, and how a recipe plans one.

A module knows neither its task nor its neighbours: `TaskModules` (assignment.py) keeps one module for each task, or one
for several, and hands the encoder those of the batch's task, in the order of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.tasks import Task
from mtbert.errors import Mistake
from mtbert.model.taps import QKV

if TYPE_CHECKING:
    from mtbert.model.encoder import Encoder


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
