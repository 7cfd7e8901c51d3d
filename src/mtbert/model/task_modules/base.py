"""What a task module is, and how an entry of a recipe describes it.

A module knows neither its task nor the other modules: `TaskModules` (assignment.py) holds one module per task, or one
for several tasks, and gives the encoder those of the batch's task in the order of the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.taps import QKV

if TYPE_CHECKING:
    from mtbert.model.encoder import Encoder


class TaskModule(nn.Module):
    """A module that changes nothing. A method overrides the taps that it uses; `Taps` (taps.py) says what each is
    given.

    `in_common` names parameters that the modules of all tasks share although each task has a module of its own.
    """

    in_common: tuple[str, ...] = ()

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
        """The width that after_pooling turns this width into; raises Mistake if the module cannot serve the task."""
        return width

    def borrow(self, name: str, parameter: nn.Parameter) -> None:
        """Use this parameter, which another part of the model owns, in place of the module's own of that name."""
        delattr(self, name)
        # nn.Module registers every parameter that is assigned to it, and state_dict would then save it once per task
        # under different names. A plain attribute is the only reference that torch does not register and that methods
        # can still read as self.name; copy.deepcopy and .to() keep it the same object as the owner's.
        object.__setattr__(self, name, parameter)

    def merge_into(self, encoder: Encoder) -> None:
        """Add what the module does to the weights of an encoder, which then needs no module.

        Raises Mistake if the weights cannot express it.
        """
        raise Mistake("it cannot be merged into the weights of an encoder")


@dataclass(frozen=True)
class ModulePlan:
    """One entry of the recipe's `modules:` with all its options; without `tasks` it serves every task."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: Sequence[str] | None = None
    shared: bool = False
