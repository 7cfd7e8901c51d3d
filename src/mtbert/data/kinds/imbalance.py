"""Losses of classes that are rare, easy or doubtful: weights, focal loss, smoothed labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtbert.data.kinds.metrics import Floats
from mtbert.errors import Mistake, unknown

BALANCED = "balanced"
ClassWeights = Literal["balanced"] | Mapping[str, float]


def check_weights(given: ClassWeights | None, classes: tuple[str, ...]) -> None:
    """Raises Mistake for the weight of a class that there is not, or of none or less."""
    for name, weight in given.items() if isinstance(given, Mapping) else ():
        if classes and name not in classes:
            raise Mistake(unknown("class of a weight:", name, classes))
        if not 0 < weight < 1e6:
            raise Mistake(f"the weight of class '{name}' is {weight:g}, not a number above 0")


def weights_of(given: ClassWeights | None, classes: tuple[str, ...], labels: Floats) -> Tensor | None:
    """The weight of each class (C,), from training labels (N,) where they are to be balanced: N / (C * rows of it).

    Balanced weights are 1 on average over the rows; a class without rows has the weight of one with a single row.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return torch.tensor([float(given.get(name, 1.0)) for name in classes])
    counts = np.bincount(labels.astype(np.int64), minlength=len(classes)).clip(min=1)
    return torch.from_numpy(len(labels) / (len(classes) * counts)).float()


def weighed_cross_entropy(
    outputs: Tensor, targets: Tensor, weights: Tensor | None, focal: float, smoothing: float
) -> Tensor:
    """Cross-entropy of each example, (B, C), (B,) -> (B,): times the weight of its class; each class's part times
    (1 - p)^focal, p its probability (Lin et al., 2017); the target with a share `smoothing` spread over all classes
    (Szegedy et al., 2016).

    Source: Lin et al., 2017, equation 4, https://arxiv.org/abs/1708.02002
    Source: Szegedy et al., 2016, section 7, https://arxiv.org/abs/1512.00567
    """
    if weights is None and not focal and not smoothing:
        return F.cross_entropy(outputs.float(), targets, reduction="none")
    log_p = outputs.float().log_softmax(-1)
    wanted = F.one_hot(targets, log_p.shape[-1]) * (1 - smoothing) + smoothing / log_p.shape[-1]
    eased = log_p if not focal else (-torch.expm1(log_p)).clamp(min=1e-12) ** focal * log_p
    losses = -(wanted * eased).sum(-1)
    return losses if weights is None else losses * weights.to(losses.device)[targets]
