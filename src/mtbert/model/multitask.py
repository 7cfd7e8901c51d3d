"""Encoder, task modules and heads: one model for all tasks, with two doors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake, at
from mtbert.model.encoder import Encoder
from mtbert.model.heads.head import HEADS
from mtbert.model.heads.pair_features import FEATURES, PairFeatures, feature_width
from mtbert.model.heads.pooling import POOLINGS, Pooling, check_pooling
from mtbert.model.task_modules.assignment import TaskModules
from mtbert.model.task_modules.base import ModulePlan


class MultiTask(nn.Module):
    """One BERT for many tasks; which head and which modules serve is the batch's task's."""

    def __init__(self, encoder: Encoder, tasks: Sequence[Task], modules: Sequence[ModulePlan] = ()) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.plans = tuple(modules)
        self.encoder = encoder
        self.modules_by_task = TaskModules(modules, encoder.shape, list(self.tasks))
        self.poolings: dict[str, Pooling] = {}
        self.pair_features: dict[str, PairFeatures] = {}
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
        outputs: Tensor = self.heads[batch.task](self.features(x, batch))
        return self.tasks[batch.task].placed(outputs, batch.words)

    def features(self, x: Tensor, batch: Batch) -> Tensor:
        """From the last layer's states to what the task's head reads: (S, L, D) -> (B, F)."""
        task, taps = self.tasks[batch.task], self.modules_by_task.of(batch.task)
        pooled = self.poolings[batch.task](taps.after_encoder(x, batch), batch, self.encoder)
        joined = pooled if task.sequences == 1 else self.pair_features[batch.task](*pooled.chunk(2))
        return taps.after_pooling(joined, batch)

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
            self.heads[task.name] = HEADS.choose(task.head).make(task, width, features)
