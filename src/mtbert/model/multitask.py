"""Encoder, task modules and heads: one model for all tasks, with two doors, and one for several tasks at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtbert.data.batches import Apart, Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake, at
from mtbert.model.encoder import Encoder
from mtbert.model.heads.beside import Name, features_beside
from mtbert.model.heads.head import HEADS, beside_of
from mtbert.model.heads.pair_features import FEATURES, PairFeatures, feature_width
from mtbert.model.heads.pooling import POOLINGS, Pooling, check_pooling
from mtbert.model.original import Original
from mtbert.model.task_modules.assignment import TaskModules
from mtbert.model.task_modules.base import ModulePlan


class MultiTask(nn.Module):
    """One BERT for many tasks; which head and which modules serve is the batch's task's."""

    def __init__(
        self,
        encoder: Encoder,
        tasks: Sequence[Task],
        modules: Sequence[ModulePlan] = (),
        original: Original | None = None,
    ) -> None:
        super().__init__()
        self.original = original  # only where a head reads features beside the vector
        self.tasks = {task.name: task for task in tasks}
        self.plans = tuple(modules)
        self.encoder = encoder
        self.modules_by_task = TaskModules(modules, encoder.shape, list(self.tasks))
        self.poolings: dict[str, Pooling] = {}
        self.pair_features: dict[str, PairFeatures] = {}
        self.beside: dict[str, list[Name]] = {}
        self.heads = nn.ModuleDict()
        for task in tasks:
            self._add(task)

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of the batch's task: (B, outputs)."""
        return self.resume(self.embed(batch), batch)

    def embed(self, batch: Batch) -> Tensor:
        """The first hidden state: (S, L, D)."""
        return self.encoder.embed(batch)

    def states(self, x: Tensor, batch: Batch, start: int = 0) -> Iterator[Tensor]:
        """Hidden states after each layer from `start` on, computed as they are asked for."""
        return self.encoder.states(x, batch, self.modules_by_task.of(batch.task), start)

    def resume(self, x: Tensor, batch: Batch, start: int = 0) -> Tensor:
        """Go on from the hidden state that enters layer `start`: (S, L, D) -> (B, outputs)."""
        for state in self.states(x, batch, start):
            x = state
        return self.answer(x, batch)

    def together(self, batch: Batch, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of several tasks that read the batch alike, from one pass of the encoder: task -> (B, outputs)."""
        x = self.embed(batch)
        for state in self.states(x, batch):
            x = state
        return {task: self.answer(x, replace(batch, task=task)) for task in tasks}

    def answer(self, x: Tensor, batch: Batch) -> Tensor:
        """From the last layer's states to the outputs of the batch's task: (S, L, D) -> (B, outputs)."""
        outputs: Tensor = self.heads[batch.task](self.features(x, batch))
        return self.tasks[batch.task].placed(outputs, batch.words)

    def alike(self, tasks: Iterable[str]) -> list[list[str]]:
        """Tasks that are given the same texts, in groups that one pass serves: they make the same sequences of a text,
        and the same modules serve them."""
        groups: dict[object, list[str]] = {}
        for name in tasks:
            groups.setdefault((self.tasks[name].reads, self.modules_by_task.who(name)), []).append(name)
        return list(groups.values())

    def features(self, x: Tensor, batch: Batch) -> Tensor:
        """From the last layer's states to what the task's head reads, its features beside last: (S, L, D) -> (B, F)."""
        task, taps = self.tasks[batch.task], self.modules_by_task.of(batch.task)
        pooled = self.poolings[batch.task](taps.after_encoder(x, batch), batch, self.encoder)
        joined = pooled if task.sequences == 1 else self.pair_features[batch.task](*_halves(pooled))
        vector = taps.after_pooling(joined, batch)
        beside = features_beside(batch.beside, self.beside[batch.task])
        return torch.cat([vector, *beside], dim=-1) if beside else vector

    def apart(self, tasks: Iterable[str]) -> Apart | None:
        """How the original encoder reads texts by themselves, where the head of one of these tasks asks for that."""
        return self.original.vectors if self.original is not None and any(map(self.beside.get, tasks)) else None

    def _add(self, task: Task) -> None:
        """What stands between the encoder and a task's outputs."""
        width = self.encoder.shape.width
        if len(task.text) == 2 and task.sequences == 1 and task.segments == "pair" and self.encoder.shape.segments < 2:
            raise Mistake(f"task '{task.name}': this encoder has one segment only; set `segments: zeros`")
        with at("tasks", task.name, "pooling"):
            self.poolings[task.name] = POOLINGS.choose(task.pooling).make()
            check_pooling(self.poolings[task.name], task)
        with at("tasks", task.name, "features"):
            self.pair_features[task.name] = FEATURES.choose(task.features).make()
            joined = feature_width(task, width)
        features = self.modules_by_task.of(task.name).feature_width(joined, task)
        with at("tasks", task.name, "head"):
            self.beside[task.name] = beside_of(task)
            self.heads[task.name] = HEADS.choose(task.head).make(task, width, features)


def _halves(pooled: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors of first and of second texts: (2 B, D) -> (B, D), (B, D).

    Unlike `chunk`, this lets a graph be traced in which other tasks have an odd number of sequences.
    """
    half = pooled.shape[0] // 2
    return pooled[:half], pooled[half : 2 * half]
