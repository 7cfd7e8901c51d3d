"""SMART: the worst that a tiny perturbation of the embeddings can do to the outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.registry import Count, NonNegative, Positive
from mtbert.schedules import VaryingByTask
from mtbert.training.regularizers.ascent import DIVERGENCE, Measure, by_example, uphill
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Comparison, Dropout, Passes

ORDERS = {"inf": math.inf, "l2": 2.0}


@dataclass(kw_only=True)
class Smart(Regularizer):
    """SMART: divergence under the worst perturbation of the embeddings in a small ball (Jiang et al., 2020).

    From noise of size `sigma`, each ascent step moves `step_size` along the gradient of the divergence, which is
    normalised, and projects onto the ball of `radius`; norm and ball are those of an example, both texts of a pair
    encoded apart together. The paper's weights are 1, 3 and 5.

    The penalty is a difference of two passes. At the paper's radius float32 holds it to half a per cent and its
    gradient to two. The same radius in the l2 norm moves a unit by about 1e-7, and half of the gradient or more is
    rounding; a radius of 1e-3 in that norm is held as well as the paper's.
    """

    weight: VaryingByTask = 5.0
    radius: NonNegative = 1e-5
    step_size: Positive = 1e-3
    sigma: NonNegative = 1e-5
    ascent_steps: Count = 1
    norm: Literal["inf", "l2"] = "inf"
    dropout: Dropout = "off"
    stop_clean: bool = False

    def penalty(self, passes: Passes) -> Tensor:
        comparison = passes.under(self.dropout, min(self.radius, self.sigma))
        noise = self.perturbation(comparison)
        noisy = comparison.again(comparison.clean.states[0] + noise)
        return comparison.distance(noisy.outputs, self.stop_clean)

    def perturbation(self, comparison: Comparison) -> Tensor:
        """What is added to the embeddings: (S, L, D), zero where no token stands."""
        batch = comparison.passes.batch
        clean = comparison.clean.states[0].detach()
        noise = self.sigma * torch.randn_like(clean) * batch.mask[:, :, None]
        for _ in range(self.ascent_steps):
            (gradient,) = uphill(comparison, DIVERGENCE, [noise], [clean], lambda noise: clean + noise[0])
            noise = self._project(noise + self.step_size * self._direction(gradient, batch), batch)
        return noise

    def _direction(self, gradient: Tensor, batch: Batch) -> Tensor:
        size = self._size(gradient, batch)
        known = (size > 0) & size.isfinite()
        return (by_example(gradient, batch) / size).where(known, 0.0).flatten(0, 1)

    def _project(self, noise: Tensor, batch: Batch) -> Tensor:
        if self.norm == "inf":
            return noise.clamp(-self.radius, self.radius)
        size = self._size(noise, batch)
        return (by_example(noise, batch) * (self.radius / size.clamp(min=self.radius or 1.0))).flatten(0, 1)

    def _size(self, x: Tensor, batch: Batch) -> Tensor:
        """The norm of each example: (1, B, 1, 1)."""
        size: Tensor = torch.linalg.vector_norm(by_example(x, batch), ORDERS[self.norm], dim=(0, 2, 3), keepdim=True)
        return size


@dataclass(kw_only=True)
class SmartMtdnn(Regularizer):
    """SMART as the mt-dnn release computes it: no ball, each token's perturbation as large as its largest unit.

    The noise after an ascent step is divided by its largest unit per token, so that it reaches about 1; the ascent
    climbs a surrogate of the divergence (see `surrogate`), and each side of the symmetric KL learns through its
    logarithm alone. Left out are the release's errors: embeddings embedded twice, and a squared error between all pairs
    of scores.
    """

    step_size: Positive = 1e-3
    sigma: NonNegative = 1e-5
    epsilon: Positive = 1e-6
    ascent_steps: Count = 1
    dropout: Dropout = "independent"

    def penalty(self, passes: Passes) -> Tensor:
        comparison = passes.under(self.dropout, self.sigma)
        noise = self.perturbation(comparison)
        noisy = comparison.again(comparison.clean.states[0] + noise)
        return _log_sided(passes.task, noisy.outputs, comparison.clean.outputs)

    def perturbation(self, comparison: Comparison) -> Tensor:
        """What is added to the embeddings: (S, L, D)."""
        clean = comparison.clean.states[0].detach()
        noise = self.sigma * torch.randn_like(clean)
        for _ in range(self.ascent_steps):
            (gradient,) = uphill(comparison, SURROGATE, [noise], [clean], lambda noise: clean + noise[0])
            noise = noise + self.step_size * gradient
            noise = noise / (noise.abs().amax(-1, keepdim=True) + self.epsilon)
        return noise


EPSILON = 1e-6  # of the surrogate's log-odds


def surrogate(task: Task, outputs: Tensor, target: Tensor) -> Tensor:
    """What mt-dnn's ascent climbs, summed over the batch: 2 * sum p * (logit(p) - logit(q)), log-odds held fixed.

    Not symmetric, and no divergence. mt-dnn has it for a softmax over classes; outputs that are none climb the
    divergence of their kind, scores the squared distance.
    """
    log_p, log_q = task.log_probabilities(outputs), task.log_probabilities(target)
    if log_p is None or log_q is None:
        return task.divergence(outputs, target).sum()
    p, q = log_p.exp(), log_q.exp()
    odds_p, odds_q = (-(1 / (x + EPSILON) - 1 + EPSILON).detach().log() for x in (p, q))
    return 2 * (p * (odds_p - odds_q)).sum()


def surrogate_gradient(task: Task, target: Tensor, tangent: Tensor) -> Tensor:
    """The surrogate's gradient at target + tangent, for a small tangent: both (B, outputs) -> (B, outputs).

    A tangent moves probabilities by F * tangent, log-odds by that times their own slope, and p * log-odds with these
    held fixed by F once more. For outputs that are no softmax that of the divergence.
    """
    log_p = task.log_probabilities(target)
    if log_p is None:
        return 2 * task.curvature(target, tangent)
    p = log_p.exp()
    # 1 - p without its rounding
    others = (p[:, None, :] * (1 - torch.eye(p.shape[-1], device=p.device))).sum(-1)
    odds = task.curvature(target, tangent) / ((p + EPSILON) * (others * (1 - EPSILON) + EPSILON**2))
    return 2 * task.curvature(target, odds)


SURROGATE = Measure(surrogate, surrogate_gradient)


def _log_sided(task: Task, outputs: Tensor, clean: Tensor) -> Tensor:
    """The divergence in value; in gradient each class distribution moves through its logarithm alone."""
    log_p, log_q = task.log_probabilities(outputs), task.log_probabilities(clean)
    if log_p is None or log_q is None:
        return task.divergence(outputs, clean).mean()
    p, q = log_p.detach().exp(), log_q.detach().exp()
    forth, back = q * (log_q.detach() - log_p), p * (log_p.detach() - log_q)
    return (forth + back).sum(-1).mean()
