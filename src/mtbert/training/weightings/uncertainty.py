"""Weights that are learned as the noise of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.training.weightings.base import Weighting


class Uncertainty(Weighting):
    """Divide each loss by its task's noise, which is learned with the model.

    With s the logarithm of a task's variance, a squared error L counts as exp(-s) L / 2 + s / 2, and a cross-entropy L
    as exp(-s) L + s / 2. Each s starts at 0 and moves only in steps that include its task, at the optimizer's learning
    rate. The rates of fine-tuning hardly move it, so give it a rate of its own: `optimizer: {rates: {weighting: 100}}`.

    Source: Kendall et al., 2018, section 3.2, https://arxiv.org/abs/1705.07115
    """

    def __init__(self, tasks: Mapping[str, Task], shared: Sequence[nn.Parameter]) -> None:
        super().__init__(tasks, shared)
        self._log_variances = {task: nn.Parameter(torch.zeros(())) for task in tasks}

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        log_variance = self._log_variances[task].to(loss.device)
        likelihood = self.tasks[task].in_likelihood * torch.exp(-log_variance) * loss + log_variance / 2
        return self.tasks[task].weight * likelihood

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._log_variances)

    def state(self) -> dict[str, Tensor]:
        return {task: log_variance.detach() for task, log_variance in self._log_variances.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for task, log_variance in self._log_variances.items():
            log_variance.copy_(state[task])
