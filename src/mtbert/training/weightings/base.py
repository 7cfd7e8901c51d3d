"""What every loss weighting has in common: how much each task's loss counts in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from mtbert.data.tasks import Task

Losses = Callable[[], Mapping[str, Tensor]]


class Weighting:
    """Made from the stage's tasks and the parameters of the last layer that they share (none where nothing is).

    The weight that a task has in the recipe multiplies whatever the method says. Parameters of the weighting's own
    learn with the stage's optimizer; what else it remembers is its state.
    """

    def __init__(self, tasks: Mapping[str, Task], shared: Sequence[nn.Parameter]) -> None:
        self.tasks = dict(tasks)
        self.shared = list(shared)

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        """The loss of one batch as it counts: a scalar of the same graph."""
        raise NotImplementedError

    def parameters(self) -> dict[str, nn.Parameter]:
        """What it learns by gradient, by name."""
        return {}

    def after_step(self, losses_again: Losses) -> None:
        """A step is done; `losses_again` gives the unweighted losses of its batches anew, without gradients."""

    def end_epoch(self) -> None:
        """An epoch of the stage is over."""

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
