"""Observers measure something every few steps of training, for the run's log.

An observer does not change the run: it draws batches of its own, and leaves weights, gradients and random states as
they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.devices import autocast
from mtbert.model.modes import evaluating
from mtbert.model.parameters.names import part_of
from mtbert.registry import Count, Registry, Share
from mtbert.training.cosines import cosines
from mtbert.training.trainer import Trainer

OWN = 7_919  # seeds the observers' streams, so that they differ from those that train


class Observer:
    """Measures something about a trainer between two of its steps, once in `every` steps."""

    every: int

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.model = trainer.objective.model
        self._streams = {
            task: stream.reshuffled((OWN, number)) for number, (task, stream) in enumerate(trainer.streams.items())
        }

    def look(self) -> dict[str, Any]:
        """What it measures now, as a line of the log can hold it."""
        raise NotImplementedError

    def batches(self, count: int = 1) -> dict[str, list[Batch]]:
        """`count` batches of every task, which depend on the step alone, so that a resumed run draws the same."""
        drawn = {}
        for task, stream in self._streams.items():
            stream.position = self.trainer.step // self.every * count
            drawn[task] = [stream.draw().to(self.trainer.device) for _ in range(count)]
        return drawn

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of the batch, without its task's weight and without penalties."""
        targets = batch.targets
        assert targets is not None  # a stage trains on labelled sets only
        return self.model.tasks[batch.task].losses(self.model(batch), targets).mean()


class Conflict(Observer):
    """The cosines between the tasks' gradients in each part of the model, with dropout off.

    A cosine below 0 means that two tasks pull the parameters in opposite directions, above 0 that they pull in the same
    direction. Each time this costs a forward and backward pass over `batches` batches of every task, and memory for one
    copy of the gradients per task.

    Source: Yu et al., 2020, definition 1, https://arxiv.org/abs/2001.06782
    """

    def __init__(self, trainer: Trainer, *, every: Count = 50, batches: Count = 1) -> None:
        super().__init__(trainer)
        self.every = every
        self.count = batches
        self._parameters = _shared(trainer)

    def look(self) -> dict[str, Any]:
        names, values = list(self._parameters), list(self._parameters.values())
        with _undisturbed(self.model):
            gradients = {
                task: torch.autograd.grad(sum(self.loss(batch) for batch in some), values, allow_unused=True)  # type: ignore[arg-type]
                for task, some in self.batches(self.count).items()
            }
        return {"tasks": list(gradients), "cosines": cosines(gradients, names)}


class Affinity(Observer):
    """How much a step on one task lowers the loss of each other task.

    affinity[i][j] = 1 - loss of j after a step against the gradient of i / loss of j before it. The step moves only
    what the tasks share, and so far that the loss of i falls by the share `reach` to first order. Each time this costs
    a forward and backward pass per task and a forward pass for every pair of tasks.

    Source: Fifty et al., 2021, https://arxiv.org/abs/2109.04617
    """

    def __init__(self, trainer: Trainer, *, every: Count = 10, reach: Share = 0.1) -> None:
        super().__init__(trainer)
        self.every = every
        self.reach = reach
        self._parameters = list(_shared(trainer).values())

    def look(self) -> dict[str, Any]:
        batches = {task: some[0] for task, some in self.batches().items()}
        with _undisturbed(self.model):
            before = {task: float(self.loss(batch).detach()) for task, batch in batches.items()}
            return {
                "tasks": list(batches),
                "affinity": [
                    [1 - after[other] / before[other] if before[other] else 0.0 for other in batches]
                    for after in (self._after_step(task, batches) for task in batches)
                ],
            }

    def _after_step(self, task: str, batches: dict[str, Batch]) -> dict[str, float]:
        """Every task's loss after a step on this task, which is undone."""
        loss = self.loss(batches[task])
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        reached = [(p, g) for p, g in zip(self._parameters, gradients, strict=True) if g is not None]
        squares = sum(float(g.double().square().sum()) for _, g in reached)
        length = self.reach * float(loss.detach()) / squares if squares else 0.0
        saved = [p.detach().clone() for p, _ in reached]
        with torch.no_grad():
            for p, g in reached:
                p.sub_(g, alpha=length)
            after = {other: float(self.loss(batch)) for other, batch in batches.items()}
            for (p, _), old in zip(reached, saved, strict=True):
                p.copy_(old)
        return after


class Penalties(Observer):
    """How much of each task's gradient comes from its loss and from each penalty; a term near 0 does nothing.

    Each term's norm is given as a share of the sum of all terms' norms, with dropout as in training. Each time this
    costs as much as a step per task, and another backward pass per penalty.
    """

    def __init__(self, trainer: Trainer, *, every: Count = 100) -> None:
        super().__init__(trainer)
        self.every = every

    def look(self) -> dict[str, Any]:
        trainer = self.trainer
        with autocast(trainer.device, trainer.precision):
            return {
                task: trainer.objective.gradient_shares(some[0], trainer.progress)
                for task, some in self.batches().items()
            }


OBSERVERS: Registry[Observer] = Registry(
    "observer", {"conflict": Conflict, "affinity": Affinity, "penalties": Penalties}
)


def _shared(trainer: Trainer) -> dict[str, nn.Parameter]:
    """The parameters that the tasks share and the stage trains, by name; raises Mistake if there are none."""
    shared = {
        name: p
        for name, p in trainer.objective.model.named_parameters()
        if p.requires_grad and part_of(name) == "encoder"
    }
    if not shared or len(trainer.streams) < 2:
        raise Mistake("there is nothing to observe: the stage needs two tasks and an encoder that trains")
    return shared


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Turn dropout off inside the block, and restore modes and random states afterwards."""
    with evaluating(model), torch.random.fork_rng(), torch.enable_grad():
        yield
