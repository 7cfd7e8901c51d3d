"""What the name of a parameter says: in which part of the model it stands, and what it is."""

from __future__ import annotations

import re

# part of the model -> how the names of its parameters begin; a loss weighting learns beside the model
PARTS = {"encoder": "encoder.", "heads": "heads.", "modules": "modules_by_task.", "weighting": "weighting."}
LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


def part_of(name: str) -> str:
    """One of PARTS; '' for the name of anything else."""
    return next((part for part, start in PARTS.items() if name.startswith(start)), "")


def layer_of(name: str) -> int | None:
    """Which of the encoder's layers, 0 the first; None for what is in none of them."""
    layer = LAYER.match(name)
    return int(layer[1]) if layer else None


def place_of(name: str) -> str:
    """As `part_of`, but of the encoder 'embeddings', 'layer 0', 'layer 1', ..., or 'pooler'."""
    if part_of(name) != "encoder":
        return part_of(name)
    layer = layer_of(name)
    if layer is not None:
        return f"layer {layer}"
    return "pooler" if name.startswith("encoder.pooler.") else "embeddings"


def is_norm(name: str) -> bool:
    """Whether it belongs to one of the encoder's LayerNorms."""
    return part_of(name) == "encoder" and name.split(".")[-2].endswith("_norm")


def is_bias(name: str) -> bool:
    """Whether it is one of the encoder's biases, those of its LayerNorms included."""
    return part_of(name) == "encoder" and name.endswith(".bias")
