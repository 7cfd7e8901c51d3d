"""One batch of every task in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mtbert.data.samplers.base import Sampler
from mtbert.errors import Mistake, unknown


class Joint(Sampler):
    """One batch of every task in each step (Bi et al., 2022). An epoch: one pass over the longest or the shortest task.

    `until: longest` lets smaller tasks begin again, reshuffled; after `until: shortest` the next epoch goes on with the
    rest of the larger ones. The combiner joins the losses of a step.
    """

    several = True

    def __init__(
        self,
        examples: Mapping[str, int],
        batch_size: int,
        seed: int,
        *,
        until: Literal["longest", "shortest"] = "longest",
    ) -> None:
        super().__init__(examples, batch_size, seed)
        last = max if until == "longest" else min
        self.steps_per_epoch = last(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        return list(self.tasks)


class JointByRatio(Sampler):
    """One batch of every task in each step (report 'MultiBERT'). An epoch: batches x size / largest size.

    These are the batches and the size of `reference`, the first task unless named; rounded down. The more the largest
    task outweighs it, the less of the largest an epoch sees; the next epoch goes on where this one ended.
    """

    several = True

    def __init__(
        self, examples: Mapping[str, int], batch_size: int, seed: int, *, reference: str | None = None
    ) -> None:
        super().__init__(examples, batch_size, seed)
        task = self.tasks[0] if reference is None else reference
        if task not in examples:
            raise Mistake(unknown("reference of sampler 'joint_by_ratio':", task, examples))
        self.steps_per_epoch = self.batches[task] * examples[task] // examples[self.largest]
        if not self.steps_per_epoch:
            raise Mistake(
                f"sampler 'joint_by_ratio': reference '{task}' is too small beside '{self.largest}': "
                f"{self.batches[task]} batches x {examples[task]} / {examples[self.largest]} examples is less than a "
                "step; name a larger reference, or lower batch_size"
            )

    def draw(self, step: int, progress: float) -> list[str]:
        return list(self.tasks)
