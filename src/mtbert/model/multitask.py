"""Encoder, task modules and heads: one model for all tasks, with two doors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.tasks import Task
from mtbert.errors import Mistake
from mtbert.model.encoder import Encoder
from mtbert.model.heads import FEATURES, HEADS, POOLINGS, feature_width
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
        self.heads = nn.ModuleDict({task.name: self._head(task) for task in tasks})

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
        return outputs

    def features(self, x: Tensor, batch: Batch) -> Tensor:
        """From the last layer's states to what the task's head reads: (S, L, D) -> (B, F)."""
        task, taps = self.tasks[batch.task], self.modules_by_task.of(batch.task)
        pooled = POOLINGS[task.pooling](taps.after_encoder(x, batch), batch, self.encoder)
        joined = pooled if task.sequences == 1 else FEATURES[task.features](*pooled.chunk(2))
        return taps.after_pooling(joined, batch)

    def _head(self, task: Task) -> nn.Module:
        width = self.encoder.shape.width
        POOLINGS[task.pooling]  # an unknown name is said now, not at the first batch
        if len(task.text) == 2 and task.sequences == 1 and task.segments == "pair" and self.encoder.shape.segments < 2:
            raise Mistake(f"task '{task.name}': this encoder has one segment only; set `segments: zeros`")
        features = self.modules_by_task.of(task.name).feature_width(feature_width(task, width), task)
        return HEADS[task.head](task, width, features)
