"""Poolings: from the states of a sequence's tokens to one vector."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.encoder import Encoder
from mtbert.registry import Registry


class Pooling(Protocol):
    """Made from its options alone."""

    def __call__(self, states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
        """Last hidden states of the batch's sequences, padding included: (S, L, D) -> (S, D), or of words (B, W, D)."""


class Mean:
    """The mean of all real tokens' states (Reimers and Gurevych, 2019).

    Source: Reimers and Gurevych, 2019, section 3, https://arxiv.org/abs/1908.10084
    """

    def __call__(self, states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
        weights = batch.mask.to(states.dtype)
        return torch.einsum("sld,sl->sd", states, weights) / weights.sum(1, keepdim=True)


class FirstToken:
    """The state of [CLS]."""

    def __call__(self, states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
        return states[:, 0]


class Pooler:
    """BERT's pooler: a pretrained linear layer and tanh on the state of [CLS] (Devlin et al., 2019).

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805
    """

    def __call__(self, states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
        return encoder.pool(states[:, 0])


class Words:
    """The state of the first piece of each word, for a task that reads words (Devlin et al., 2019).

    Source: Devlin et al., 2019, section 5.3, https://arxiv.org/abs/1810.04805
    """

    def __call__(self, states: Tensor, batch: Batch, encoder: Encoder) -> Tensor:
        """(S, L, D) -> (B, W, D)."""
        assert batch.words is not None  # checked when the model was made
        places = batch.words.clamp(min=0)[:, :, None].expand(-1, -1, states.shape[-1])
        return states.gather(1, places)


def check_pooling(pooling: Pooling, task: Task) -> None:
    """Raises Mistake where a pooling gives one vector for all words and the task reads words, or the reverse."""
    if isinstance(pooling, Words) != task.reads_words:
        reads = "reads words and needs `pooling: words`" if task.reads_words else "reads texts, not words"
        raise Mistake(f"task '{task.name}' {reads}")


POOLINGS: Registry[Pooling] = Registry("pooling", {"mean": Mean, "cls": FirstToken, "pooler": Pooler, "words": Words})
