"""A model of which only the heads learn: what they read is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtbert.data.batches import Batch, Examples
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask


class FrozenModel(nn.Module):
    """The heads of a model behind the model's own doors; batches carry features where tokens would be.

    The encoder is in evaluation mode: unlike a frozen encoder left in training mode, which encodes a text differently
    in every epoch, it adds no dropout of its own. The heads' dropout stays.
    """

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.tasks = model.tasks
        self.heads = model.heads

    def forward(self, batch: Batch) -> Tensor:
        """(B, F) -> (B, outputs)."""
        return self.resume(self.embed(batch), batch)

    def embed(self, batch: Batch) -> Tensor:
        """The features themselves: (B, F)."""
        return batch.tokens

    def resume(self, x: Tensor, batch: Batch) -> Tensor:
        """Features are what the heads read: nothing is left to encode."""
        outputs: Tensor = self.heads[batch.task](x)
        return outputs


AnyModel = MultiTask | FrozenModel


class FrozenExamples:
    """Examples of one task as features (N, F), encoded when the first batch is drawn."""

    def __init__(self, examples: Examples, model: MultiTask) -> None:
        self.task = examples.task
        self.labels = examples.labels
        self.lengths = np.zeros(len(examples), dtype=np.int64)  # all alike: nothing to bucket by
        self._examples = examples
        self._model = model

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """B rows of features."""
        chosen = np.asarray(rows, dtype=np.int64)
        targets = self._examples.targets
        return Batch(
            self.task.name,
            self._features[torch.from_numpy(chosen)],
            torch.empty(0),
            torch.empty(0),
            None if targets is None else targets[torch.from_numpy(chosen)],
            chosen,
            1,
        )

    def in_order_of_length(self, batch_size: int) -> Iterator[Batch]:
        """Every example once."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))

    @cached_property
    def orders(self) -> list[FrozenExamples]:
        """This set, and where its pairs are symmetric the same one with the texts swapped."""
        return [self, *(FrozenExamples(swapped, self._model) for swapped in self._examples.orders[1:])]

    @cached_property
    def _features(self) -> Tensor:
        model = self._model
        device = next(model.parameters()).device
        features: Tensor | None = None
        # the heads' mode is not ours to touch
        with evaluating(model.encoder, model.modules_by_task), torch.no_grad():
            for batch in self._examples.in_order_of_length(64):
                moved = batch.to(device)
                x = model.embed(moved)
                for state in model.states(x, moved):
                    x = state
                some = model.features(x, moved).cpu()
                if features is None:
                    features = torch.empty(len(self), some.shape[1])
                features[torch.from_numpy(batch.rows)] = some
        assert features is not None  # no set of examples is empty
        return features
