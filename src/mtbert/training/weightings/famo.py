"""Weights that let all losses fall at the same rate, computed from the losses alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.registry import NonNegative, Positive
from mtbert.training.optimizer import AdamW
from mtbert.training.weightings.base import Losses, Weighting

NOT_ZERO = 1e-8  # added to losses before their logarithm


class FAMO(Weighting):
    """The less a task's loss falls in a step, as a share of itself, the more it counts.

    The weight of loss k is z_k / loss_k, divided by the sum of these over the tasks, with z = softmax(logits). After
    each step the losses of its batches are computed again, which costs a forward pass, and the logits move by Adam with
    L2 `decay`. As losses come one at a time, the sum is taken from the step before, so that the weights add up to 1
    only where losses hold still; until all tasks have been seen, the weights are z. A task with several batches in a
    step counts with their mean, before and after; one that a step leaves out counts as if its loss had not moved.

    Source: Liu et al., 2023, algorithm 1, https://arxiv.org/abs/2306.03792
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        shared: Sequence[nn.Parameter],
        *,
        rate: Positive = 0.025,
        decay: NonNegative = 1e-3,
    ) -> None:
        super().__init__(tasks, shared)
        self.decay = decay
        self._logits = nn.Parameter(torch.zeros(len(tasks), dtype=torch.float64))
        self._optimizer = AdamW([("logits", self._logits)], lr=rate, epsilon=1e-8)
        self._index = {task: index for index, task in enumerate(tasks)}
        self._losses = torch.full((len(tasks),), torch.nan, dtype=torch.float64)  # means over the last step's batches
        self._batches = [0] * len(tasks)  # of each task, in the step under way
        self._sum = torch.tensor(torch.nan, dtype=torch.float64)  # of z_k / loss_k, once all tasks have been seen

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        index = self._index[task]
        seen = self._batches[index]
        before = self._losses[index] if seen else 0.0
        self._losses[index] = (before * seen + loss.item()) / (seen + 1)
        self._batches[index] = seen + 1
        weight = self._shares[index]
        if not self._sum.isnan():
            weight = weight / (self._losses[index] + NOT_ZERO) / self._sum
        return self.tasks[task].weight * weight.item() * loss

    @torch.no_grad()
    def after_step(self, losses_again: Losses) -> None:
        fallen = torch.zeros_like(self._losses)
        for task, loss in losses_again().items():
            index = self._index[task]
            fallen[index] = torch.log(self._losses[index] + NOT_ZERO) - torch.log(loss.double().cpu() + NOT_ZERO)
        shares = self._shares
        self._logits.grad = shares * (fallen - shares @ fallen) + self.decay * self._logits
        self._optimizer.step()
        self._optimizer.clear()
        self._batches = [0] * len(self._batches)
        self._sum = (self._shares / (self._losses + NOT_ZERO)).sum()  # nan until every task has been seen

    def state(self) -> dict[str, Tensor]:
        optimizer = {f"optimizer.{key}": tensor for key, tensor in self._optimizer.state().items()}
        return {"logits": self._logits.detach(), "losses": self._losses, "sum": self._sum} | optimizer

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        self._logits.copy_(state["logits"])
        self._losses, self._sum = state["losses"].clone(), state["sum"].clone()
        inner = {key.removeprefix("optimizer."): t for key, t in state.items() if key.startswith("optimizer.")}
        self._optimizer.load(inner)

    @property
    def _shares(self) -> Tensor:
        return torch.softmax(self._logits.detach(), dim=0)
