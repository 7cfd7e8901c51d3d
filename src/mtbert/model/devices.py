"""Where a model runs, and in what precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_device() -> torch.device:
    """The accelerator if there is one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def settled(precision: str, device: torch.device) -> str:
    """The name in PRECISIONS that `auto` means on this device: bfloat16 if the hardware multiplies it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; that torch can is not enough, as emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # no public name


def wait_for(device: torch.device) -> None:
    """Return when an accelerator has done what it was given, which a call does not wait for; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Compute matrix products in this precision, but sums and normalisations in float32; float32 changes nothing."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
