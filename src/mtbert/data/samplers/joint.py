"""Samplers whose every step is fed by one batch of every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mtbert.data.samplers.base import BatchSize, Sampler
from mtbert.errors import Mistake, unknown


class Joint(Sampler):
    """One batch of every task in each step. An epoch: one pass over the longest or the shortest task.

    With `until: longest` smaller tasks begin again, reshuffled, within an epoch; with `until: shortest` the next epoch
    goes on with the rest of the larger tasks. The stage's combiner turns the losses of a step into one gradient.

    Source: Bi et al., 2022, https://doi.org/10.18653/v1/2022.findings-acl.209
    """

    several = True

    def __init__(
        self,
        examples: Mapping[str, int],
        batch_size: BatchSize,
        seed: int,
        *,
        until: Literal["longest", "shortest"] = "longest",
    ) -> None:
        super().__init__(examples, batch_size, seed)
        last = max if until == "longest" else min
        self.steps_per_epoch = last(self.batches.values())

    def draw(self, step: int, progress: float) -> list[str]:
        return list(self.tasks)


class JointRows(Joint):
    """One batch of rows in each step, with every label that they have: tasks that read one file share a single pass of
    the encoder. An epoch: one pass over the rows.

    A row without a label for some task (`missing: skip`) is read all the same and left out of that task's loss, unless
    the stage has teachers to ask (`distill`); penalties look at every row. Tasks with modules of their own, or another
    `max_length`, have a pass of their own over the rows. A combiner other than `sum` takes a backward pass for each
    task, through the graph of the one pass.
    """

    by_rows = True

    def __init__(self, examples: Mapping[str, int], batch_size: BatchSize, seed: int) -> None:
        super().__init__(examples, batch_size, seed)
        if len({*self.batch_sizes.values()}) > 1:
            raise Mistake("sampler 'joint_rows' draws one batch for all tasks: give one `batch_size`")


class JointByRatio(Sampler):
    """One batch of every task in each step, in epochs whose length is set by a reference task. An epoch: batches of the
    reference x its size / size of the largest task, rounded down.

    `reference` is the first task unless another is named. The larger the largest task is beside it, the fewer of the
    largest task's batches an epoch sees; the next epoch goes on where the last ended.

    Source: report 'MultiBERT'
    """

    several = True

    def __init__(
        self, examples: Mapping[str, int], batch_size: BatchSize, seed: int, *, reference: str | None = None
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
