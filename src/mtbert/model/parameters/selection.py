"""Choosing the parameters of a model that a stage trains; all others are frozen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Annotated

from pydantic import Field, Strict

from mtbert.errors import Mistake
from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.names import is_bias, is_norm, layer_of, part_of
from mtbert.model.shape import Shape
from mtbert.registry import Registry

Selector = Callable[[str], bool]  # whether a parameter of this name is trained


def everything(shape: Shape) -> Selector:
    """Every parameter."""
    return lambda name: True


def heads(shape: Shape) -> Selector:
    """The tasks' heads."""
    return lambda name: part_of(name) == "heads"


def modules(shape: Shape) -> Selector:
    """The task modules."""
    return lambda name: part_of(name) == "modules"


def norms(shape: Shape) -> Selector:
    """The encoder's LayerNorms, which the tasks share; the paper trains them together with adapters.

    Source: Houlsby et al., 2019, section 2.1, https://arxiv.org/abs/1902.00751
    """
    return is_norm


def biases(shape: Shape) -> Selector:
    """The encoder's biases, those of its LayerNorms included; with `heads`, this is BitFit.

    Source: Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199
    """
    return is_bias


def layers(
    shape: Shape, *, which: Annotated[list[Annotated[int, Strict(), Field(ge=0)]], Field(min_length=1)]
) -> Selector:
    """Some of the encoder's layers, counted from 0; `{layers: [4, 5]}` for short."""
    for layer in which:
        if layer >= shape.layers:
            raise Mistake(f"there is no layer {layer}; this encoder has layers 0 to {shape.layers - 1}")
    return lambda name: layer_of(name) in which


SELECTORS: Registry[Selector] = Registry(
    "part to train",
    {"all": everything, "heads": heads, "modules": modules, "norms": norms, "biases": biases, "layers": layers},
)


def select(model: MultiTask, parts: Sequence[Selector], frozen: Collection[str] = ()) -> list[str]:
    """Train these parts except for the names in `frozen`, freeze everything else, and return the names that train."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen and any(takes(name) for takes in parts))
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def only_heads(names: Sequence[str]) -> bool:
    """Whether all of these are parameters of heads, so that the features the heads read never change."""
    return all(part_of(name) == "heads" for name in names)
