"""From hidden states to a task's outputs: pooling, pair features, head."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.tasks import Classification, Task
from mtbert.errors import Mistake
from mtbert.model.dropout import Dropout
from mtbert.model.encoder import Encoder
from mtbert.registry import Registry

# ---- pooling: (S, L, D) -> (S, D)


def first_token(states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
    """The state of [CLS]."""
    return states[:, 0]


def pooler(states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
    """BERT's pooler: a pretrained linear layer and tanh on the state of [CLS] (Devlin et al., 2019)."""
    return encoder.pool(states[:, 0])


def mean(states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
    """The mean of all real tokens' states (Reimers and Gurevych, 2019)."""
    weights = batch.mask.to(states.dtype)
    return torch.einsum("sld,sl->sd", states, weights) / weights.sum(1, keepdim=True)


POOLINGS: Registry[Tensor] = Registry("pooling", {"mean": mean, "cls": first_token, "pooler": pooler})


# ---- features of a pair encoded apart: (B, D), (B, D) -> (B, n * D); all begin with [u; v]


def concat(u: Tensor, v: Tensor) -> Tensor:
    """[u; v]."""
    return torch.cat([u, v], dim=-1)


def difference(u: Tensor, v: Tensor) -> Tensor:
    """[u; v; |u - v|], as Sentence-BERT does (Reimers and Gurevych, 2019)."""
    return torch.cat([u, v, (u - v).abs()], dim=-1)


def product(u: Tensor, v: Tensor) -> Tensor:
    """[u; v; |u - v|; u * v] (Conneau et al., 2017)."""
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


FEATURES: Registry[Tensor] = Registry("pair features", {"concat": concat, "difference": difference, "product": product})


def feature_width(task: Task, width: int) -> int:
    """How wide the features are that a task's head reads, for an encoder of this width."""
    if task.sequences == 1:
        return width
    sample = torch.zeros(1, width)
    return int(FEATURES[task.features](sample, sample).shape[-1])


# ---- heads: (B, F) -> (B, outputs)


class Linear(nn.Module):
    """Dropout and a linear layer: logits of the classes, or the score as it is."""

    def __init__(self, task: Task, width: int, features: int) -> None:
        super().__init__()
        self.dropout = Dropout(task.dropout)
        self.output = nn.Linear(features, task.outputs)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.dropout(features))
        return outputs


class Sigmoid(Linear):
    """A linear head whose score is squashed into the range."""

    def __init__(self, task: Task, width: int, features: int) -> None:
        _needs_a_score(task, "sigmoid")
        super().__init__(task, width, features)

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(features))


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

Pooling = Callable[[Tensor, Batch, Encoder], Tensor]


def _needs_a_score(task: Task, head: str) -> None:
    if isinstance(task, Classification):
        raise Mistake(f"task '{task.name}': head '{head}' gives a score, not classes; use `head: linear`")
