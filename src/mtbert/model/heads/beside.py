"""What a head reads beside the vector: features of the texts as the original encoder has them, each read by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake

Name = Literal["cosine", "difference", "product", "vector"]


def _cosine(u: Tensor, v: Tensor) -> Tensor:
    # the mean of the product, as mean squares are 1; times the root of their width, because the weight of one number
    # learns too slowly beside those of hundreds
    return (u * v).mean(-1, keepdim=True) * math.sqrt(u.shape[-1])


def _difference(u: Tensor, v: Tensor) -> Tensor:
    return (u - v).abs()


def _product(u: Tensor, v: Tensor) -> Tensor:
    return u * v


# of the vectors of both texts of a pair, each (B, D): -> (B, 1) or (B, D)
OF_A_PAIR: dict[Name, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "difference": _difference,
    "product": _product,
}


def _each_once(names: list[Name]) -> list[Name]:
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"'{name}' is named twice")
    return names


# an option of a head: which features; none, and there is no original encoder beside the model
Beside = Annotated[list[Name], AfterValidator(_each_once)]


def features_beside(vectors: Tensor | None, names: Sequence[Name]) -> list[Tensor]:
    """The features with these names, of the vectors of one text or two: (B, T, D) -> (B, F) in float32 each.

    Vectors may be missing where no feature is named.
    """
    found = []
    for name in names:
        assert vectors is not None  # the examples of a task whose head asks for features beside have them
        texts = vectors.float().unbind(1)
        found.append(torch.cat(texts, dim=-1) if name == "vector" else OF_A_PAIR[name](*texts))
    return found


def width_beside(task: Task, width: int, names: Sequence[Name]) -> int:
    """How wide these features are; raises Mistake for those of a pair where the task reads one text, or words."""
    if names and task.reads_words:
        raise Mistake(
            f"task '{task.name}': beside: {names[0]} is of a whole text, and this task says something of each word"
        )
    if len(task.text) == 1 and (compared := [name for name in names if name in OF_A_PAIR]):
        said = f"beside: {compared[0]} compares two texts, and this task reads one; use vector"
        raise Mistake(f"task '{task.name}': {said}")
    sample = torch.zeros(1, len(task.text), width, device="cpu")
    return sum(feature.shape[-1] for feature in features_beside(sample, names))
