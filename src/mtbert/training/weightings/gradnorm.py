"""Weights that make the tasks' gradients about equally long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.registry import NonNegative, Positive
from mtbert.training.optimizer import AdamW
from mtbert.training.weightings.base import Weighting

LEAST = 1e-3  # weights stay positive, so that no task is ever trained in reverse


class GradNorm(Weighting):
    """Weights that make the tasks' gradients equally long, but longer for tasks that lag behind.

    Lengths are measured at the last layer that the tasks share, which costs a backward pass through it. How far a task
    lags is its loss as a share of its first loss, relative to the mean of all tasks, to the power `restoring`. Once
    every task has been seen, the weights learn by Adam at `rate` after each step, and add up to the number of tasks. A
    task that a step leaves out counts with the loss and length that it had last.

    Source: Chen et al., 2018, algorithm 1, https://arxiv.org/abs/1711.02257
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        shared: Sequence[nn.Parameter],
        *,
        restoring: NonNegative = 1.5,
        rate: Positive = 0.025,
    ) -> None:
        super().__init__(tasks, shared)
        if not shared:
            raise Mistake(
                "loss weighting 'gradnorm' compares gradients at the encoder's last layer, which does not learn here: "
                "let the stage `train: all`, or take 'uncertainty', 'dwa' or 'famo'"
            )
        self.restoring = restoring
        self._weights = nn.Parameter(torch.ones(len(tasks), dtype=torch.float64))
        self._optimizer = AdamW([("weights", self._weights)], lr=rate, epsilon=1e-8)
        self._index = {task: index for index, task in enumerate(tasks)}
        not_seen = torch.full((len(tasks),), torch.nan, dtype=torch.float64)
        self._seen = {part: not_seen.clone() for part in ("first_losses", "losses", "norms")}

    def __call__(self, task: str, loss: Tensor) -> Tensor:
        index = self._index[task]
        if loss.requires_grad:
            self._look(index, loss)
        return self.tasks[task].weight * self._weights[index].item() * loss

    @torch.no_grad()
    def after_step(self, losses_again: object) -> None:
        norms = self._seen["norms"]
        if norms.isnan().any():
            return
        lengths = self._weights * norms
        wanted = wanted_norms(lengths, self._seen["losses"] / self._seen["first_losses"], self.restoring)
        # the gradient of sum_k |w_k norm_k - wanted_k|, in which wanted_k counts as a constant
        self._weights.grad = torch.sign(lengths - wanted) * norms
        self._optimizer.step()
        self._optimizer.clear()
        self._weights.clamp_(min=LEAST)
        self._weights.mul_(len(self.tasks) / self._weights.sum())

    def state(self) -> dict[str, Tensor]:
        optimizer = {f"optimizer.{key}": tensor for key, tensor in self._optimizer.state().items()}
        return {"weights": self._weights.detach()} | self._seen | optimizer

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        self._weights.copy_(state["weights"])
        self._seen = {part: state[part].clone() for part in self._seen}
        inner = {key.removeprefix("optimizer."): t for key, t in state.items() if key.startswith("optimizer.")}
        self._optimizer.load(inner)

    def _look(self, index: int, loss: Tensor) -> None:
        """Remember a task's loss and the length of its gradient at the shared layer."""
        gradients = torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True)
        whole = [self.summed(g) for g in gradients if g is not None]
        self._seen["norms"][index] = nn.utils.get_total_norm(whole).item()
        self._seen["losses"][index] = loss.item()
        if self._seen["first_losses"][index].isnan():
            self._seen["first_losses"][index] = loss.item()


def wanted_norms(norms: Tensor, losses: Tensor, restoring: float) -> Tensor:
    """The lengths that the weighted gradients should have: mean length x (loss / mean loss) ^ restoring, (K,).

    `norms` (K,) are the lengths they have, and `losses` (K,) the present losses as shares of the first ones.
    """
    return norms.mean() * (losses / losses.mean()) ** restoring
