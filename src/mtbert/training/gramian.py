"""Inner products and weighted sums of the tasks' gradients, each in one pass over the gradients.

Gradients are used where autograd left them: they are neither copied nor joined into one vector per model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CACHED = 1 << 17  # elements per task at a time on a CPU: the pieces of all tasks fit in its cache
STACKED = 1 << 20  # elements per task at a time on an accelerator: few kernels, little memory

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# parameter -> task -> gradient; a task whose loss does not depend on the parameter is left out
Gradients = Mapping[str, Mapping[str, Tensor]]


def gramian(gradients: Gradients, tasks: Sequence[str]) -> Matrix:
    """The inner products of the K tasks' gradients over all these parameters, summed in float64: (K, K).

    >>> gramian({"weight": {"mood": torch.tensor([3.0, 4.0]), "same": torch.tensor([1.0, 0.0])}}, ["mood", "same"])
    array([[25.,  3.],
           [ 3.,  1.]])
    """
    upper = np.zeros((len(tasks), len(tasks)))
    products: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for by_task in gradients.values():
        owners = tuple(index for index, task in enumerate(tasks) if task in by_task)
        for parts in pieces([by_task[tasks[index]] for index in owners]):
            if parts[0].device.type == "cpu":
                for (i, part), (j, other) in combinations_with_replacement(zip(owners, parts, strict=True), 2):
                    upper[i, j] += float(torch.dot(part, other))
            else:
                rows = torch.stack(parts)
                products[owners].append(rows @ rows.T)
    for owners, some in products.items():
        # one copy to the CPU, so that the device is waited for only once
        upper[np.ix_(owners, owners)] += torch.stack(some).double().sum(0).triu().cpu().numpy()
    return upper + np.triu(upper, 1).T


def length(gramian: Matrix, weights: Vector) -> float:
    """The length of the weighted sum of the gradients, from their inner products: (K, K), (K,) -> float."""
    return math.sqrt(max(float(weights @ gramian @ weights), 0.0))  # rounding may make it negative


def weighted_sum(gradients: Gradients, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """For each parameter, sum_k weights[k] * gradients[k], written over the gradient of its first task."""
    combined = {}
    for name, by_task in gradients.items():
        first, *others = by_task
        for total, *parts in pieces(by_task.values()):
            total.mul_(weights[first])
            for task, part in zip(others, parts, strict=True):
                total.add_(part, alpha=weights[task])
        combined[name] = by_task[first]
    return combined


def pieces(tensors: Iterable[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors of the same shape, flattened and cut into pieces of a size that suits the device."""
    flat = [tensor.view(-1) for tensor in tensors]
    size = CACHED if flat[0].device.type == "cpu" else STACKED
    yield from zip(*(torch.split(tensor, size) for tensor in flat), strict=True)
