"""One batch of each task in turn: what these samplers differ in is the size of the batches and where an epoch ends."""

from __future__ import annotations

from collections.abc import Mapping

from mtbert.data.samplers.base import Sampler


class RoundRobin(Sampler):
    """One task after the other, in recipe order. An epoch: as many steps as all tasks together have batches.

    Small tasks are then seen more than once an epoch, and the largest not whole.
    """

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class CycleToLongest(Sampler):
    """Round robin until the largest task is exhausted. An epoch: one pass over it.

    Smaller tasks begin again, reshuffled, as often as it takes.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        self.steps_per_epoch = len(self.tasks) * max(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class StopAtShortest(Sampler):
    """Round robin until the smallest task is exhausted. An epoch: one pass over it, and as many batches of the others.

    The next epoch goes on with the rest of the larger tasks, so that in time all of their examples are seen.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        self.steps_per_epoch = len(self.tasks) * min(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class EqualRoundRobin(Sampler):
    """Round robin over equally large samples of the tasks. An epoch: one pass over each sample.

    A sample fills as many full batches as the smallest task has (report 'Walk Less and Only Down Smooth Valleys',
    rrobin). It is chosen once: every epoch sees the same examples, in another order.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        rounds = min(self.full_batches(task) for task in self.tasks)
        self.examples = dict.fromkeys(self.tasks, rounds * batch_size)
        self.steps_per_epoch = len(self.tasks) * rounds

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class Interleaved(Sampler):
    """Round robin with smaller batches of smaller tasks, so that all last alike. An epoch: about one pass over all.

    Exactly: as many rounds as the largest task has full batches, though no more than the smallest task has examples; a
    batch of a task is its examples over the rounds, rounded down (report 'Walk Less and Only Down Smooth Valleys',
    rrobin-full). The next epoch goes on with what was left of each task. The report divides losses by the full batch
    size: `reduction: fixed_batch`.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        rounds = min(self.full_batches(self.largest), *self.examples.values())
        self.batch_sizes = {task: min(batch_size, count // rounds) for task, count in self.examples.items()}
        self.steps_per_epoch = len(self.tasks) * rounds

    def draw(self, step: int, progress: float) -> list[str]:
        return [self.tasks[step % len(self.tasks)]]


class Tail(Sampler):
    """The largest task alone at first, each other when it lasts to the end. An epoch: all full batches of every task.

    Tasks that have joined take turns (report 'Walk Less and Only Down Smooth Valleys', rrobin-pre, whose code does this
    in every epoch; for its text, one long start and round robin after it, write two stages). The next epoch goes on
    with what was left of each task.
    """

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        full = {task: self.full_batches(task) for task in self.tasks}
        rounds = max(full.values())
        self.starts = {task: rounds - count for task, count in full.items()}  # the round in which each task joins
        self._order = [task for turn in range(rounds) for task in self.tasks if turn >= self.starts[task]]
        self.steps_per_epoch = len(self._order)

    def draw(self, step: int, progress: float) -> list[str]:
        return [self._order[step % self.steps_per_epoch]]
