"""How the gradients of several tasks lie to each other, part by part of the model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
AGAINST = -0.02  # a mean cosine below it is called a conflict
ALONG = 0.02


def cosines(gradients: Mapping[str, Sequence[Tensor | None]], names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Part of the model -> cosines between the tasks' gradients over its parameters: (K, K), 0 where one is zero.

    `gradients` has one tensor a name for each task, None where the task does not reach that parameter.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    for place, name in enumerate(names):
        tensors = [gradients[task][place] for task in gradients]
        products = np.array([[_product(one, other) for other in tensors] for one in tensors])
        for part in (_part(name), "all"):
            sums[part] = sums.get(part, 0.0) + products
    return {part: _normalised(products) for part, products in sums.items()}


def summary(tasks: Sequence[str], parts: Sequence[str], seen: NDArray[np.float64]) -> list[str]:
    """In words: which tasks pull against each other, and where; `seen` are cosines (times, parts, tasks, tasks).

    Means over the times count: below -0.02 is a conflict, above 0.02 an agreement.
    """
    whole = list(parts).index("all")
    sentences = []
    for one, other in combinations(range(len(tasks)), 2):
        means = seen[:, :, one, other].mean(0)
        often = float((seen[:, whole, one, other] < 0).mean())
        where = [part for part, mean in zip(parts, means, strict=True) if mean < AGAINST and part != "all"]
        verdict = (
            "pull against each other" if means[whole] < AGAINST else "agree" if means[whole] > ALONG else "hardly meet"
        )
        place = f"; against each other in {', '.join(where)}" if where else ""
        sentences.append(
            f"{tasks[one]} and {tasks[other]} {verdict}: mean cosine {means[whole]:+.3f}, "
            f"below zero in {often:.0%} of the observations{place}"
        )
    return sentences


def _part(name: str) -> str:
    layer = LAYER.match(name)
    return f"layer {layer[1]}" if layer else "pooler" if name.startswith("encoder.pooler.") else "embeddings"


def _product(one: Tensor | None, other: Tensor | None) -> float:
    return 0.0 if one is None or other is None else float((one.double() * other.double()).sum())


def _normalised(products: NDArray[np.float64]) -> list[list[float]]:
    sizes = [math.sqrt(products[task, task]) for task in range(len(products))]
    return [
        [products[i, j] / (sizes[i] * sizes[j]) if sizes[i] and sizes[j] else 0.0 for j in range(len(products))]
        for i in range(len(products))
    ]
