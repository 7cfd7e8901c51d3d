"""What has to be saved of several parts, as one flat dictionary of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Stateful(Protocol):
    """A part that remembers something from step to step."""

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


def gather(parts: Mapping[str, Stateful]) -> dict[str, Tensor]:
    """The parts' states under 'part.key'."""
    return {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state().items()}


def scatter(parts: Mapping[str, Stateful], state: Mapping[str, Tensor]) -> None:
    """Give each part its own state back."""
    for name, part in parts.items():
        prefix = f"{name}."
        part.load({key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)})
