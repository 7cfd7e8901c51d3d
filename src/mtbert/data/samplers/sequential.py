"""Samplers that train on one task after the other; a large task may be split, with one part per epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from mtbert.data.samplers.base import BatchSize, Sampler
from mtbert.errors import Mistake, unknown
from mtbert.registry import Count


class Sequential(Sampler):
    """All batches of one task, then all of the next, in recipe order. An epoch: one pass over every task.

    The model remembers best the task it was trained on last. Every epoch shuffles each task anew. This is the report's
    baseline.

    Source: report 'SMARTer BERT'
    """

    def draw(self, step: int, progress: float) -> list[str]:
        return [_whose_turn(self.batches, step % self.steps_per_epoch)]


class EqualSplit(Sampler):
    """Sequential, but with large tasks split into parts. An epoch: the whole of every unsplit task, and one part of
    every split task.

    The parts of a pass over a task are disjoint and cover it; the last may be shorter, so epochs differ a little in
    length, and `steps_per_epoch` is the length of the first. When all parts have been seen, the task is shuffled and
    split anew. The report splits it once: with `keep_parts` a part holds the same examples, in another order, whenever
    its turn comes.

    `parts` maps tasks to numbers of parts. Without it the largest task is split into parts of about the size of the
    next largest task: 17 for the report's data, its split1.

    Source: report 'SMARTer BERT'
    """

    def __init__(
        self,
        examples: Mapping[str, int],
        batch_size: BatchSize,
        seed: int,
        *,
        parts: dict[str, Count] | None = None,
        keep_parts: bool = False,
    ) -> None:
        super().__init__(examples, batch_size, seed)
        self.parts = dict.fromkeys(self.tasks, 1) | (self._largest_like_the_next() if parts is None else parts)
        self._cuts: dict[str, _Cut] = {}
        for task, count in self.parts.items():
            if task not in examples:
                raise Mistake(unknown("task in `parts` of sampler 'equal_split':", task, examples))
            batches = self.batches[task]
            size = -(-batches // count)
            if (count - 1) * size >= batches:
                raise Mistake(
                    f"sampler 'equal_split': the {batches} batches of task '{task}' do not fill {count} parts; "
                    f"they fill {-(-batches // size)} parts of {size}"
                )
            self._cuts[task] = _Cut(batches, count, size)
        if keep_parts:
            self.kept_parts = {task: cut.size for task, cut in self._cuts.items()}
        self.steps_per_epoch = self._begun(1)

    def draw(self, step: int, progress: float) -> list[str]:
        # an epoch has a step at least, so epoch `step` begins at `step` or later
        epoch = bisect_right(range(step + 1), step, key=self._begun) - 1
        turns = {task: cut.drawn(epoch + 1) - cut.drawn(epoch) for task, cut in self._cuts.items()}
        return [_whose_turn(turns, step - self._begun(epoch))]

    def _largest_like_the_next(self) -> dict[str, int]:
        """The number of parts that makes a part of the largest task about as long as the next largest task."""
        others = [batches for task, batches in self.batches.items() if task != self.largest]
        return {self.largest: -(-self.batches[self.largest] // max(others))} if others else {}

    def _begun(self, epoch: int) -> int:
        """The step at which this epoch begins."""
        return sum(cut.drawn(epoch) for cut in self._cuts.values())


class _Cut(NamedTuple):
    """A task's batches cut into parts of `size` batches, the last of which may be shorter."""

    batches: int
    parts: int
    size: int

    def drawn(self, epoch: int) -> int:
        """How many of the task's batches are drawn before this epoch."""
        passes, part = divmod(epoch, self.parts)
        return passes * self.batches + part * self.size


def _whose_turn(turns: Mapping[str, int], step: int) -> str:
    """The task at this step of an epoch in which each task takes all its turns before the next begins."""
    for task, count in turns.items():
        if step < count:
            return task
        step -= count
    raise IndexError("the epoch is over")
