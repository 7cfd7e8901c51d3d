"""Models and batches on which a penalty has a closed form, and every kind of task: shared by the tests of penalties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes
from mtbert.training.regularizers.table import REGULARIZERS
from tests.support.small import with_more_kinds

# many classes; binary and score, joint and separate; ordered classes in three ways, several labels, labels of words
ALL_KINDS = ["mood", "same", "same_apart", "near_joint", "near", "stars", "cumulative", "soft", "topics", "names"]


class LinearModel(nn.Module):
    """One linear layer W and a head that reads the first token of each text: f(E) = sum of W E[0]."""

    def __init__(self, weights: list[list[float]], embeddings: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.embeddings = nn.Parameter(embeddings)
        self.tasks = {
            "score": Regression(name="score", text="text", label="label", range=(0, 1)),
            "classes": Classification(name="classes", text="text", label="label", classes=max(len(weights), 2)),
        }

    def embed(self, batch: Batch) -> Tensor:
        return self.embeddings

    def states(self, x: Tensor, batch: Batch, start: int = 0) -> Iterator[Tensor]:
        if start == 0:
            yield x @ self.weights.T

    def resume(self, x: Tensor, batch: Batch, start: int = 0) -> Tensor:
        for state in self.states(x, batch, start):
            x = state
        return x[:, 0].view(batch.sequences, -1, x.shape[-1]).sum(0)


def linear_passes(
    weights: list[list[float]], embeddings: Tensor, sequences: int = 1, mask: Tensor | None = None
) -> Passes:
    """The passes of a batch whose embeddings (S, L, D) are these."""
    tokens = torch.zeros(embeddings.shape[:2], dtype=torch.long)
    mask = tokens == 0 if mask is None else mask
    rows = np.arange(len(tokens) // sequences)
    batch = Batch("score" if len(weights) == 1 else "classes", tokens, tokens, mask, None, rows, sequences)
    return Passes(LinearModel(weights, embeddings), batch)  # type: ignore[arg-type]


def make(name: str, **options: Any) -> Regularizer:
    """A regularizer as a recipe makes it."""
    return REGULARIZERS[name](**REGULARIZERS.complete(name, options))


def with_all_kinds(recipe: dict[str, Any], dropout: float) -> dict[str, Any]:
    """The small recipe with a task of every kind, and pairs both joint and separate."""
    tasks = with_more_kinds(recipe)["tasks"]
    tasks["cumulative"] = tasks["stars"] | {"method": "cumulative"}
    tasks["soft"] = tasks["stars"] | {"method": "soft"}
    tasks["same_apart"] = tasks["same"] | {"pairs": "separate"}
    tasks["near_joint"] = tasks["near"] | {"pairs": "joint"}
    recipe["encoder"] |= {"dropout": dropout, "attention_dropout": dropout}
    for task in tasks.values():
        task["dropout"] = dropout
    return recipe


def experiment(recipe: dict[str, Any], dropout: float = 0.0) -> Experiment:
    """All kinds of task on a tiny model in training mode, its weights large enough that outputs move."""
    built = build(read_recipe(with_all_kinds(recipe, dropout)))
    shake(built.model)
    built.model.train()
    return built


def shake(model: MultiTask, size: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))


def batch_of(experiment: Experiment, task: str, rows: range = range(6)) -> Batch:
    return experiment.sets["train"][task].batch(rows)


def passes_of(experiment: Experiment, task: str, rows: range = range(6)) -> Passes:
    return Passes(experiment.model, batch_of(experiment, task, rows))


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
