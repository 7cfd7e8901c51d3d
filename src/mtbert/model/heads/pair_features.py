"""Pair features: what a head reads of two texts encoded apart."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.registry import Registry


class PairFeatures(Protocol):
    """Made from its options alone."""

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        """The vectors of first and second texts as one, which begins with [u; v]: (B, D), (B, D) -> (B, n * D)."""


class Concat:
    """[u; v]."""

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v], dim=-1)


class Difference:
    """[u; v; |u - v|], as Sentence-BERT does (Reimers and Gurevych, 2019).

    Source: Reimers and Gurevych, 2019, section 3, https://arxiv.org/abs/1908.10084
    """

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v, (u - v).abs()], dim=-1)


class Product:
    """[u; v; |u - v|; u * v] (Conneau et al., 2017).

    Source: Conneau et al., 2017, section 3.1, https://arxiv.org/abs/1705.02364
    """

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


FEATURES: Registry[PairFeatures] = Registry(
    "pair features", {"concat": Concat, "difference": Difference, "product": Product}
)


def feature_width(task: Task, width: int) -> int:
    """How wide the features are that a task's head reads, for an encoder of this width."""
    if task.sequences == 1:
        return width
    sample = torch.zeros(1, width, device="cpu")
    return int(FEATURES.choose(task.features).make()(sample, sample).shape[-1])
