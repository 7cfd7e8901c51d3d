"""Examples in whose batches stands what teachers say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.batches import LARGE, Batch, ExampleSet
from mtbert.data.tokens import Tokens


class TaughtExamples:
    """A set whose batches carry the outputs of teachers: `said` gives those of all N rows (N, outputs)."""

    def __init__(self, examples: ExampleSet, said: Callable[[], Tensor]) -> None:
        self.task = examples.task
        self.labels = examples.labels
        self.lengths = examples.lengths
        self._examples = examples
        self._said = said

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The examples in these B rows as the set has them, and what the teachers say of them."""
        chosen = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        return replace(self._examples.batch(rows, turned), taught=self._said()[chosen])

    def in_order_of_length(self, batch_size: int, tokens: int = LARGE) -> Iterator[Batch]:
        """The batches for evaluation, which has no teachers."""
        return self._examples.in_order_of_length(batch_size, tokens)

    @property
    def orders(self) -> Sequence[ExampleSet]:
        """Those of the set, for evaluation too."""
        return self._examples.orders

    @property
    def own(self) -> TaughtExamples:
        """The rows that have a label of the task, taught as here."""
        own, rows = self._examples.own, torch.from_numpy(self.labelled)
        return self if own is self._examples else TaughtExamples(own, lambda: self._said()[rows])

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Which rows of this set those of `own` are."""
        return self._examples.labelled

    @property
    def vectors(self) -> Callable[..., list[Tensor]]:
        """Those of the set."""
        return self._examples.vectors

    @property
    def tokens(self) -> Sequence[Tokens]:
        """The tokens of each column of the texts, none of them cut off."""
        return self._examples.tokens
