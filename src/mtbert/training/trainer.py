"""Training as an iterator over optimiser steps."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch, Stream
from mtbert.data.samplers.base import Sampler
from mtbert.errors import Mistake
from mtbert.model.devices import autocast
from mtbert.model.world import ALONE, World
from mtbert.schedules import Schedule
from mtbert.training.averaging import Average
from mtbert.training.combiners.base import Combiner
from mtbert.training.objective import Objective
from mtbert.training.optimizer import Optimizer
from mtbert.training.pace import Pace
from mtbert.training.state import Stateful, gather, scatter


@dataclass(frozen=True)
class Record:
    """What one optimiser step did."""

    step: int  # 1 for the first
    lr: float
    terms: dict[str, dict[str, float]]  # task -> loss and penalties, each a mean over the task's batches
    gradient_norm: float  # before clipping
    examples: int
    seconds: float


class Unstable(Mistake):
    """Training went where there are no numbers: a finding about the recipe, unlike other mistakes."""


class Diverged(Unstable):
    """A loss, gradient or weight became nan or inf; `batches` holds the task and the row numbers of each batch."""

    def __init__(self, step: int, values: str, batches: Sequence[tuple[str, Sequence[int]]]) -> None:
        super().__init__(_unstable(step, values, batches, "rows"))
        self.step, self.values, self.batches = step, values, batches

    def said(self, ids: Mapping[str, Sequence[str]]) -> Unstable:
        """The same with ids in place of row numbers; `ids` holds those of each task, in the order of its rows."""
        named = [(task, [ids[task][row] for row in rows]) for task, rows in self.batches]
        return Unstable(_unstable(self.step, self.values, named, "ids"))


class Trainer:
    """One stage: `for record in trainer` takes one optimiser step per turn, until its steps are done.

    An epoch is `epoch` steps. `step`, `pace`, the streams' positions, `state()` (of the optimizer, the objective, the
    combiner and the average) and torch's random state are all it knows; with them restored it goes on to the same
    weights, bit for bit.
    """

    def __init__(
        self,
        objective: Objective,
        *,
        optimizer: Optimizer,
        schedule: Schedule,
        sampler: Sampler,
        streams: Mapping[str, Stream],
        combiner: Combiner,
        steps: int,
        epoch: int,
        clip: float | None = None,
        accumulate: int = 1,
        precision: torch.dtype = torch.float32,
        average: Average | None = None,
        world: World = ALONE,
    ) -> None:
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.sampler = sampler
        self.streams = streams
        self.combiner = combiner
        self.pace = Pace(steps)
        self.epoch = epoch
        self.clip = clip
        self.accumulate = accumulate
        self.precision = precision
        self.average = average or Average()
        self.world = objective.world = combiner.world = world
        combiner.one_graph = sampler.by_rows
        self.step = 0
        self.device = next(objective.model.parameters()).device
        self.learning = {name: p for name, p in objective.model.named_parameters() if p.requires_grad}
        self._begun = False
        self._batches: list[Batch] = []  # of the last step

    def begin(self) -> None:
        """Begin with the model as it is now; the first step does so where nobody has before.

        Penalties that compare with an earlier model copy it here, so that a trainer which never trains costs nothing.
        """
        if not self._begun:
            self.objective.start()
            self.average.begin(self.learning)
            self._begun = True

    @property
    def steps(self) -> int:
        """How many steps the stage has, as far as that is settled."""
        return self.pace.steps

    @property
    def progress(self) -> float:
        """How much of the stage is over, in [0, 1]."""
        return self.pace.at(self.step)

    def settle(self, steps: int) -> None:
        """From here on the stage has so many steps in all: progress goes on from where it is, to reach 1."""
        self.pace = self.pace.settled(steps, self.step)

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    def __iter__(self) -> Iterator[Record]:
        while not self.finished:
            yield self.take_step()

    def take_step(self) -> Record:
        """One optimiser step; raises Diverged where a loss or the gradient is not a number."""
        started = time.perf_counter()
        self.begin()
        self.objective.model.train()
        progress = self.progress

        self._batches = self._draw(progress)
        losses = StepLosses(self, self._batches, progress)
        self.combiner(losses, self.learning)
        self.world.sum_all(p.grad for p in self.objective.weighting.parameters().values() if p.grad is not None)
        norm = self._clip()

        # the first step already learns, the last one still does
        factor = self.schedule(self.pace.at(self.step + 0.5))
        self.optimizer.step(factor)
        self.optimizer.clear()
        self.step += 1

        # losses taken again compare with those of the step
        with autocast(self.device, self.precision), self.world.own_random():
            self.objective.after_step(self._batches, self.progress)
        self.average.after_step(self.step, self.progress)
        if self.step % self.epoch == 0:
            self.objective.weighting.end_epoch()
        examples = sum(batch.whole or len(batch) for batch in self._batches)
        seconds = time.perf_counter() - started
        return Record(self.step, self.optimizer.lr * factor, losses.means(), norm, examples, seconds)

    def state(self) -> dict[str, Tensor]:
        """Everything beside the model, the step and the streams' positions that is needed to go on."""
        self.begin()
        return gather(self._parts)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        self.begin()
        scatter(self._parts, state)

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {
            "optimizer": self.optimizer,
            "objective": self.objective,
            "combiner": self.combiner,
            "average": self.average,
        }

    @property
    def finite(self) -> bool:
        """Whether all weights that learn are numbers."""
        return all(bool(p.isfinite().all()) for p in self.learning.values())

    def diverged(self, values: str) -> Diverged:
        """What to raise where the last step has spoilt the model."""
        return _diverged(self.step, values, self._batches)

    def _draw(self, progress: float) -> list[Batch]:
        """The batches that feed the next step, in the sampler's order."""
        draws = range(self.step * self.accumulate, (self.step + 1) * self.accumulate)
        tasks = [task for draw in draws for task in self.sampler.draw(draw, progress)]
        return [self.streams[task].draw(self.world.rank, self.world.size).to(self.device) for task in tasks]

    def _clip(self) -> float:
        """Scale the gradient down to a norm of at most `clip`, and return the norm that it had."""
        total = nn.utils.get_total_norm([p.grad for p in self.learning.values() if p.grad is not None])
        norm = float(total)
        if not math.isfinite(norm):
            raise _diverged(self.step + 1, f"gradient norm {norm:g}", self._batches)
        if self.clip is not None and norm > self.clip:
            nn.utils.clip_grads_with_norm_(self.learning.values(), self.clip, total)
        return norm


