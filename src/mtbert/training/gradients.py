"""From the losses of one step to one gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from mtbert.registry import Registry


class Combiner:
    """Leaves the step's gradient on the parameters."""

    needs_several = False  # whether it does nothing where a step has one task

    def __call__(self, losses: Iterable[tuple[str, Tensor]], parameters: Sequence[nn.Parameter]) -> None:
        """Draw losses one by one, each with its task and graph, and set the `grad` of every parameter they reach.

        A task comes more than once where gradients are accumulated: its losses then count as one.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What it remembers from step to step."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class Sum(Combiner):
    """The gradient of the summed losses; one graph is alive at a time."""

    def __call__(self, losses: Iterable[tuple[str, Tensor]], parameters: Sequence[nn.Parameter]) -> None:
        for _, loss in losses:
            loss.backward()  # type: ignore[no-untyped-call]


COMBINERS: Registry[Combiner] = Registry("combiner", {"sum": Sum})
