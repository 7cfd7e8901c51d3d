"""Dropout whose masks are cheap to draw on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANE = 1 << 16  # values of the 16 random bits that decide over one unit


class Dropout(nn.Module):
    """Zero each unit with probability `rate` and scale the others up (Srivastava et al., 2014).

    On a CPU one 64-bit draw from torch's generator decides over four units, a quarter of what drawing a float a unit
    costs. The rate is then the nearest multiple of 2^-16, and the scale that of the rate drawn, so that the expectation
    is exact.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu" or round(self.rate * LANE) == LANE:
            return F.dropout(x, self.rate)
        return x * mask_like(x, self.rate)


def mask_like(x: Tensor, rate: float) -> Tensor:
    """A fresh mask of zeros and 1 / (1 - rate), in the shape and type of x."""
    dropped = round(rate * LANE)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    lanes = draws.view(torch.int16)[: x.numel()].view(x.shape)
    kept = lanes >= dropped - LANE // 2
    return kept.to(x.dtype).mul_(LANE / (LANE - dropped))
