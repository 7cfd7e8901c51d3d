"""SMART on the embedding tables instead of their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtbert.data.batches import Batch
from mtbert.model.multitask import MultiTask
from mtbert.registry import Count, NonNegative, Positive
from mtbert.schedules import VaryingByTask
from mtbert.training.regularizers.ascent import DIVERGENCE, uphill
from mtbert.training.regularizers.base import Regularizer, Tasks
from mtbert.training.regularizers.passes import Comparison, Dropout, Passes

WORDS, POSITIONS, SEGMENTS = "word_embedding.weight", "position_embedding.weight", "segment_embedding.weight"


@dataclass(kw_only=True)
class SmartWeight(Regularizer):
    """SMART on the tables of words, positions and segments (report 'Walk Less and Only Down Smooth Valleys').

    A word is moved alike wherever it stands. Steps are normalised by the largest unit of a table, and each unit stays
    within `radius`. The tables themselves are never written to: rows of the batch are perturbed as copies. Without
    `binary`, tasks of two classes are left alone.
    """

    weight: VaryingByTask = 5.0
    radius: NonNegative = 1e-5
    step_size: Positive = 1e-3
    sigma: NonNegative = 1e-5
    ascent_steps: Count = 1
    binary: bool = True
    dropout: Dropout = "off"
    stop_clean: bool = False

    def penalty(self, passes: Passes) -> Tensor:
        if not self.binary and passes.task.binary:
            return passes.clean.outputs.new_zeros(())
        comparison = passes.under(self.dropout, min(self.radius, self.sigma))
        tables = _Tables(passes.model, passes.batch)
        noise = self.perturbation(comparison, tables)
        outputs = comparison.anew(partial(tables.embed, noise)).outputs
        return comparison.distance(outputs, self.stop_clean)

    def perturbation(self, comparison: Comparison, tables: _Tables) -> dict[str, Tensor]:
        """What is added to the rows of each table that the batch reads: table -> (rows, D)."""
        noise = {name: self.sigma * torch.randn_like(rows) for name, rows in tables.rows.items()}
        for _ in range(self.ascent_steps):
            gradients = uphill(
                comparison, DIVERGENCE, list(noise.values()), tables.rows.values(), partial(tables.embedded, comparison)
            )
            for (name, one), gradient in zip(noise.items(), gradients, strict=True):
                largest = gradient.abs().max()
                known = (largest > 0) & largest.isfinite()
                step = self.step_size * (gradient / largest).where(known, 0.0)
                noise[name] = (one + step).clamp(-self.radius, self.radius)
        return noise


class _Tables(nn.Module):
    """The rows of the embedding tables that a batch reads, open to noise."""

    def __init__(self, model: MultiTask, batch: Batch) -> None:
        super().__init__()
        self.model = model
        encoder = model.encoder
        words, places = torch.unique(batch.tokens, return_inverse=True)
        # the other rows have no part in the outputs: neither noise nor gradient
        self.batch = replace(batch, tokens=places)
        self.rows = {
            WORDS: encoder.word_embedding.weight[words],
            POSITIONS: encoder.position_embedding.weight[: batch.tokens.shape[1]],
            SEGMENTS: encoder.segment_embedding.weight,
        }

    def embed(self, noise: dict[str, Tensor]) -> Tensor:
        """The embeddings of the batch from noisy tables: (S, L, D)."""
        noisy = {f"model.encoder.{name}": rows + noise[name] for name, rows in self.rows.items()}
        embeddings: Tensor = functional_call(self, noisy, ())
        return embeddings

    def embedded(self, comparison: Comparison, noise: Sequence[Tensor]) -> Tensor:
        """The same from the noise of each table in turn, under the comparison's conditions."""
        return comparison.embedded(partial(self.embed, dict(zip(self.rows, noise, strict=True))))

    def forward(self) -> Tensor:
        return self.model.embed(self.batch)


def smart_r2_exact(
    *, weight: VaryingByTask = 5.0, sigma: NonNegative = 1e-5, radius: NonNegative = 1e-5, tasks: Tasks = None
) -> SmartWeight:
    """SMART as it ran for the report 'Walk Less and Only Down Smooth Valleys': inert on binary tasks.

    Their softmax over one logit was constant, so that the penalty of paraphrase was exactly zero. The milestone's rows
    have weight 1 and sigma 1e-6.
    """
    return SmartWeight(weight=weight, sigma=sigma, radius=radius, tasks=tasks, binary=False)
