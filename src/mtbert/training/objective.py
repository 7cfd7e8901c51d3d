"""What a step minimises: the task's loss, as the weighting counts it, and the penalties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.frozen import AnyModel
from mtbert.training.regularizers import CleanPass, Regularizer
from mtbert.training.state import Stateful, gather, scatter
from mtbert.training.weighting import Weighting


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of."""

    total: Tensor
    terms: dict[str, float]


class Objective:
    """weighting(loss of the batch) + penalties.

    The loss of a batch is the mean over its examples; with a `divisor` their sum over that number instead, so that
    small batches count for less.
    """

    def __init__(
        self,
        model: AnyModel,
        regularizers: Mapping[str, Regularizer],
        weighting: Weighting,
        divisor: int | None = None,
    ) -> None:
        self.model = model
        self.regularizers = regularizers
        self.weighting = weighting
        self.divisor = divisor

    def __call__(self, batch: Batch, progress: float) -> Loss:
        """The loss of one batch; raises Mistake where it has no labels."""
        embeddings = self.model.embed(batch)
        clean = CleanPass(embeddings, self.model.resume(embeddings, batch))
        terms = {"loss": self._task_loss(batch, clean.outputs)}
        terms |= {name: one.penalty(self.model, batch, clean, progress) for name, one in self.regularizers.items()}
        total = self.weighting(batch.task, terms["loss"])
        total = total + sum(value for name, value in terms.items() if name != "loss")
        return Loss(total, {name: float(value.detach()) for name, value in terms.items()})

    def start(self) -> None:
        """The stage begins with the model as it is now."""
        for one in self.regularizers.values():
            one.start(self.model)

    def after_step(self, batches: Sequence[Batch], progress: float) -> None:
        """The optimizer has moved the model on these batches."""
        for one in self.regularizers.values():
            one.after_step(self.model, progress)
        self.weighting.after_step(lambda: self._losses_again(batches))

    def state(self) -> dict[str, Tensor]:
        """Everything beside the model's weights that is needed to go on."""
        return gather(self._parts)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        scatter(self._parts, state)

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {"weighting": self.weighting, **self.regularizers}

    def _task_loss(self, batch: Batch, outputs: Tensor) -> Tensor:
        if batch.targets is None:
            raise Mistake(f"task '{batch.task}' has no labels to learn from")
        losses = self.model.tasks[batch.task].losses(outputs, batch.targets)
        return losses.mean() if self.divisor is None else losses.sum() / self.divisor

    @torch.no_grad()
    def _losses_again(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        return {batch.task: self._task_loss(batch, self.model(batch)) for batch in batches}
