"""Learning from what other models say: their outputs as soft targets beside the labels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.schedules import Varied


class Distillation:
    """(1 - share) * the loss of the label + share * the distance from the teachers, for each example; for one without a
    label the second part alone.

    Of classes the distance is KL(teachers || model), both softened by the temperature and multiplied by its square, so
    that its gradient keeps its size (Hinton et al., 2015); of everything else the task's divergence. A share that falls
    from 1 to 0 is the teacher annealing of Clark et al. (2019).

    Source: Hinton et al., 2015, section 2, https://arxiv.org/abs/1503.02531
    Source: Clark et al., 2019, section 3, https://arxiv.org/abs/1907.04829
    """

    def __init__(self, ask: Callable[[], object], share: Varied, temperature: float) -> None:
        self.start = ask  # the teachers, when the stage begins; what they said stands in its batches
        self.share = share
        self.temperature = temperature

    def losses(self, task: Task, batch: Batch, outputs: Tensor, losses: Tensor, progress: float) -> Tensor:
        """The losses of a batch's examples (B,), given those of its labels, as many as there are."""
        assert batch.taught is not None  # a stage that learns from teachers draws from sets that they were asked about
        # where words have outputs, those of a batch are as wide as its own longest text
        taught = batch.taught[:, : outputs.shape[1]]
        share = min(self.share(progress), 1.0)
        hard, soft = (1 - share) * losses, share * distance(task, outputs, taught, self.temperature)
        return soft + hard if batch.labelled is None else soft.index_add(0, batch.labelled, hard)


def distance(task: Task, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far outputs are from those of a teacher: (B, outputs), (B, outputs) -> (B,)."""
    ours = task.log_probabilities(outputs / temperature)
    theirs = task.log_probabilities(taught / temperature)
    if ours is None or theirs is None:
        return task.divergence(outputs, taught)
    return (theirs.exp() * (theirs - ours)).sum(-1) * temperature**2
