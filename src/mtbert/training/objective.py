"""What a step minimises: the task's loss, its weight, and the penalties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.frozen import AnyModel
from mtbert.training.regularizers import CleanPass, Regularizer


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of."""

    total: Tensor
    terms: dict[str, float]


class Objective:
    """weight of the task * mean loss of its batch + penalties."""

    def __init__(self, model: AnyModel, regularizers: Mapping[str, Regularizer]) -> None:
        self.model = model
        self.regularizers = regularizers

    def __call__(self, batch: Batch) -> Loss:
        task = self.model.tasks[batch.task]
        if batch.targets is None:
            raise Mistake(f"task '{batch.task}' has no labels to learn from")
        embeddings = self.model.embed(batch)
        clean = CleanPass(embeddings, self.model.resume(embeddings, batch))
        terms = {"loss": task.losses(clean.outputs, batch.targets).mean()}
        terms |= {name: one.penalty(self.model, batch, clean) for name, one in self.regularizers.items()}
        total = terms["loss"] * task.weight + sum(value for name, value in terms.items() if name != "loss")
        return Loss(total, {name: float(value.detach()) for name, value in terms.items()})
