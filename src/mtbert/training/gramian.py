"""Inner products of the tasks' gradients, and their weighted sum, in one pass over the gradients each.

The gradients stay where autograd left them: nothing here flattens a model or copies a gradient.
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

CACHED = 1 << 17  # elements a task at a time on a CPU: all tasks' pieces stay in the cache while they are multiplied
STACKED = 1 << 20  # elements a task at a time elsewhere: few kernels, little memory

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# parameter -> task -> gradient: a task that does not reach a parameter is not there
Gradients = Mapping[str, Mapping[str, Tensor]]


def gramian(gradients: Gradients, tasks: Sequence[str]) -> Matrix:
    """The inner products of all tasks' gradients over all these parameters, summed in float64: (K, K)."""
    upper = np.zeros((len(tasks), len(tasks)))
    products: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
    for by_task in gradients.values():
        owners = tuple(index for index, task in enumerate(tasks) if task in by_task)
        for parts in pieces([by_task[tasks[index]] for index in owners]):
            if parts[0].device.type == "cpu":
                for (i, one), (j, other) in combinations_with_replacement(zip(owners, parts, strict=True), 2):
                    upper[i, j] += float(torch.dot(one, other))
            else:
                rows = torch.stack(parts)
                products[owners].append(rows @ rows.T)
    for owners, some in products.items():
        # read once for all, so that the device is waited for once
        upper[np.ix_(owners, owners)] += torch.stack(some).double().sum(0).triu().cpu().numpy()
    return upper + np.triu(upper, 1).T


def length(gramian: Matrix, weights: Vector) -> float:
    """Of the weighted sum of the gradients, from their inner products: (K, K), (K,)."""
    return math.sqrt(max(float(weights @ gramian @ weights), 0.0))  # rounding may leave less than nothing


def weighted_sum(gradients: Gradients, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """For each parameter sum_k weights[k] * gradients[k], left in the place of the first gradient."""
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
    """Views of tensors of one shape, flat, as many elements at a time as the device likes."""
    flat = [tensor.view(-1) for tensor in tensors]
    yield from zip(*(torch.split(one, CACHED if one.device.type == "cpu" else STACKED) for one in flat), strict=True)
