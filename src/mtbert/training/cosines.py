"""Cosines between the tasks' gradients, in each part of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtbert.model.parameters.names import place_of
from mtbert.training.gramian import gramian


def cosines(gradients: Mapping[str, Sequence[Tensor | None]], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Part of the model -> the cosines between the gradients of its K tasks there, in the tasks' order: (K, K).

    `gradients` holds a tensor for each parameter in `names`, or None if the task's loss does not depend on it. Cosines
    are over the parameters that more than one task reaches; heads, and parts without such parameters, are left out. A
    cosine with a gradient of 0 is 0. This costs a pass over the gradients and copies none of them.

    >>> name = "encoder.layers.0.expand.bias"
    >>> cosines({"mood": [Tensor([1, 0])], "same": [Tensor([-2, 0])]}, [name])
    {'layer 0': [[1.0, -1.0], [-1.0, 1.0]]}
    """
    parts: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(dict)
    for index, name in enumerate(names):
        by_task = {task: given[index] for task, given in gradients.items()}
        reached = {task: gradient.contiguous() for task, gradient in by_task.items() if gradient is not None}
        if len(reached) > 1 and place_of(name) != "heads":
            parts[place_of(name)][name] = reached
    return {part: _cosines(gramian(some, list(gradients))) for part, some in parts.items()}


def _cosines(products: NDArray[np.float64]) -> list[list[float]]:
    """From inner products to cosines: (K, K) -> (K, K)."""
    lengths = np.sqrt(np.diag(products))
    scales = np.outer(lengths, lengths)
    found = np.divide(products, scales, out=np.zeros_like(products), where=scales > 0)
    cosines: list[list[float]] = np.clip(found, -1, 1).tolist()
    return cosines
