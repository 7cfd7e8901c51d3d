"""Samplers that draw one batch of each task in turn; they differ in batch sizes and in where an epoch ends."""

from __future__ import annotations

from collections.abc import Mapping

from mtbert.data.samplers.base import BatchSize, Sampler


class InTurn(Sampler):
    """Draws the tasks one after the other, in the order of the recipe; a method says how long an epoch is."""

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class RoundRobin(InTurn):
    """One task after the other, in recipe order. An epoch: as many steps as all tasks together have batches.

    An epoch then goes through a small task more than once, and does not reach the end of the largest.
    """


class CycleToLongest(InTurn):
    """Round robin until the largest task is exhausted. An epoch: one pass over the largest task.

    Smaller tasks begin again, reshuffled, as often as it takes.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        self.steps_per_epoch = len(self.tasks) * max(self.batches.values())


class StopAtShortest(InTurn):
    """Round robin until the smallest task is exhausted. An epoch: one pass over the smallest task, and as many batches
    of each other task.

    The next epoch goes on with the rest of the larger tasks, so that in time all of their examples are seen.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        self.steps_per_epoch = len(self.tasks) * min(self.batches.values())


class EqualRoundRobin(InTurn):
    """Round robin over equally large samples of the tasks. An epoch: one pass over each sample.

    A sample fills as many full batches as the smallest task has; the report calls this rrobin. Samples are chosen once:
    every epoch sees the same examples, in another order.

    Source: report 'Walk Less and Only Down Smooth Valleys'
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        rounds = min(self.full_batches(task) for task in self.tasks)
        self.examples = {task: rounds * size for task, size in self.batch_sizes.items()}
        self.steps_per_epoch = len(self.tasks) * rounds


class Interleaved(InTurn):
    """Round robin with smaller batches of smaller tasks, so that all tasks run out together. An epoch: about one pass
    over every task.

    To be exact, an epoch has as many rounds as the largest task has full batches, but no more than the smallest task
    has examples, and a task's batch size is its number of examples divided by the rounds, rounded down. The next epoch
    goes on with what was left of each task. The report, which calls this rrobin-full, divides each loss by the full
    batch size, as `reduction: fixed_batch` does.

    Source: report 'Walk Less and Only Down Smooth Valleys'
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        rounds = min(self.full_batches(self.largest), *self.examples.values())
        self.batch_sizes = {task: min(size, self.examples[task] // rounds) for task, size in self.batch_sizes.items()}
        self.steps_per_epoch = len(self.tasks) * rounds


class Tail(Sampler):
    """The largest task alone at first; each other task joins just in time to be done when the epoch ends. An epoch: all
    full batches of every task.

    Tasks that have joined take turns, and the next epoch goes on with what was left of each task. This is rrobin-pre as
    the report's code has it, in every epoch. Its text describes a single long start with round robin after it: for
    that, write two stages.

    Source: report 'Walk Less and Only Down Smooth Valleys'
    """

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        full = {task: self.full_batches(task) for task in self.tasks}
        rounds = max(full.values())
        self.starts = {task: rounds - count for task, count in full.items()}  # the round in which each task joins
        self._order = [task for turn in range(rounds) for task in self.tasks if turn >= self.starts[task]]
        self.steps_per_epoch = len(self._order)

    def draw(self, step: int, progress: float) -> list[str]:
        return [self._order[step % self.steps_per_epoch]]
