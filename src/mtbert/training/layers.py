"""Which part of the model a parameter belongs to."""

from __future__ import annotations

import re

LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
HEADS = "heads"


def layer_group(name: str) -> str:
    """From a parameter's name to its part: embeddings, layer 0, layer 1, ..., pooler, modules or heads."""
    layer = LAYER.match(name)
    if layer:
        return f"layer {layer[1]}"
    if name.startswith("encoder.pooler."):
        return "pooler"
    if name.startswith("encoder."):
        return "embeddings"
    return HEADS if name.startswith("heads.") else "modules"
