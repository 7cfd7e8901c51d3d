"""A hidden layer that related tasks of pairs share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.dropout import Dropout
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import TaskModule
from mtbert.registry import NonNegative, Share


class Relational(TaskModule):
    """A rich relational layer: related tasks read their pairs through one hidden layer over [u; v; |u - v|; u * v].

    The product is that of u and v scaled to length 1. LeakyReLU(linear(dropout(features))) takes the place of the
    task's pair features, so the head reads one vector that is as wide as the encoder. It is meant to be shared
    (`shared: true`) by several tasks whose pairs are encoded apart (`pairs: separate`).

    Source: report 'Walk Less and Only Down Smooth Valleys'
    """

    def __init__(self, shape: Shape, *, dropout: Share = 0.3, slope: NonNegative = 0.01) -> None:
        super().__init__()
        self.width = shape.width
        self.slope = slope
        self.dropout = Dropout(dropout)
        self.relate = nn.Linear(4 * shape.width, shape.width)

    def after_pooling(self, features: Tensor, batch: Batch) -> Tensor:
        # all pair features begin with [u; v]
        u, v = features[:, : self.width], features[:, self.width : 2 * self.width]  # (B, D) each
        pair = torch.cat([u, v, (u - v).abs(), _unit(u) * _unit(v)], dim=-1)  # (B, 4 D)
        return F.leaky_relu(self.relate(self.dropout(pair)), self.slope)

    def feature_width(self, width: int, task: Task) -> int:
        if task.sequences == 1 or width < 2 * self.width:
            seen = "reads two texts as one sequence" if len(task.text) == 2 else "reads a single text"
            seen = "has the vectors of its two texts replaced by another module" if task.sequences == 2 else seen
            raise Mistake(
                f"task module 'relational' compares two texts encoded apart, and task '{task.name}' {seen}; set "
                "`pairs: separate` for a task of pairs, or limit the module to such tasks: `tasks: [...]`"
            )
        return self.width


def _unit(x: Tensor) -> Tensor:
    """Vectors scaled to length 1; a zero vector stays zero."""
    unit: Tensor = x / (x.norm(dim=-1, keepdim=True) + 1e-8)
    return unit
