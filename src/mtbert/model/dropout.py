"""Dropout whose masks are cheap to draw on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANE = 1 << 16  # the number of values of the 16 random bits that decide whether a unit is dropped


class Dropout(nn.Module):
    """Set each unit to 0 with probability `rate` and scale the others up, so that the expectation stays the same.

    On a CPU each 64-bit draw from torch's generator decides on four units, at a quarter of the cost of drawing a float
    per unit. The rate is then rounded to a multiple of 2^-16, and the scale fits the rounded rate.

    Source: Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html
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
    """A new random mask of the shape and type of x: 0 with probability `rate`, otherwise 1 / (1 - rate)."""
    dropped = round(rate * LANE)
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    lanes = draws.view(torch.int16)[: x.numel()].view(x.shape)
    kept = lanes >= dropped - LANE // 2
    return kept.to(x.dtype).mul_(LANE / (LANE - dropped))
