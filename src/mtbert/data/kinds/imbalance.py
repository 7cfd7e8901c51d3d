"""Losses of classes that are rare, easy or doubtful: weights, focal loss, smoothed labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtbert.data.kinds.metrics import Floats
from mtbert.errors import unknown
from mtbert.registry import OptionMistake

BALANCED = "balanced"
ClassWeights = Literal["balanced"] | Mapping[str, float]


def check_weights(given: ClassWeights | None, classes: tuple[str, ...]) -> None:
    """Raises Mistake for the weight of a class that there is not, or of none or less."""
    for name, weight in given.items() if isinstance(given, Mapping) else ():
        if classes and name not in classes:
            raise OptionMistake(unknown("class of a weight:", name, classes), "class_weights")
        if not 0 < weight < 1e6:
            raise OptionMistake(f"the weight of class '{name}' is {weight:g}, not a number above 0", "class_weights")


def weights_of(given: ClassWeights | None, classes: tuple[str, ...], labels: Floats) -> Tensor | None:
    """The weight of each class (C,), from training labels (N,) where they are to be balanced: N / (C * rows of it).

    Balanced weights are 1 on average over the rows; a class without rows has the weight of one with a single row.
    Raises Mistake as `check_weights`.
    """
    check_weights(given, classes)
    if given is None:
        return None
    if isinstance(given, Mapping):
        return torch.tensor([float(given.get(name, 1.0)) for name in classes])
    counts = np.bincount(labels.astype(np.int64), minlength=len(classes)).clip(min=1)
    return torch.from_numpy(len(labels) / (len(classes) * counts)).float()


def side_weights_of(given: ClassWeights | None, classes: tuple[str, ...], labels: Floats) -> Tensor | None:
    """The weights of each label where it is absent and where it is there (2, C).

    Balanced ones come from training labels (N, C) of 0, 1 and nan: both sides of a label then count alike, known rows /
    (2 * rows of the side). Raises Mistake as `check_weights`.
    """
    check_weights(given, classes)
    if given is None:
        return None
    if isinstance(given, Mapping):
        return torch.tensor([[1.0] * len(classes), [float(given.get(name, 1.0)) for name in classes]])
    sides = np.stack([(labels == side).sum(0) for side in (0, 1)])
    return torch.from_numpy(sides.sum(0) / (2 * sides.clip(min=1))).float()


def weighed_loss(
    log_p: Tensor, wanted: Tensor, targets: Tensor, weights: Tensor | None, focal: float, smoothing: float
) -> Tensor:
    """The loss of each example from log probabilities and what is wanted in their place, (..., C), (..., C) -> (...).

    It is times the weight of the example's class, which `targets` (...) names; each class's part is times
    (1 - p)^focal, p its probability (Lin et al., 2017); a share `smoothing` of the target is spread over all classes
    (Szegedy et al., 2016).

    Source: Lin et al., 2017, equation 4, https://arxiv.org/abs/1708.02002
    Source: Szegedy et al., 2016, section 7, https://arxiv.org/abs/1512.00567
    """
    spread = wanted * (1 - smoothing) + smoothing / log_p.shape[-1]
    losses = -(spread * _eased(log_p, focal)).sum(-1)
    return losses if weights is None else losses * weights.to(losses.device)[targets]


def weighed_binary_losses(
    outputs: Tensor, targets: Tensor, weights: Tensor | None, focal: float, smoothing: float
) -> Tensor:
    """The binary cross-entropy of each label, (B, C), (B, C) -> (B, C).

    Its two sides are weighed by `weights` (2, C), eased and smoothed as in `weighed_loss`.
    """
    absent, there = torch.ones(2, 1) if weights is None else weights
    wanted = targets * (1 - smoothing) + smoothing / 2
    on, off = (_eased(F.logsigmoid(side), focal) for side in (outputs, -outputs))
    losses: Tensor = there.to(on.device) * wanted * on + absent.to(on.device) * (1 - wanted) * off
    return -losses


def _eased(log_p: Tensor, focal: float) -> Tensor:
    return log_p if not focal else (-torch.expm1(log_p)).clamp(min=1e-12) ** focal * log_p