class StepLosses:
    """The losses of one step's batches, computed as a combiner asks for them, so that one graph is alive at a time."""

    def __init__(self, trainer: Trainer, batches: Sequence[Batch], progress: float) -> None:
        self._trainer = trainer
        self._batches = batches
        self._progress = progress
        self._terms: dict[str, list[dict[str, float]]] = defaultdict(list)

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Each batch's task and its share of the step's loss; raises Diverged where that is not a number."""
        trainer = self._trainer
        if trainer.sampler.by_rows:
            yield from self._of_rows()
            return
        for batch in self._batches:
            with autocast(trainer.device, trainer.precision), trainer.world.own_random():
                loss = trainer.objective(batch, self._progress)
            if not (torch.isfinite(loss.total) and all(map(math.isfinite, loss.terms.values()))):
                raise _diverged(trainer.step + 1, _listed(loss.terms), [batch])
            self._terms[batch.task].append(loss.terms)
            part = loss.total if batch.share is None else loss.total * batch.share
            yield batch.task, part / trainer.accumulate

    def _of_rows(self) -> Iterator[tuple[str, Tensor]]:
        """The tasks' losses on each batch of rows; their sum under the name of the first, where nobody tells them
        apart.
        """
        trainer, count = self._trainer, len(self._trainer.streams)
        drawn = [self._batches[start : start + count] for start in range(0, len(self._batches), count)]
        for batches in (some for one in drawn for some in trainer.objective.sharing(one)):
            with autocast(trainer.device, trainer.precision):
                losses = trainer.objective.of_rows(batches, self._progress)
            totals = {task: loss.total for task, loss in losses.items()}
            if not all(torch.isfinite(total) for total in totals.values()):
                values = "; ".join(f"{task} {_listed(loss.terms)}" for task, loss in losses.items())
                raise _diverged(trainer.step + 1, values, batches)
            for task, loss in losses.items():
                self._terms[task].append(loss.terms)
            if not trainer.combiner.by_task:
                totals = {next(iter(totals)): torch.stack([*totals.values()]).sum()}
            for task, total in totals.items():
                yield task, total / trainer.accumulate

    def means(self) -> dict[str, dict[str, float]]:
        """Task -> its loss and penalties, each a mean over the task's batches."""
        return {
            task: {name: fmean(terms[name] for terms in some) for name in some[0]} for task, some in self._terms.items()
        }


def _listed(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in terms.items())


def _diverged(step: int, values: str, batches: Sequence[Batch]) -> Diverged:
    return Diverged(step, values, [(batch.task, batch.own_rows.tolist()) for batch in batches])


def _unstable(step: int, values: str, batches: Sequence[tuple[str, Sequence[object]]], what: str) -> str:
    tasks = ", ".join(f"task '{task}'" for task, _ in batches)
    rows = "; ".join(f"{what} [{', '.join(map(str, some))}]" if some else "texts without labels" for _, some in batches)
    return (
        f"step {step}, {tasks}: training has become numerically unstable ({values}; {rows}); "
        "what was saved before is intact; a lower learning rate or `clip: 1.0` usually helps"
    )
