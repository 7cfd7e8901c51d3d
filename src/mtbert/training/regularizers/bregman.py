"""Bregman proximal point: outputs that stay near those of an earlier self."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field, Strict
from torch import Tensor

from mtbert.model.multitask import MultiTask
from mtbert.registry import Share
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes
from mtbert.training.teacher import Teacher, check_device


@dataclass(kw_only=True)
class Bregman(Regularizer):
    """Bregman proximal point with momentum: stay near a moving average of oneself (Jiang et al., 2020).

    The teacher follows after every optimizer step, at `decay` for the first `early` share of the stage and at
    `late_decay` from then on. It reads the batch without dropout; the student's outputs are those of the loss. With
    `evaluate: teacher` the average is what is scored and kept (mean teacher; Tarvainen and Valpola, 2017).
    `teacher_device` keeps the copy on another device than the model.
    """

    decay: Share = 0.99
    late_decay: Share = 0.999
    early: Share = 0.1
    evaluate: Literal["student", "teacher"] = "student"
    teacher_device: str | None = None
    teacher: Teacher | None = field(default=None, init=False)

    def penalty(self, passes: Passes) -> Tensor:
        return _distance_from(self.teacher, passes)

    def check(self, model: MultiTask) -> None:
        check_device(self.teacher_device)

    def start(self, model: MultiTask) -> None:
        self.teacher = Teacher(model, self.teacher_device)

    def after_step(self, model: MultiTask, progress: float) -> None:
        assert self.teacher is not None  # the stage has begun
        self.teacher.follow(model, self.decay if progress <= self.early else self.late_decay)

    def scored(self, model: MultiTask) -> MultiTask:
        return model if self.teacher is None or self.evaluate == "student" else self.teacher.model

    def state(self) -> dict[str, Tensor]:
        return {} if self.teacher is None else dict(self.teacher.model.state_dict())

    def load(self, state: Mapping[str, Tensor]) -> None:
        assert self.teacher is not None  # the stage has begun
        self.teacher.model.load_state_dict(state)


@dataclass(kw_only=True)
class BregmanR2Exact(Bregman):
    """Bregman proximal point as it ran for a report ('Walk Less and Only Down Smooth Valleys').

    The teacher reads the batch with dropout, and follows at one decay throughout; binary tasks are left alone.

    Their softmax over one logit was constant, so that nothing was left of paraphrase. Of scores they took the softmax
    over the batch, and the mean squared distance of that.
    """

    decay: Share = 0.995
    late_decay: Share = 0.995

    def penalty(self, passes: Passes) -> Tensor:
        assert self.teacher is not None  # the stage has begun
        if passes.task.binary:
            return passes.clean.outputs.new_zeros(())
        taught = self.teacher.outputs(passes.batch, dropout=True)
        if passes.task.scored:
            ours, theirs = (scores.float().softmax(0) for scores in (passes.clean.outputs, taught))  # over the batch
            return (ours - theirs).square().mean()
        return passes.task.divergence(passes.clean.outputs, taught).mean()


@dataclass(kw_only=True)
class BregmanRefresh(Regularizer):
    """Bregman proximal point without momentum: stay near oneself as of the last refresh (Jiang et al., 2020).

    The teacher becomes the model every `refresh` steps, 2 at least: refreshed after every step (S = 1) it equals the
    model whenever the penalty is taken, where the divergence has its minimum and no gradient, so that nothing but
    dropout's noise would be left. The paper gives no interval.
    """

    refresh: Annotated[int, Strict(), Field(ge=2)] = 10
    teacher_device: str | None = None
    teacher: Teacher | None = field(default=None, init=False)
    steps: int = field(default=0, init=False)

    def penalty(self, passes: Passes) -> Tensor:
        return _distance_from(self.teacher, passes)

    def check(self, model: MultiTask) -> None:
        check_device(self.teacher_device)

    def start(self, model: MultiTask) -> None:
        self.teacher, self.steps = Teacher(model, self.teacher_device), 0

    def after_step(self, model: MultiTask, progress: float) -> None:
        assert self.teacher is not None  # the stage has begun
        self.steps += 1
        if self.steps % self.refresh == 0:
            self.teacher.follow(model, decay=0.0)

    def state(self) -> dict[str, Tensor]:
        if self.teacher is None:
            return {}
        return {"steps": torch.tensor(self.steps)} | {
            f"teacher.{name}": tensor for name, tensor in self.teacher.model.state_dict().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        assert self.teacher is not None  # the stage has begun
        self.steps = int(state["steps"])
        self.teacher.model.load_state_dict(
            {key.removeprefix("teacher."): tensor for key, tensor in state.items() if key != "steps"}
        )


def _distance_from(teacher: Teacher | None, passes: Passes) -> Tensor:
    assert teacher is not None  # the stage has begun
    return passes.task.divergence(passes.clean.outputs, teacher.outputs(passes.batch)).mean()
