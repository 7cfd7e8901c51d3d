"""Learning from what other models say: their outputs as soft targets beside the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.schedules import Varied


class Distillation:
    """(1 - share) * the loss of the label + share * the distance from the teachers, for each example.

    Of classes the distance is KL(teachers || model), both softened by the temperature and multiplied by its square, so
    that its gradient keeps its size (Hinton et al., 2015); of everything else the task's divergence. A share that falls
    from 1 to 0 is the teacher annealing of Clark et al. (2019).

    Source: Hinton et al., 2015, section 2, https://arxiv.org/abs/1503.02531
    Source: Clark et al., 2019, section 3, https://arxiv.org/abs/1907.04829
    """

    def __init__(self, taught: Callable[[], Mapping[str, Tensor]], share: Varied, temperature: float) -> None:
        self._read = taught
        self.share = share
        self.temperature = temperature
        self.taught: Mapping[str, Tensor] = {}  # task -> outputs of the teachers for its training rows (N, outputs)

    def start(self) -> None:
        """Ask the teachers, once; the stage begins."""
        self.taught = self.taught or self._read()

    def losses(self, task: Task, batch: Batch, outputs: Tensor, losses: Tensor, progress: float) -> Tensor:
        """The losses of a batch's examples, given those of its labels: (B,)."""
        # where words have outputs, those of a batch are as wide as its own longest text
        taught = self.taught[batch.task][torch.from_numpy(batch.own_rows), : outputs.shape[1]].to(outputs.device)
        share = min(self.share(progress), 1.0)
        return (1 - share) * losses + share * distance(task, outputs, taught, self.temperature)


def distance(task: Task, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far outputs are from those of a teacher: (B, outputs), (B, outputs) -> (B,)."""
    ours = task.log_probabilities(outputs / temperature)
    theirs = task.log_probabilities(taught / temperature)
    if ours is None or theirs is None:
        return task.divergence(outputs, taught)
    return (theirs.exp() * (theirs - ours)).sum(-1) * temperature**2
