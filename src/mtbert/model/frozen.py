"""Training heads on a frozen encoder: the features that the heads read are computed once, not in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtbert.data.batches import LARGE, Batch, Examples
from mtbert.data.tokens import Tokens
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.model.parallel import in_parallel


class FrozenModel(nn.Module):
    """The heads of a model, called as the whole model is, on batches that carry features instead of tokens.

    The features come from FrozenExamples, whose encoder is in evaluation mode. A frozen encoder in training mode would
    instead encode a text differently in every epoch, because of its dropout. The heads' own dropout stays.
    """

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.tasks = model.tasks
        self.heads = model.heads

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of the batch's task: (B, outputs)."""
        return self.resume(self.embed(batch), batch)

    def embed(self, batch: Batch) -> Tensor:
        """The batch's features, which stand in for a hidden state: (B, F)."""
        assert batch.features is not None  # a frozen model is only given batches of FrozenExamples
        return batch.features

    def resume(self, x: Tensor, batch: Batch) -> Tensor:
        """From features to outputs by the task's head alone, as nothing is left to encode: (B, F) -> (B, outputs)."""
        outputs: Tensor = self.heads[batch.task](x)
        return outputs


AnyModel = MultiTask | FrozenModel


class FrozenExamples:
    """The examples of one task as features (N, F), which are computed when the first batch is drawn."""

    def __init__(self, examples: Examples, model: MultiTask) -> None:
        self.task = examples.task
        self.labels = examples.labels
        self.lengths = np.zeros(len(examples), dtype=np.int64)  # no sequences, so nothing to sort by
        self._examples = examples
        self._model = model

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def vectors(self) -> Callable[..., list[Tensor]]:
        """Those of the set."""
        return self._examples.vectors

    @property
    def own(self) -> FrozenExamples:
        """This set."""
        return self

    @property
    def labelled(self) -> NDArray[np.int64]:
        """All of them."""
        return np.arange(len(self))

    @property
    def tokens(self) -> Sequence[Tokens]:
        """The tokens of each column of the texts that the features are of."""
        return self._examples.tokens

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The features of these B rows, in a batch without tokens; `turned` (B,) ones have their texts swapped."""
        chosen = np.asarray(rows, dtype=np.int64)
        features = self._features[torch.from_numpy(chosen)]
        if turned is not None:
            features[torch.from_numpy(turned)] = self.swapped._features[torch.from_numpy(chosen[turned])]
        nothing = torch.empty(len(chosen), 0, dtype=torch.int64)  # sequences of length 0
        return Batch(
            task=self.task.name,
            tokens=nothing,
            segments=nothing,
            mask=nothing.bool(),
            targets=None if self.labels is None else self.task.targets(self.labels[chosen]),
            rows=chosen,
            sequences=1,
            features=features,
        )

    def in_order_of_length(self, batch_size: int, tokens: int = LARGE) -> Iterator[Batch]:
        """Every example once, in the order of the set, as all are equally long."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))

    @property
    def orders(self) -> list[FrozenExamples]:
        """This set, and for pairs whose predictions are those of both orders also the same with the texts swapped."""
        return [self, self.swapped] if self.task.predicted_in_both_orders else [self]

    @cached_property
    def swapped(self) -> FrozenExamples:
        """The same pairs, the texts of each of them swapped."""
        return FrozenExamples(self._examples.swapped, self._model)

    @cached_property
    def _features(self) -> Tensor:
        """What the task's head reads of every example: (N, F) on the CPU."""
        model = self._model
        device = next(model.parameters()).device
        features: Tensor | None = None

        def answer(batch: Batch) -> Tensor:
            moved = batch.to(device)
            x = model.embed(moved)
            for state in model.states(x, moved):
                x = state
            return model.features(x, moved).cpu()

        # only the parts that encode: the heads stay in the mode they are in
        with evaluating(model.encoder, model.modules_by_task):
            for batch, some in in_parallel(answer, self._examples.in_order_of_length(64), device):
                if features is None:
                    features = torch.empty(len(self), some.shape[1])
                features[torch.from_numpy(batch.rows)] = some
        assert features is not None  # no set of examples is empty
        return features
