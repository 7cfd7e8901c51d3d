"""A copy of a model that follows it at a distance, for penalties that hold on to an earlier self."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.modes import in_modes, modes_of
from mtbert.model.multitask import MultiTask
from mtbert.training.averaging import follow


class Teacher:
    """A copy of a model that learns nothing and follows when told to, in evaluation mode."""

    def __init__(self, model: MultiTask, device: str | None) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        if device is not None:
            self.model.to(device)

    @torch.no_grad()
    def outputs(self, batch: Batch, dropout: bool = False) -> Tensor:
        """What it says of a batch, where the batch is, without dropout unless one asks for it: (B, outputs)."""
        device = next(self.model.parameters()).device
        with in_modes(dict.fromkeys(modes_of(self.model), dropout)):
            outputs: Tensor = self.model(batch.to(device))
        return outputs.to(batch.tokens.device)

    def follow(self, model: MultiTask, decay: float) -> None:
        """decay * teacher + (1 - decay) * model, for every parameter that learns."""
        pairs = zip(self.model.parameters(), model.parameters(), strict=True)
        learning = [(ours, theirs) for ours, theirs in pairs if theirs.requires_grad]
        follow([ours for ours, _ in learning], [theirs for _, theirs in learning], 1 - decay)


def check_device(name: str | None) -> None:
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is not None and name not in there:
        raise Mistake(f"teacher_device is '{name}'; devices here: {', '.join(there)}")
