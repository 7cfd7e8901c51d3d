"""Which tasks' gradients pull against each other, in which part of the model, in numbers and in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtbert.model.parameters.names import place_of
from mtbert.training.gramian import gramian

NOTABLE = 0.05  # a mean cosine nearer to 0 than this is not worth a word
SURE = 2.0  # standard errors that a mean cosine must be away from 0


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


def summary(tasks: Sequence[str], groups: Sequence[str], cosines: NDArray[np.float64]) -> list[str]:
    """Which tasks pull against each other and where, a sentence for each pair and direction.

    `cosines` are those of every look: (looks, groups, K, K). A pair is said to pull against each other, or along, where
    its mean cosine over the looks is at least NOTABLE away from 0, and SURE standard errors where there are several.
    """
    sentences = []
    for one, other in combinations(range(len(tasks)), 2):
        pair = cosines[:, :, one, other]  # (looks, groups)
        mean = pair.mean(0)
        against, along = _notable(-pair), _notable(pair)
        if against.any():
            share = (pair[:, against] < 0).mean()
            sentences.append(
                f"{tasks[one]} and {tasks[other]} pull against each other in {_said(groups, against)}: mean cosine "
                f"{mean[against].mean():.2f}, most in {groups[mean.argmin()]} ({mean.min():.2f}); "
                f"below 0 in {share:.0%} of the looks there"
            )
        if along.any():
            sentences.append(
                f"{tasks[one]} and {tasks[other]} pull along with each other in {_said(groups, along)}: mean cosine "
                f"{mean[along].mean():.2f}, most in {groups[mean.argmax()]} ({mean.max():.2f})"
            )
        if not against.any() and not along.any():
            sentences.append(
                f"{tasks[one]} and {tasks[other]} neither pull against each other nor along: no mean cosine is surely "
                f"further than {NOTABLE:g} from 0"
            )
    return sentences


def _cosines(products: NDArray[np.float64]) -> list[list[float]]:
    lengths = np.sqrt(np.diag(products))
    scales = np.outer(lengths, lengths)
    found = np.divide(products, scales, out=np.zeros_like(products), where=scales > 0)
    cosines: list[list[float]] = np.clip(found, -1, 1).tolist()
    return cosines


def _notable(pair: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which groups the mean is above 0 by enough: (looks, groups) -> (groups,)."""
    mean, looks = pair.mean(0), len(pair)
    error = pair.std(0, ddof=1) / np.sqrt(looks) if looks > 1 else np.zeros_like(mean)
    notable: NDArray[np.bool_] = (mean >= NOTABLE) & (mean >= SURE * error)
    return notable


def _said(groups: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    """Names of groups, neighbouring layers as a range."""
    if chosen.all():
        return "every part of the model"
    runs: list[list[str]] = []  # neighbouring layers together
    for index, group in enumerate(groups):
        if not chosen[index]:
            continue
        if index and chosen[index - 1] and all(name.startswith("layer ") for name in groups[index - 1 : index + 1]):
            runs[-1].append(group)
        else:
            runs.append([group])
    said = [run[0] if len(run) == 1 else f"layers {run[0].split()[1]} to {run[-1].split()[1]}" for run in runs]
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
