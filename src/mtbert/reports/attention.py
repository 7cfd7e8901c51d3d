"""What a prediction rests on: how much each word matters to it, and where each word looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.batches import Batch, Examples
from mtbert.data.tokenizer import Tokenizer
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.model.taps import QKV, Fold
from mtbert.model.task_modules.base import TaskModule


class Piece(NamedTuple):
    """A word, or a part of one, of a sequence that the encoder reads."""

    text: str
    weight: float  # from -1 to 1: how it speaks for (above 0) or against what was said


class Reading(NamedTuple):
    """How the model reads one example: a list of pieces a sequence, and attention in its first sequence."""

    sequences: list[list[Piece]]
    attention: NDArray[np.float64]  # (L, L) of the last layer, mean over the heads; a row sums to 1


class _Watch(TaskModule):
    """Remembers the attention of the last layer that it saw."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.seen: Tensor | None = None  # (S, L, L), mean over the heads

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> QKV:
        sequences, length, _ = q.shape
        one, other = (part.detach().view(sequences, length, self.heads, -1).transpose(1, 2) for part in (q, k))
        scores = (one * one.shape[-1] ** -0.5) @ other.transpose(-2, -1)  # (S, H, L, L)
        self.seen = scores.masked_fill(~batch.mask[:, None, None, :], float("-inf")).softmax(-1).mean(1)
        return q, k, v


def read_rows(model: MultiTask, tokenizer: Tokenizer, examples: Examples, rows: Sequence[int]) -> list[Reading]:
    """The readings of some rows, in their order; gradient times input on the embeddings, summed over their width.

    What is followed back is the largest of a row's outputs. Of symmetric pairs one order is read.

    Source: Shrikumar et al., 2016, section 2.1, https://arxiv.org/abs/1605.01713
    """
    return [_reading(model, tokenizer, examples.batch([row])) for row in rows]


def _reading(model: MultiTask, tokenizer: Tokenizer, batch: Batch) -> Reading:
    moved = batch.to(next(model.parameters()).device)
    watch = _Watch(model.encoder.shape.heads)
    with evaluating(model), torch.enable_grad():
        x = model.embed(moved).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.resume(x, moved).amax(-1).sum(), x)
    with evaluating(model), torch.no_grad():
        for _ in model.encoder.states(x, moved, Fold([*model.modules_by_task.of(batch.task).modules, watch])):
            pass
    weights = (gradient * x).detach().sum(-1).cpu().numpy() * batch.mask.numpy()
    weights = weights / max(float(np.abs(weights).max()), 1e-12)
    assert watch.seen is not None  # every encoder has a layer
    length = int(batch.mask[0].sum())
    pieces = tokenizer.pieces()
    sequences = [
        [
            Piece(pieces[int(token)], float(weight))
            for token, weight in zip(tokens[mask], own[mask.numpy()], strict=True)
        ]
        for tokens, mask, own in zip(batch.tokens, batch.mask, weights, strict=True)
    ]
    return Reading(sequences, watch.seen[0, :length, :length].double().cpu().numpy())
