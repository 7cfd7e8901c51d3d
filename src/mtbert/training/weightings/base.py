"""What every loss weighting has in common: it says how much each task's loss counts in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from mtbert.data.kinds.base import Task

Losses = Callable[[], Mapping[str, Tensor]]


class Weighting:
    """Multiplies each task's loss, given the stage's tasks and the parameters of the last layer that they share.

    The weight that a task has in the recipe multiplies the result, whatever the method. A weighting may have
    parameters, which the stage's optimizer trains; everything else that it remembers belongs to its state. `shared` is
    empty if the tasks share nothing that learns.
    """

    def __init__(self, tasks: Mapping[str, Task], shared: Sequence[nn.Parameter]) -> None:
        self.tasks = dict(tasks)
        self.shared = list(shared)
        # what all processes that compute the batch have of something, such as a gradient; the objective says how
        self.summed: Callable[[Tensor], Tensor] = lambda own: own

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        """The weighted loss of a batch, given the plain one: a scalar in the same graph."""
        raise NotImplementedError

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that it trains with the model, by name."""
        return {}

    def after_step(self, losses_again: Losses) -> None:
        """Called after each step; `losses_again` computes the plain losses of its batches again, without gradients."""

    def end_epoch(self) -> None:
        """Called at the end of each epoch of the stage."""

    def state(self) -> dict[str, Tensor]:
        """Everything that it remembers, as tensors by name."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, to go on as the weighting that it came from."""
