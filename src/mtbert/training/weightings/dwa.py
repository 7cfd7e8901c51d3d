"""Weights that depend on how fast the losses fall from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.registry import Positive
from mtbert.training.weightings.base import Weighting


class DynamicWeightAverage(Weighting):
    """The slower a task's loss fell over the last two epochs, the more it counts.

    Weights are the number of tasks x softmax(mean loss of the last epoch / mean loss of the epoch before /
    temperature). In the first two epochs they are 1, so that a stage of up to two epochs is not changed at all. Epochs
    are the stage's; a task that an epoch leaves out keeps the means it had.

    Source: Liu et al., 2019, https://arxiv.org/abs/1803.10704
    """

    def __init__(
        self, tasks: Mapping[str, Task], shared: Sequence[nn.Parameter], *, temperature: Positive = 2.0
    ) -> None:
        super().__init__(tasks, shared)
        self.temperature = temperature
        self._running = dict.fromkeys(tasks, (0.0, 0))  # sum and number of the epoch's losses
        self._means: dict[str, list[float]] = {task: [] for task in tasks}  # of the last two epochs
        self._weights = dict.fromkeys(tasks, 1.0)

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        total, count = self._running[task]
        self._running[task] = total + float(loss.detach()), count + 1
        return self.tasks[task].weight * self._weights[task] * loss

    def end_epoch(self) -> None:
        for task, (total, count) in self._running.items():
            if count:
                self._means[task] = [*self._means[task], total / count][-2:]
                self._running[task] = 0.0, 0
        self._weigh()

    def state(self) -> dict[str, Tensor]:
        state = {f"running.{task}": torch.tensor(some, dtype=torch.float64) for task, some in self._running.items()}
        return state | {f"means.{task}": torch.tensor(some, dtype=torch.float64) for task, some in self._means.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for task in self.tasks:
            total, count = state[f"running.{task}"].tolist()
            self._running[task] = total, int(count)
            self._means[task] = state[f"means.{task}"].tolist()
        self._weigh()

    def _weigh(self) -> None:
        """Compute the weights from the means of the last two epochs."""
        if any(len(means) < 2 for means in self._means.values()):
            self._weights = dict.fromkeys(self.tasks, 1.0)
            return
        # a loss of 0 could not fall any further
        rates = [last / before if before else 1.0 for before, last in self._means.values()]
        shares = torch.softmax(torch.tensor(rates, dtype=torch.float64) / self.temperature, dim=0)
        self._weights = dict(zip(self._means, (len(rates) * shares).tolist(), strict=True))
