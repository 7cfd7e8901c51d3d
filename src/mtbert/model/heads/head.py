"""Heads: from the features of an example to the outputs of its task, (B, F) -> (B, outputs)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.dropout import Dropout
from mtbert.model.heads.beside import Beside, Name, width_beside
from mtbert.registry import Registry

LEAST_STEP = 1e-4  # between two thresholds, so that no class is impossible
Activation = Literal["none", "relu", "leaky_relu", "gelu", "tanh"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
}


@runtime_checkable
class BeginsAt(Protocol):
    """A head whose outputs can be shifted as a whole."""

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (outputs,) for features of 0."""


class Linear(nn.Module):
    """Dropout and a linear layer: logits of the classes, or the score as it is. An `activation` comes before both.

    With `beside` the layer also reads, behind dropout, what the encoder before training makes of each text by itself:
    of a pair `cosine`, `difference` (abs(u - v)) or `product` (u * v), of a pair or one text `vector`, the vectors as
    they are. A fresh layer does not use them yet. A frozen copy of that encoder is then part of the model.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        features: int,
        *,
        activation: Activation = "none",
        beside: Beside = [],  # noqa: B006
    ) -> None:
        super().__init__()
        self.prepare(task)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(task.dropout)
        self.features = features
        self.output = nn.Linear(features + width_beside(task, width, beside), self._logits(task))
        with torch.no_grad():
            self.output.weight[:, features:] = 0

    def prepare(self, task: Task) -> None:
        """Note what is needed of the task; raises Mistake where the head is not for such."""

    def forward(self, features: Tensor) -> Tensor:
        own, beside = features[..., : self.features], features[..., self.features :]
        read = self.dropout(self.activation(own))
        outputs: Tensor = self.output(torch.cat([read, beside], dim=-1) if beside.shape[-1] else read)
        return outputs

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (outputs,) for features of 0."""
        with torch.no_grad():
            self.output.bias.copy_(outputs)

    def _logits(self, task: Task) -> int:
        return task.outputs


class OneLogit(Linear):
    """A linear head of a task with two classes that has one logit, which is the second class's; the first one's is 0.

    The softmax over both is the logistic function of the logit z. So the cross-entropy is the binary one, and the
    divergence of two outputs the Bernoulli one, (sigmoid(u) - sigmoid(v)) * (u - v), which is 0 only where they agree.
    """

    def prepare(self, task: Task) -> None:
        if not task.binary:
            raise Mistake(f"task '{task.name}': head 'one_logit' is for two classes, and this task says {task.meaning}")

    def forward(self, features: Tensor) -> Tensor:
        logit = super().forward(features)  # (B, 1)
        return torch.cat([torch.zeros_like(logit), logit], dim=-1)  # (B, 2)

    def begin_at(self, outputs: Tensor) -> None:
        """Give the difference of these outputs (2,) for features of 0."""
        super().begin_at(outputs[1:] - outputs[:1])

    def _logits(self, task: Task) -> int:
        return 1


class Sigmoid(Linear):
    """A linear head whose score is squashed into the range."""

    def prepare(self, task: Task) -> None:
        _needs_a_score(task, "sigmoid")
        self.low, self.high = task.ends

    def forward(self, features: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(super().forward(features))

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (1,) for features of 0; the ends of the range as nearly as a thousandth of it."""
        share = (outputs - self.low) / (self.high - self.low)
        super().begin_at(share.clamp(0.001, 0.999).logit())


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
        self.low, self.high = task.ends

    def forward(self, features: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * self.cosine(features)

    def cosine(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, 1)."""
        u, v = features[:, : self.width], features[:, self.width : 2 * self.width]
        return F.cosine_similarity(u, v, dim=-1, eps=1e-8)[:, None]


class Cosine01(Cosine):
    """The cosine moved from [-1, 1] to [0, 1]."""

    def cosine(self, features: Tensor) -> Tensor:
        return (super().cosine(features) + 1) / 2


class Thresholds(nn.Module):
    """One score and thresholds in ascending order, of an ordinal task: logit k is the score less threshold k.

    So the probability that the class lies above k never rises with k (McCullagh, 1980).

    Source: McCullagh, 1980, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x
    """

    def __init__(self, task: Task, width: int, features: int, *, activation: Activation = "none") -> None:
        super().__init__()
        if not task.ordered:
            raise Mistake(f"task '{task.name}': head 'thresholds' is for `kind: ordinal` with `method: cumulative`")
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(task.dropout)
        self.output = nn.Linear(features, 1, bias=False)
        self.first = nn.Parameter(torch.zeros(1))
        self.steps = nn.Parameter(torch.zeros(task.outputs - 1))

    def forward(self, features: Tensor) -> Tensor:
        score = self.output(self.dropout(self.activation(features)))  # (B, 1)
        steps = F.softplus(self.steps) + LEAST_STEP
        outputs: Tensor = score - torch.cat([self.first, self.first + steps.cumsum(0)])  # (B, outputs)
        return outputs

    def begin_at(self, outputs: Tensor) -> None:
        """Give these outputs (outputs,), which descend, for features of 0."""
        steps = (outputs[:-1] - outputs[1:] - LEAST_STEP).clamp(min=1e-3)
        with torch.no_grad():
            self.first.copy_(-outputs[:1])
            self.steps.copy_(torch.log(torch.expm1(steps)))


HEADS: Registry[nn.Module] = Registry(
    "head",
    {
        "linear": Linear,
        "one_logit": OneLogit,
        "sigmoid": Sigmoid,
        "cosine": Cosine,
        "cosine01": Cosine01,
        "thresholds": Thresholds,
    },
)


def beside_of(task: Task) -> list[Name]:
    """The features that a task's head reads beside the vector."""
    names: list[Name] = HEADS.choose(task.head).options.get("beside", [])
    return names


def read_apart(tasks: Iterable[Task]) -> list[str]:
    """The tasks whose texts the original encoder reads too, as their heads ask for features beside the vector."""
    return [task.name for task in tasks if beside_of(task)]


def _needs_a_score(task: Task, head: str) -> None:
    if not task.scored:
        raise Mistake(f"task '{task.name}': head '{head}' gives a score, not classes; use `head: linear`")
