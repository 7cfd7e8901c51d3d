"""What a sampler is: which tasks feed the next optimiser step, and with batches of what size.

A sampler is a function of the step and of progress, never of what it did before: a resumed run draws what the
uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtbert.errors import Mistake


class Sampler:
    """Made from how many examples each task has, the batch size asked for, and a seed.

    `batch_sizes` says how many examples a batch of each task has, `examples` how many of its examples a task trains on
    at all, `steps_per_epoch` what the sampler calls an epoch, and `several` whether one step is fed by more than one
    task. A task's batches come from an endless stream: it shuffles anew whenever the task is exhausted, and goes on
    where it was left, whatever the sampler calls an epoch.
    """

    several = False
    steps_per_epoch: int

    def __init__(self, examples: Mapping[str, int], batch_size: int, seed: int) -> None:
        self.tasks = list(examples)
        self.seed = seed
        self.examples = dict(examples)
        self.batch_sizes = dict.fromkeys(examples, batch_size)
        self.steps_per_epoch = sum(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        """The tasks that feed step `step`, one batch each; `progress` in [0, 1] is how far the stage has come."""
        raise NotImplementedError

    @property
    def batches(self) -> dict[str, int]:
        """Batches of each task in a pass over it, the last one perhaps smaller."""
        return {task: -(-count // self.batch_sizes[task]) for task, count in self.examples.items()}

    @property
    def largest(self) -> str:
        """The task with the most examples."""
        return max(self.tasks, key=lambda task: self.examples[task])

    def full_batches(self, task: str) -> int:
        """How many full batches a task has; raises Mistake where it does not fill one."""
        count, size = self.examples[task], self.batch_sizes[task]
        if count < size:
            raise Mistake(
                f"task '{task}' has {count} examples, fewer than one batch of {size}, and this sampler draws full "
                "batches: lower batch_size, or choose another sampler"
            )
        return count // size
