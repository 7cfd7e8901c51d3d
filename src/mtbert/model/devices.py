"""Where a model runs, in what precision, and how its memory is kept."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of <malloc.h>


def best_device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def settled(precision: str, device: torch.device) -> str:
    """The name in PRECISIONS that `auto` stands for on this device: bfloat16 where its hardware multiplies that."""
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Not whether torch can: emulated, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # torch has no public question


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Matrix products in this precision, sums and normalisations in float32; nothing changes for float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def keep_freed_memory(limit: int = 1 << 30) -> None:
    """Let the C library hand out large blocks again instead of returning them to the system after each use.

    Otherwise the word embedding's gradient, tens of megabytes, is mapped and cleared page by page in every step. Does
    nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, limit)
    mallopt(M_TRIM_THRESHOLD, limit)
