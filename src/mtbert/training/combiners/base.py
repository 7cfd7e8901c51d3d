"""What every combiner has in common: from the losses of one step to one gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from mtbert.training.gramian import Gradients, Matrix, Vector, gramian, weighted_sum


class Combiner:
    """Leaves the step's gradient on the parameters.

    What the tasks share are the parameters that the gradient of more than one task of the step reached: there their
    gradients are combined. What one task alone reached, its head for instance, keeps that task's gradient. One copy of
    the gradients is held a task, and the combination takes the place of one of them.

    A method is `weights`, where it needs no more than how the gradients lie to each other, or else `combine`.
    """

    needs_several = True  # whether it does nothing where a step has one task

    def __call__(self, losses: Iterable[tuple[str, Tensor]], parameters: Mapping[str, nn.Parameter]) -> None:
        """Draw losses one by one, each with its task and graph, and set the `grad` of every parameter they reach.

        A task comes more than once where gradients are accumulated: its losses then count as one.
        """
        gradients, tasks = _collect(losses, parameters)
        alone = {name: by_task for name, by_task in gradients.items() if len(by_task) == 1}
        shared = {name: by_task for name, by_task in gradients.items() if len(by_task) > 1}
        for name, by_task in alone.items():
            parameters[name].grad = next(iter(by_task.values()))
        for name, gradient in self.combine(shared, tasks).items():
            parameters[name].grad = gradient

    def combine(self, gradients: Gradients, tasks: Sequence[str]) -> dict[str, Tensor]:
        """One gradient for each of the shared parameters; those given may be overwritten."""
        return combine_by_gramian(gradients, tasks, self.weights)

    def weights(self, gramian: Matrix) -> Vector:
        """How much each task's gradient counts, from their inner products, scaled to trace 1: (K, K) -> (K,)."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What it remembers from step to step."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


def combine_by_gramian(
    gradients: Gradients, tasks: Sequence[str], weights: Callable[[Matrix], Vector]
) -> dict[str, Tensor]:
    """The sum of the tasks' gradients, weighted by how they lie to each other."""
    products = gramian(gradients, tasks)
    size = np.trace(products)
    # zero gradients have no direction, and of those that are no numbers the trainer says in which step they came
    known = np.isfinite(products).all() and size > 0
    given = weights(products / size) if known else np.ones(len(tasks))
    return weighted_sum(gradients, dict(zip(tasks, given.tolist(), strict=True)))


def _collect(
    losses: Iterable[tuple[str, Tensor]], parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Parameter -> task -> gradient, and the tasks as they first came."""
    gradients: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    tasks: dict[str, None] = {}
    for task, loss in losses:
        tasks[task] = None
        for name, p in parameters.items():
            p.grad = gradients[name].pop(task, None)  # so that autograd adds to what the task has already
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in parameters.items():
            if p.grad is not None:
                gradients[name][task] = p.grad.contiguous()
                p.grad = None
    return gradients, list(tasks)
