"""How far random noise moves outputs or hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, Strict
from torch import Tensor

from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.registry import NonNegative
from mtbert.schedules import VaryingByTask
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Dropout, Passes


@dataclass(kw_only=True)
class Gaussian(Regularizer):
    """Gaussian noise on the embeddings, and the squared distance it moves the outputs (report 'SMARTer BERT').

    mean((f(E) - f(E + sigma * N(0, I)))^2) over batch and outputs, which are logits where there are classes. As in the
    report, each pass has its own dropout masks unless `dropout` says otherwise.
    """

    weight: VaryingByTask = 10.0
    sigma: NonNegative = 0.05
    dropout: Dropout = "independent"
    stop_clean: bool = False

    def penalty(self, passes: Passes) -> Tensor:
        comparison = passes.under(self.dropout, self.sigma)
        x, outputs = comparison.clean.states[0], comparison.clean.outputs
        noisy = comparison.again(x + self.sigma * torch.randn_like(x)).outputs
        return ((outputs.detach() if self.stop_clean else outputs).float() - noisy.float()).square().mean()


@dataclass(kw_only=True)
class NoiseStability(Regularizer):
    """Noise into one layer, and the squared distance it moves every state above: LNSR (Hua et al., 2021).

    `layer` is the one that the noise enters, 0 for the embeddings. Noise is Gaussian of size `sigma`: times the root
    mean square of each token's state where `relative`, else as it is. Distances are means over tokens and features,
    summed over the layers. The paper's sigma and weight are not known to us; 0.05 relative is the size of the noise in
    its figure.
    """

    layer: Annotated[int, Strict(), Field(ge=0)] = 0
    sigma: NonNegative = 0.05
    relative: bool = True
    layer_weights: Annotated[list[NonNegative], Field(min_length=1)] | None = None
    dropout: Dropout = "same_mask"
    stop_clean: bool = False

    def check(self, model: MultiTask) -> None:
        layers = model.encoder.shape.layers
        if self.layer >= layers:
            raise Mistake(
                f"noise cannot enter layer {self.layer}: this encoder has {layers}, from 0 (the embeddings) "
                f"to {layers - 1}"
            )
        above = layers - self.layer
        if self.layer_weights is not None and len(self.layer_weights) != above:
            raise Mistake(
                f"layer_weights {self.layer_weights}: {above} layers are above the noise, so it takes {above} weights"
            )

    def penalty(self, passes: Passes) -> Tensor:
        comparison = passes.under(self.dropout, self.sigma)
        clean = comparison.clean.states[self.layer :]
        noise = self.sigma * torch.randn_like(clean[0])
        if self.relative:
            noise = noise * clean[0].detach().square().mean(-1, keepdim=True).sqrt()
        noisy = comparison.again(clean[0] + noise, start=self.layer).states
        share = passes.batch.mask / passes.batch.mask.sum()  # PAD has none
        weights = self.layer_weights or [1.0] * (len(clean) - 1)
        return torch.stack(
            [
                weight * ((a.detach() if self.stop_clean else a) - b).float().square().mean(-1).mul(share).sum()
                for weight, a, b in zip(weights, clean[1:], noisy[1:], strict=True)
            ]
        ).sum()
