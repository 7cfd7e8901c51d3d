"""Tensors into a file, which others may then read as they may read any other new file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file.

    The library makes files that their owner alone may read; this one has the rights of a file that was opened to write.
    """
    path.touch()
    rights = path.stat().st_mode
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(held, path, metadata=metadata)
    path.chmod(rights)
