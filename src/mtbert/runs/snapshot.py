"""A model and what trains it as they were at one instant, to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mtbert.model.multitask import MultiTask
from mtbert.training.trainer import Trainer


class Snapshot(NamedTuple):
    """The tensors of a model and of what trains it, as they were at one instant."""

    model: dict[str, Tensor]
    trainer: dict[str, Tensor]

    @classmethod
    def of(cls, model: MultiTask, trainer: Trainer) -> Snapshot:
        """A copy of both."""
        return cls(copied(model.state_dict()), copied(trainer.state()))

    def restored(self, model: MultiTask, trainer: Trainer) -> Snapshot:
        """Put both back to what they were, and return the snapshot for the next time."""
        model.load_state_dict(self.model)
        trainer.load(copied(self.trainer))
        return self


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in memory of their own."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
