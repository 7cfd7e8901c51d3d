"""What a step minimises: the weighted loss of its task plus the penalties of the regularizers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.errors import Mistake, at, unknown
from mtbert.model.frozen import AnyModel
from mtbert.model.multitask import MultiTask
from mtbert.model.world import ALONE
from mtbert.training.distillation import Distillation
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes, random_state, replaying
from mtbert.training.state import Stateful, gather, scatter
from mtbert.training.weightings.base import Weighting


class Loss(NamedTuple):
    """A scalar to minimise, and the values of the loss and the penalties that it is made of."""

    total: Tensor
    terms: dict[str, float]


class Objective:
    """Computes weighting(loss of the batch) + penalties.

    The loss of a batch is the mean over its examples or, for a task with a divisor, their sum divided by that number,
    so that small batches count for less. Its examples are those that have a label and, where there are teachers, all.
    Raises Mistake if a regularizer does not fit the model or its tasks.
    """

    def __init__(
        self,
        model: AnyModel,
        regularizers: Mapping[str, Regularizer],
        weighting: Weighting,
        divisors: Mapping[str, int] = MappingProxyType({}),
        distillation: Distillation | None = None,
    ) -> None:
        self.model = model
        self.regularizers = regularizers
        self.weighting = weighting
        self.divisors = divisors
        self.world = ALONE
        self.distillation = distillation
        for number, (name, regularizer) in enumerate(regularizers.items()):
            with at(number):
                for task in regularizer.named_tasks:
                    if task not in model.tasks:
                        raise Mistake(f"regularizer '{name}': {unknown('task', task, model.tasks)}")
                regularizer.check(self._encoding)

    def __call__(self, batch: Batch, progress: float) -> Loss:
        """The loss of one batch at this progress in [0, 1]; raises Mistake if the batch has no labels."""
        loss, penalties = self._terms(batch, progress)
        terms = self._across({"loss": loss, **penalties}, batch)
        self.weighting.summed = partial(self._summed, batch)
        # the loss of the whole batch to the bit, which all processes then weigh alike, with the gradient of this part
        known = loss if batch.share is None else terms["loss"] + (loss - loss.detach())
        total = sum(penalties.values(), self.weighting(batch.task, known))
        return Loss(total, {name: float(value.detach()) for name, value in terms.items()})

    def of_rows(self, batches: Sequence[Batch], progress: float) -> dict[str, Loss]:
        """Task -> its loss on the rows that have its label, or on all where it has teachers, and its penalties on all,
        from one pass of the encoder over the texts that they share; the batches are some of `sharing`.
        """
        found = {}
        for task, (loss, penalties) in self._of_pass(batches, progress).items():
            terms = {"loss": loss, **penalties}
            total = sum(penalties.values(), self.weighting(task, loss))
            found[task] = Loss(total, {name: float(value.detach()) for name, value in terms.items()})
        return found

    def sharing(self, batches: Sequence[Batch]) -> list[list[Batch]]:
        """Batches of the same rows, those together that one pass of the encoder serves; those without labels and
        teachers are left out.
        """
        learning = {batch.task: batch for batch in batches if batch.learnable}
        return [[learning[task] for task in tasks] for tasks in self._encoding.alike(learning)]

    @property
    def scored(self) -> AnyModel:
        """The model to evaluate and to keep: the model that learns, or its average if a regularizer says so."""
        for regularizer in self.regularizers.values():
            scored = regularizer.scored(self._encoding)
            if scored is not self.model:
                return scored
        return self.model

    def gradient_shares(self, batch: Batch, progress: float) -> dict[str, float]:
        """Term -> the norm of its gradient as a share of the sum of all terms' norms.

        Gradients, random state and weighting are left as they were. This costs as much as a step, and another backward
        pass per penalty.
        """
        learning = [p for p in self.model.parameters() if p.requires_grad]
        device = batch.tokens.device
        remembered = {name: tensor.clone() for name, tensor in self.weighting.state().items()}
        with replaying(random_state(device), device):
            loss, penalties = self._terms(batch, progress)
            terms = {"loss": self.weighting(batch.task, loss), **penalties}
            norms = {name: _gradient_norm(term, learning) for name, term in terms.items()}
        self.weighting.load(remembered)
        whole = sum(norms.values())
        return {name: norm / whole if whole else 0.0 for name, norm in norms.items()}

    def start(self) -> None:
        """Called when the stage begins, with the model as it then is."""
        if self.distillation is not None:
            self.distillation.start()
        for regularizer in self.regularizers.values():
            regularizer.start(self._encoding)

    def after_step(self, batches: Sequence[Batch], progress: float) -> None:
        """Called when the optimizer has moved the model on these batches."""
        for regularizer in self.regularizers.values():
            regularizer.after_step(self._encoding, progress)
        self.weighting.after_step(lambda: self._losses_again(batches, progress))

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed stage needs beside the model's weights, as tensors by name."""
        return gather(self._parts)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, after `start`."""
        scatter(self._parts, state)

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {"weighting": self.weighting, **self.regularizers}

    @property
    def _encoding(self) -> MultiTask:
        """The model with its encoder, which penalties need; raises Mistake if features were computed once instead."""
        if not isinstance(self.model, MultiTask):
            raise Mistake("regularizers need the encoder, not features computed once: set `cache_features: false`")
        return self.model

    def _terms(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The plain loss and the weighted penalties, each with its graph."""
        return self._of_pass([batch], progress)[batch.task]

    def _of_pass(self, batches: Sequence[Batch], progress: float) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
        """The same of several tasks that one pass serves."""
        tasks = [batch.task for batch in batches]
        penalising = {
            task: {name: penalty for name, penalty in self.regularizers.items() if penalty.applies_to(task)}
            for task in tasks
        }
        passes: list[Passes] = []
        if any(penalising.values()):
            passes = Passes.together(self._encoding, batches)
            outputs = {one.batch.task: one.clean.outputs for one in passes}
        elif len(batches) == 1:
            outputs = {tasks[0]: self.model(batches[0])}
        else:
            outputs = self._encoding.together(batches[0], tasks)
        losses = {batch.task: self._task_loss(batch, outputs[batch.task], progress) for batch in batches}
        penalties = {
            one.batch.task: {name: penalty(one, progress) for name, penalty in penalising[one.batch.task].items()}
            for one in passes
        }
        return {task: (losses[task], penalties.get(task, {})) for task in tasks}

    def _across(self, terms: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """The terms of the whole batch, where this process computes a part of it: the parts' mean, by examples."""
        if batch.share is None:
            return dict(terms)
        values = self._summed(batch, torch.stack([term.detach().double() for term in terms.values()]))
        return {name: value.to(term.dtype) for (name, term), value in zip(terms.items(), values, strict=True)}

    def _summed(self, batch: Batch, own: Tensor) -> Tensor:
        """What the processes that compute a batch together have of something, by their shares of the examples."""
        return own if batch.share is None else self.world.sum(own * batch.share)

    def _task_loss(self, batch: Batch, outputs: Tensor, progress: float) -> Tensor:
        """The plain loss of a batch: the mean over its examples, or their sum over its task's divisor."""
        if batch.targets is None:
            raise Mistake(f"task '{batch.task}' has no labels to learn from")
        task = self.model.tasks[batch.task]
        losses = task.losses(outputs if batch.labelled is None else outputs[batch.labelled], batch.targets)
        if self.distillation is not None:
            losses = self.distillation.losses(task, batch, outputs, losses, progress)
        divisor = self.divisors.get(batch.task)
        if not len(losses):
            return losses.sum()  # a batch without labels and teachers has no loss
        # parts of a batch are added up by their shares, so that the divisor of each is for what it holds of the whole
        held = len(batch) / (batch.whole or len(batch))
        return losses.mean() if divisor is None else losses.sum() / (divisor * held)

    @torch.no_grad()
    def _losses_again(self, batches: Sequence[Batch], progress: float) -> dict[str, Tensor]:
        """Task -> its plain loss with the model as it is now, the mean over its batches."""
        losses: dict[str, list[Tensor]] = defaultdict(list)
        for batch in batches:
            if not batch.learnable:
                continue
            loss = self._across({"loss": self._task_loss(batch, self.model(batch), progress)}, batch)
            losses[batch.task].append(loss["loss"])
        return {task: torch.stack(some).mean() for task, some in losses.items()}


def _gradient_norm(term: Tensor, parameters: Sequence[Tensor]) -> float:
    """The norm of a term's gradient over all parameters; the graph stays."""
    if not term.requires_grad:
        return 0.0  # a penalty that does not depend on the parameters here
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return float(torch.nn.utils.get_total_norm([g for g in gradients if g is not None]))
