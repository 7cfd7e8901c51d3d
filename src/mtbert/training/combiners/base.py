"""What every combiner has in common: it turns the losses of a step into one gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from mtbert.model.world import ALONE
from mtbert.training.gramian import Gradients, Matrix, Vector, gramian, weighted_sum


class Combiner:
    """Sets the gradient of every parameter from the losses of a step.

    Where the losses of more than one task of the step depend on a parameter, their gradients are combined; a parameter
    that a single task reaches, such as its head, keeps that task's gradient. Memory holds one copy of the gradients per
    task, and the combination is written over one of them.

    A method defines `weights` if inner products of the gradients are all it needs, and otherwise `combine`.

    >>> from mtbert.training.combiners.plain import Mean
    >>> shared = nn.Parameter(Tensor([1.0]))
    >>> Mean()([("mood", 2 * shared.sum()), ("paraphrase", 4 * shared.sum())], {"shared": shared})
    >>> shared.grad
    tensor([3.])
    """

    world = ALONE  # the processes whose gradients are added up, task by task, before they are combined
    needs_several = True  # whether it makes no difference when every step has a single task
    by_task = True  # whether it tells the tasks' losses apart; where not, their sum may come as one
    one_graph = False  # whether losses of a step have a pass in common, whose graph then lasts for all of them

    def __call__(self, losses: Iterable[tuple[str, Tensor]], parameters: Mapping[str, nn.Parameter]) -> None:
        """Set the `grad` of every parameter that the losses depend on; each loss comes with its task, and with its
        graph.

        Losses are taken one at a time, so that one graph is freed before the next is built. A task may come more than
        once, where gradients are accumulated; its losses are then added up.
        """
        gradients, tasks = _collect(losses, parameters, self.one_graph)
        self.world.sum_all(gradient for by_task in gradients.values() for gradient in by_task.values())
        alone = {name: by_task for name, by_task in gradients.items() if len(by_task) == 1}
        shared = {name: by_task for name, by_task in gradients.items() if len(by_task) > 1}
        for name, by_task in alone.items():
            parameters[name].grad = next(iter(by_task.values()))
        for name, gradient in self.combine(shared, tasks).items():
            parameters[name].grad = gradient

    def combine(self, gradients: Gradients, tasks: Sequence[str]) -> dict[str, Tensor]:
        """The combined gradient of each shared parameter. The gradients that are given may be overwritten."""
        return combine_by_gramian(gradients, tasks, self.weights)

    def weights(self, gramian: Matrix) -> Vector:
        """The weight of each task's gradient, from the inner products of all, scaled to trace 1: (K, K) -> (K,)."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What it remembers from step to step, as tensors by name."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, to go on as the combiner that it came from."""


def combine_by_gramian(
    gradients: Gradients, tasks: Sequence[str], weights: Callable[[Matrix], Vector]
) -> dict[str, Tensor]:
    """The sum of the tasks' gradients with the weights that their inner products give."""
    products = gramian(gradients, tasks)
    size = np.trace(products)
    # gradients of 0 have no direction; those that are nan or inf are passed on, so that the trainer reports the step
    known = np.isfinite(products).all() and size > 0
    given = weights(products / size) if known else np.ones(len(tasks))
    return weighted_sum(gradients, dict(zip(tasks, given.tolist(), strict=True)))


def _collect(
    losses: Iterable[tuple[str, Tensor]], parameters: Mapping[str, nn.Parameter], one_graph: bool
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Parameter -> task -> gradient, and the tasks in the order in which they first came."""
    gradients: dict[str, dict[str, Tensor]] = {name: {} for name in parameters}
    tasks: dict[str, None] = {}
    for task, loss in losses:
        tasks[task] = None
        for name, p in parameters.items():
            p.grad = gradients[name].pop(task, None)  # autograd adds to what the task already has
        loss.backward(retain_graph=one_graph)  # type: ignore[no-untyped-call]
        for name, p in parameters.items():
            if p.grad is not None:
                gradients[name][task] = p.grad.contiguous()
                p.grad = None
    return gradients, list(tasks)
