"""Heads: from the features of an example to the outputs of its task, (B, F) -> (B, outputs)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.tasks import Task
from mtbert.errors import Mistake
from mtbert.model.dropout import Dropout
from mtbert.registry import Registry


@runtime_checkable
class BeginsAt(Protocol):
    """A head whose outputs can be shifted as a whole."""

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (outputs,) for features of 0."""


class Linear(nn.Module):
    """Dropout and a linear layer: logits of the classes, or the score as it is."""

    def __init__(self, task: Task, width: int, features: int) -> None:
        super().__init__()
        self.dropout = Dropout(task.dropout)
        self.output = nn.Linear(features, task.outputs)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.dropout(features))
        return outputs

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (outputs,) for features of 0."""
        with torch.no_grad():
            self.output.bias.copy_(outputs)


class Sigmoid(Linear):
    """A linear head whose score is squashed into the range."""

    def __init__(self, task: Task, width: int, features: int) -> None:
        _needs_a_score(task, "sigmoid")
        super().__init__(task, width, features)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(features))

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (1,) for features of 0; the ends of the range as nearly as a thousandth of it."""
        super().begin_at(outputs.clamp(0.001, 0.999).logit())


class Cosine(nn.Module):
    """The cosine of two texts encoded apart, without parameters; 1 is the top of the range, 0 its bottom."""

    def __init__(self, task: Task, width: int, features: int) -> None:
        super().__init__()
        _needs_a_score(task, "cosine")
        if task.sequences == 1:
            raise Mistake(f"task '{task.name}': a cosine head compares two texts encoded apart: set `pairs: separate`")
        if features < 2 * width:
            raise Mistake(
                f"task '{task.name}': a cosine head compares the vectors of two texts, and a task module has put one "
                "vector in their place; use `head: sigmoid` or `head: linear`"
            )
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        u, v = features[:, : self.width], features[:, self.width : 2 * self.width]
        return F.cosine_similarity(u, v, dim=-1, eps=1e-8)[:, None]


class Cosine01(Cosine):
    """The cosine moved from [-1, 1] to [0, 1]."""

    def forward(self, features: Tensor) -> Tensor:
        return (super().forward(features) + 1) / 2


HEADS: Registry[nn.Module] = Registry(
    "head", {"linear": Linear, "sigmoid": Sigmoid, "cosine": Cosine, "cosine01": Cosine01}
)


def _needs_a_score(task: Task, head: str) -> None:
    if not task.scored:
        raise Mistake(f"task '{task.name}': head '{head}' gives a score, not classes; use `head: linear`")
