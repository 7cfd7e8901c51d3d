"""L2-SP: stay near the weights one started from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.schedules import VaryingByTask
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes


@dataclass(kw_only=True)
class L2ToPretrained(Regularizer):
    """Half the squared distance of the encoder's weights from where they started: L2-SP (Li et al., 2018).

    The start is the encoder as the stage finds it: the published weights in the first stage, what the stage before kept
    in a later one. Heads and task modules, which were not pretrained, are free. A step that draws several tasks pays
    once for each. The paper's weight is tuned between 0.0001 and 1.
    """

    weight: VaryingByTask = 0.01
    origin: dict[str, Tensor] = field(default_factory=dict, init=False)

    def check(self, model: MultiTask) -> None:
        if not any(p.requires_grad for p in model.encoder.parameters()):
            raise Mistake("l2_to_pretrained holds the encoder, of which nothing learns in this stage")

    def start(self, model: MultiTask) -> None:
        self.origin = {name: p.detach().clone() for name, p in model.encoder.named_parameters() if p.requires_grad}

    def penalty(self, passes: Passes) -> Tensor:
        parameters = dict(passes.model.encoder.named_parameters())
        return torch.stack([(parameters[name] - start).square().sum() for name, start in self.origin.items()]).sum() / 2

    def state(self) -> dict[str, Tensor]:
        return dict(self.origin)

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.origin = {name: state[name].to(tensor.device) for name, tensor in self.origin.items()}
