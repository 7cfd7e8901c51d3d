"""Cosines between the tasks' gradients in each part of the model, and sentences on which tasks conflict where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtbert.model.parameters.description import layers_together
from mtbert.model.parameters.names import place_of
from mtbert.training.gramian import gramian

NOTABLE = 0.05  # a mean cosine nearer to 0 than this is not worth a sentence
SURE = 2.0  # how many standard errors away from 0 a mean cosine must be


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


def summary(tasks: Sequence[str], groups: Sequence[str], cosines: NDArray[np.float64]) -> list[str]:
    """Sentences that say, for every pair of tasks, in which groups of parameters they pull against each other or along.

    `cosines` holds those of every look: (looks, groups, K, K). A pair pulls against each other, or along, in a group
    whose mean cosine over the looks is at least NOTABLE away from 0 and, with several looks, SURE standard errors.
    """
    sentences = []
    for task, other in combinations(range(len(tasks)), 2):
        pair = cosines[:, :, task, other]  # (looks, groups)
        mean = pair.mean(0)
        against, along = _notable(-pair), _notable(pair)
        if against.any():
            share = (pair[:, against] < 0).mean()
            sentences.append(
                f"{tasks[task]} and {tasks[other]} pull against each other in {_said(groups, against)}: mean cosine "
                f"{mean[against].mean():.2f}, most in {groups[mean.argmin()]} ({mean.min():.2f}); "
                f"below 0 in {share:.0%} of the looks there"
            )
        if along.any():
            sentences.append(
                f"{tasks[task]} and {tasks[other]} pull along with each other in {_said(groups, along)}: mean cosine "
                f"{mean[along].mean():.2f}, most in {groups[mean.argmax()]} ({mean.max():.2f})"
            )
        if not against.any() and not along.any():
            sentences.append(
                f"{tasks[task]} and {tasks[other]} neither pull against each other nor along: no mean cosine is surely "
                f"further than {NOTABLE:g} from 0"
            )
    return sentences


def _cosines(products: NDArray[np.float64]) -> list[list[float]]:
    """From inner products to cosines: (K, K) -> (K, K)."""
    lengths = np.sqrt(np.diag(products))
    scales = np.outer(lengths, lengths)
    found = np.divide(products, scales, out=np.zeros_like(products), where=scales > 0)
    cosines: list[list[float]] = np.clip(found, -1, 1).tolist()
    return cosines


def _notable(pair: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which groups the mean cosine is far enough above 0 to be mentioned: (looks, groups) -> (groups,)."""
    mean, looks = pair.mean(0), len(pair)
    error = pair.std(0, ddof=1) / np.sqrt(looks) if looks > 1 else np.zeros_like(mean)
    notable: NDArray[np.bool_] = (mean >= NOTABLE) & (mean >= SURE * error)
    return notable


def _said(groups: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    """The chosen groups in words."""
    if chosen.all():
        return "every part of the model"
    some = [group for group, wanted in zip(groups, chosen, strict=True) if wanted]
    said = list(dict.fromkeys(layers_together(some, to=" to ").values()))
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
