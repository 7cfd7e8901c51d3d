"""The gradient that SMART's ascents climb, without subtracting what rounding has made equal.

Noise of 1e-5 moves outputs by a few units in their last place, so that the gradient of a divergence between the two
passes would be left to rounding. For small noise it is linear in it, J^T F J * noise with J the model's Jacobian and F
the measure's curvature, and each factor can be had exactly enough: J * noise from a pass with the noise drawn out to
the middle of the precision, J^T from the clean pass. That costs what a finite pass and its gradient do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.training.regularizers.passes import Comparison

Embed = Callable[[Sequence[Tensor]], Tensor]


class Measure(NamedTuple):
    """What an ascent climbs: a function of outputs and clean outputs, and its gradient where they hardly differ."""

    value: Callable[[Task, Tensor, Tensor], Tensor]  # outputs, clean outputs: both (B, outputs) -> scalar
    gradient: Callable[[Task, Tensor, Tensor], Tensor]  # clean outputs, tangent: both (B, outputs) -> (B, outputs)


DIVERGENCE = Measure(
    lambda task, outputs, clean: task.divergence(outputs, clean).sum(),
    lambda task, clean, tangent: 2 * task.curvature(clean, tangent),
)


def uphill(
    comparison: Comparison, measure: Measure, noise: Sequence[Tensor], onto: Iterable[Tensor], embed: Embed
) -> list[Tensor]:
    """The gradient of the measure, summed over the batch, by each noise; parameters stay out of it.

    `embed` makes embeddings (S, L, D) from the noise, each part of which is added to a part of `onto`.
    """
    stretch = reach(noise, onto, comparison.clean.outputs.dtype)
    if comparison.by_noise_alone and 1 < stretch < float("inf"):
        return _linear(comparison, measure, noise, stretch, embed)
    tried = [one.detach().requires_grad_() for one in noise]
    outputs = comparison.again(embed(tried)).outputs
    clean = comparison.clean.outputs.detach()
    return list(torch.autograd.grad(measure.value(comparison.passes.task, outputs, clean), tried))


def reach(noise: Iterable[Tensor], onto: Iterable[Tensor], precision: torch.dtype) -> float:
    """How far noise can be drawn out: up to sqrt(eps) of what it is added to; above 1 the noise is small.

    There the rounding of a difference, eps / size, and its curvature, size, are alike. In float32 it is 3.5e-4.
    """
    largest = torch.stack([one.detach().norm() / base.detach().norm() for one, base in zip(noise, onto, strict=True)])
    return torch.finfo(precision).eps ** 0.5 / float(largest.max()) if largest.max() > 0 else float("inf")


def by_example(x: Tensor, batch: Batch) -> Tensor:
    """(S, L, D) -> (sequences, B, L, D)."""
    return x.view(batch.sequences, -1, *x.shape[1:])


def _linear(
    comparison: Comparison, measure: Measure, noise: Sequence[Tensor], stretch: float, embed: Embed
) -> list[Tensor]:
    """J^T F J * noise."""
    batch, task = comparison.passes.batch, comparison.passes.task
    start, outputs = comparison.open.states[0], comparison.open.outputs
    clean = outputs.detach()
    with torch.no_grad():
        moved = embed([stretch * one for one in noise])
        # a part of the last place, so that what rounding left alone still points somewhere; the sign is found below
        tangent = (comparison.again(moved).outputs - clean + torch.finfo(clean.dtype).eps / 4 * clean) / stretch
        cotangent = measure.gradient(task, clean, tangent).to(clean.dtype)

    (gradient,) = torch.autograd.grad(outputs, start, cotangent, retain_graph=True)  # (S, L, D)
    # noise * J^T F J * noise is never negative, and the product with the noise is exact where the tangent is not
    rise = by_example(gradient * (moved - start.detach()), batch).sum((0, 2, 3), keepdim=True)  # (1, B, 1, 1)
    gradient = by_example(gradient, batch).where(rise >= 0, -by_example(gradient, batch)).flatten(0, 1)

    still = [torch.zeros_like(one).requires_grad_() for one in noise]
    return list(torch.autograd.grad(embed(still), still, gradient))
