"""What a sampler is: it chooses the tasks that feed the next optimiser step, and the sizes of their batches.

A sampler is a function of the step and of progress and keeps no state, so a resumed run draws what the uninterrupted
run would have drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mtbert.errors import Mistake

BatchSize = int | Mapping[str, int]


class Sampler:
    """Chooses the tasks of each step, given how many examples each task has, the batch size asked for and a seed.

    `batch_sizes` holds the number of examples in a batch of each task, `examples` how many of its examples each task
    trains on at all, `steps_per_epoch` the length of what the sampler calls an epoch; `several` is true where more than
    one task feeds a step. A task's batches come from an endless stream: it shuffles anew whenever the task is exhausted
    and otherwise goes on where it stopped, also from one epoch to the next. A task in `kept_parts` is shuffled within
    parts of so many batches, which hold the same examples in every pass.

    The batch size is one number for all tasks, or a number for each.

    >>> from mtbert.data.samplers.in_turn import RoundRobin
    >>> sampler = RoundRobin({"mood": 100, "paraphrase": 30}, batch_size=10, seed=1)
    >>> [sampler.draw(step, progress=0.0) for step in range(3)]
    [['mood'], ['paraphrase'], ['mood']]
    >>> sampler.steps_per_epoch
    13
    """

    several = False
    by_rows = False  # whether the tasks of a step are given the same rows of one file
    kept_parts: Mapping[str, int] = MappingProxyType({})
    steps_per_epoch: int

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        self.tasks = list(examples)
        self.seed = seed
        self.examples = dict(examples)
        sizes = dict.fromkeys(examples, batch_size) if isinstance(batch_size, int) else batch_size
        self.batch_sizes = {task: sizes[task] for task in examples}
        self.steps_per_epoch = sum(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        """The tasks that feed step `step`, one batch each; `progress` in [0, 1] is how far the stage has come."""
        raise NotImplementedError

    @property
    def batches(self) -> dict[str, int]:
        """Task -> the number of batches in a pass over it; the last of them may be smaller than the others."""
        return {task: -(-count // self.batch_sizes[task]) for task, count in self.examples.items()}

    @property
    def largest(self) -> str:
        """The task with the most examples."""
        return max(self.tasks, key=lambda task: self.examples[task])

    def full_batches(self, task: str) -> int:
        """How many full batches a task has; raises Mistake if it has fewer examples than a batch."""
        count, size = self.examples[task], self.batch_sizes[task]
        if count < size:
            raise Mistake(
                f"task '{task}' has {count} examples, fewer than one batch of {size}, and this sampler draws full "
                "batches: lower batch_size, or choose another sampler"
            )
        return count // size
