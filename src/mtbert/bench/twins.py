"""Plain twins of the fast paths: torch's own dropout, attention by its formula, torch's AdamW, unsorted batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mtbert.data.batches import Stream
from mtbert.errors import Mistake
from mtbert.model.dropout import Dropout
from mtbert.runs.build import Experiment
from mtbert.training.optimizer import AdamW, Optimizer
from mtbert.training.trainer import Trainer


@contextmanager
def plain_twins(experiment: Experiment, trainer: Trainer) -> Iterator[None]:
    """Let an unused trainer of the experiment's first stage train by the twins, as long as this lasts."""
    for module in list(experiment.model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.rate))
    trainer.optimizer = PlainAdamW(trainer.optimizer)
    trainer.streams = {task: UnsortedStream(stream) for task, stream in trainer.streams.items()}
    attend = [f"mtbert.model.{place}.attend" for place in ("encoder", "task_modules.pals")]
    with patch(attend[0], attend_plainly), patch(attend[1], attend_plainly):
        yield


def attend_plainly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Multi-head attention as its formula stands: (S, L, D) -> (S, L, D)."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))  # (S, H, L, D / H)
    scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(~mask[:, None, None, :], float("-inf"))
    mixed: Tensor = F.dropout(scores.softmax(-1), dropout) @ v
    return mixed.transpose(1, 2).flatten(2)


class UnsortedStream(Stream):
    """Every pass a new shuffle of an unused stream's rows, cut into batches as it lies."""

    def __init__(self, ours: Stream) -> None:
        vars(self).update(vars(ours))

    def _bucketed(self, rows: NDArray[np.int64], generator: np.random.Generator) -> list[NDArray[np.int64]]:
        order = generator.permutation(rows)
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]


class PlainAdamW:
    """torch.optim.AdamW in place of one of ours; raises Mistake for an optimizer that torch has no twin of."""

    def __init__(self, ours: Optimizer) -> None:
        if not isinstance(ours, AdamW) or ours.form != "torch" or ours.zero_fill or not ours.correct_bias:
            raise Mistake("the plain twin is torch's AdamW: the recipe's optimizer must be adamw in the form 'torch'")
        if ours.lazy_words or set(ours.factors.values()) != {1.0}:
            raise Mistake("the plain twin has one learning rate and moves all words: no rates, layer_decay, lazy_words")
        self.lr = ours.lr
        groups: dict[float, list[nn.Parameter]] = {ours.weight_decay: [], 0.0: []}
        for p in ours.parameters.values():
            groups[ours.weight_decay if p.ndim > 1 or ours.decay_vectors else 0.0].append(p)
        self._torchs = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay} for decay, group in groups.items()],
            lr=ours.lr,
            betas=(ours.first, ours.second),
            eps=ours.epsilon,
        )

    def step(self, factor: float = 1.0) -> None:
        for group in self._torchs.param_groups:
            group["lr"] = self.lr * factor
        self._torchs.step()

    def clear(self) -> None:
        self._torchs.zero_grad()

    def state(self) -> dict[str, Tensor]:
        raise NotImplementedError  # a benchmark is not resumed

    def load(self, state: Mapping[str, Tensor]) -> None:
        raise NotImplementedError
