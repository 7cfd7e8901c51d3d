"""Saving the states of several parts as one flat dictionary of tensors, and giving them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Stateful(Protocol):
    """A part of training that remembers something from step to step, which a resumed run needs."""

    def state(self) -> dict[str, Tensor]:
        """Everything that it remembers, as tensors by name."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, to go on as the part that it came from."""


def gather(parts: Mapping[str, Stateful]) -> dict[str, Tensor]:
    """The states of all parts in one dictionary, each tensor under 'part.name'."""
    return {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state().items()}


def scatter(parts: Mapping[str, Stateful], state: Mapping[str, Tensor]) -> None:
    """Give each part back its share of a gathered state."""
    for name, part in parts.items():
        prefix = f"{name}."
        part.load({key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)})
