"""What the name of a parameter says: which part of the model it belongs to, and what kind of parameter it is."""

from __future__ import annotations

import re

# part of the model -> the prefix of its parameters' names; a loss weighting learns beside the model
PARTS = {"encoder": "encoder.", "heads": "heads.", "modules": "modules_by_task.", "weighting": "weighting."}
LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


def part_of(name: str) -> str:
    """The part of the model that a parameter of this name belongs to: a key of PARTS, or '' if none fits."""
    return next((part for part, start in PARTS.items() if name.startswith(start)), "")


def layer_of(name: str) -> int | None:
    """The number of the encoder's layer, counted from 0; None if the parameter is in no layer."""
    layer = LAYER.match(name)
    return int(layer[1]) if layer else None


def place_of(name: str) -> str:
    """Like `part_of`, but with the encoder told apart into 'embeddings', 'layer 0', 'layer 1', ..., and 'pooler'.

    >>> place_of("encoder.layers.3.to_qkv.weight"), place_of("heads.mood.output.bias")
    ('layer 3', 'heads')
    """
    if part_of(name) != "encoder":
        return part_of(name)
    layer = layer_of(name)
    if layer is not None:
        return f"layer {layer}"
    return "pooler" if name.startswith("encoder.pooler.") else "embeddings"


def is_norm(name: str) -> bool:
    """Whether the parameter belongs to a LayerNorm of the encoder."""
    return part_of(name) == "encoder" and name.split(".")[-2].endswith("_norm")


def is_bias(name: str) -> bool:
    """Whether the parameter is a bias of the encoder; the shifts of its LayerNorms count as biases."""
    return part_of(name) == "encoder" and name.endswith(".bias")
