"""Penalties on how a model's outputs move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.model.frozen import AnyModel
from mtbert.registry import NonNegative, Registry


class CleanPass(NamedTuple):
    """The pass that the task's loss was taken from."""

    embeddings: Tensor  # (S, L, D)
    outputs: Tensor  # (B, outputs)


class Regularizer:
    """A penalty added to the loss of every batch."""

    def penalty(self, model: AnyModel, batch: Batch, clean: CleanPass, progress: float) -> Tensor:
        """A weighted scalar, never negative; `progress` in [0, 1] is how far the stage has come."""
        raise NotImplementedError

    def start(self, model: AnyModel) -> None:
        """The stage begins with this model."""

    def after_step(self, model: AnyModel, progress: float) -> None:
        """The optimizer has moved the model."""

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class Gaussian(Regularizer):
    """Gaussian noise on the embeddings, and the squared distance it moves the outputs (report 'SMARTer BERT').

    weight * mean((f(E) - f(E + sigma * N(0, I)))^2) over batch and outputs. The clean pass is the loss's own, so
    the two passes have different dropout masks.
    """

    def __init__(self, *, weight: NonNegative = 10.0, sigma: NonNegative = 0.05) -> None:
        self.weight = weight
        self.sigma = sigma

    def penalty(self, model: AnyModel, batch: Batch, clean: CleanPass, progress: float) -> Tensor:
        noise = self.sigma * torch.randn_like(clean.embeddings)
        noisy = model.resume(clean.embeddings + noise, batch)
        return self.weight * (clean.outputs - noisy).float().square().mean()


REGULARIZERS: Registry[Regularizer] = Registry("regularizer", {"gaussian": Gaussian})
