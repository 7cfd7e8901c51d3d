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
    """Part of the model -> cosines between the tasks' gradients there, in the order of the tasks: (K, K).

    `gradients` holds one tensor (None where the task does not reach) for each of the parameters that `names` names. A
    cosine is taken over the parameters that more than one task reaches; parts without such, and heads, are left out. It
    is 0 where one of the two gradients is. Costs a pass over the gradients, and copies none.
    """
    parts: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(dict)
    for index, name in enumerate(names):
        by_task = {task: given[index] for task, given in gradients.items()}
        reached = {task: gradient.contiguous() for task, gradient in by_task.items() if gradient is not None}
        if len(reached) > 1 and place_of(name) != "heads":
            parts[place_of(name)][name] = reached
    return {part: _cosines(gramian(some, list(gradients))) for part, some in parts.items()}


def _cosines(products: NDArray[np.float64]) -> list[list[float]]:
    lengths = np.sqrt(np.diag(products))
    scales = np.outer(lengths, lengths)
    found = np.divide(products, scales, out=np.zeros_like(products), where=scales > 0)
    cosines: list[list[float]] = np.clip(found, -1, 1).tolist()
    return cosines
