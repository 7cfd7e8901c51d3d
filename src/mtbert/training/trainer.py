"""Training as an iterator over optimiser steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtbert.data.batches import Stream
from mtbert.data.samplers import Sampler
from mtbert.errors import Mistake
from mtbert.model.devices import keep_freed_memory
from mtbert.schedules import Schedule
from mtbert.training.gradients import Combiner
from mtbert.training.objective import Objective
from mtbert.training.optimizer import Optimizer


@dataclass(frozen=True)
class Record:
    """What one optimiser step did."""

    step: int  # 1 for the first
    lr: float
    terms: dict[str, dict[str, float]]  # task -> loss and penalties
    gradient_norm: float  # before clipping
    examples: int
    seconds: float


class Trainer:
    """One stage: `for record in trainer` takes a step a turn, until its steps are done.

    `step`, the streams' positions, the optimizer's state and torch's random state are all it knows; with them restored
    it goes on to the same weights, bit by bit.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        schedule: Schedule,
        sampler: Sampler,
        streams: Mapping[str, Stream],
        combiner: Combiner,
        steps: int,
        clip: float | None = None,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.sampler = sampler
        self.streams = streams
        self.combiner = combiner
        self.steps = steps
        self.clip = clip
        self.step = 0
        keep_freed_memory()
        self.device = next(objective.model.parameters()).device
        self.learning = [p for p in objective.model.parameters() if p.requires_grad]

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def __iter__(self) -> Iterator[Record]:
        while not self.finished:
            yield self.take_step()

    def take_step(self) -> Record:
        """One optimiser step; raises Mistake where the loss is no longer a number."""
        started = time.perf_counter()
        self.objective.model.train()
        # the first step already learns, the last one still does
        factor = self.schedule((self.step + 0.5) / self.steps)
        tasks = self.sampler.draw(self.step, self.step / self.steps)
        terms: dict[str, dict[str, float]] = {}
        drawn: dict[str, list[int]] = {}
        examples = 0

        def losses() -> Iterator[Tensor]:
            nonlocal examples
            for task in tasks:  # lazy, so that one task's graph is freed before the next is built
                batch = self.streams[task].draw()
                loss = self.objective(batch.to(self.device))
                drawn[task] = batch.rows.tolist()
                if not torch.isfinite(loss.total):
                    values = ", ".join(f"{name} {value:g}" for name, value in loss.terms.items())
                    raise Mistake(self._not_finite(values, {task: drawn[task]}))
                terms[task] = loss.terms
                examples += len(batch)
                yield loss.total

        self.combiner(losses(), self.learning)
        norm = float(nn.utils.get_total_norm([p.grad for p in self.learning if p.grad is not None]))
        if not math.isfinite(norm):
            raise Mistake(self._not_finite(f"gradient norm {norm:g}", drawn))
        # the optimizer scales as it goes: one pass over the gradients less
        scale = 1.0 if self.clip is None else min(1.0, self.clip / (norm + 1e-6))
        self.optimizer.step(factor, scale)
        self.optimizer.clear()
        self.step += 1
        return Record(self.step, self.optimizer.lr * factor, terms, norm, examples, time.perf_counter() - started)

    def _not_finite(self, values: str, drawn: Mapping[str, list[int]]) -> str:
        tasks = ", ".join(f"task '{task}'" for task in drawn)
        rows = "; ".join(f"rows {numbers}" for numbers in drawn.values())
        return (
            f"step {self.step + 1}, {tasks}: training has become numerically unstable ({values}; {rows}); "
            "the last checkpoint is intact; a lower learning rate or `clip: 1.0` usually helps"
        )
