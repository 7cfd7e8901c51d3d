"""From the losses of one step to one gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

from mtbert.registry import Registry


class Combiner(Protocol):
    """Leaves the step's gradient on the parameters."""

    def __call__(self, losses: Iterable[Tensor], parameters: Sequence[nn.Parameter]) -> None:
        """Draw the tasks' losses one by one, each with its graph, and set every parameter's `grad`."""


class Sum:
    """The gradient of the summed losses; one graph is alive at a time."""

    def __call__(self, losses: Iterable[Tensor], parameters: Sequence[nn.Parameter]) -> None:
        for loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]


COMBINERS: Registry[Combiner] = Registry("combiner", {"sum": Sum})
