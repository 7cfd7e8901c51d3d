"""Attention: the one place for kernels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Multi-head attention inside each sequence: (S, L, D) -> (S, L, D).

    `mask` (S, L) is True at the keys that may be attended to. On a CPU, `dropout` on the attention probabilities
    leaves the fused kernel.
    """
    sequences, length, width = q.shape
    q, k, v = (x.view(sequences, length, heads, -1).transpose(1, 2) for x in (q, k, v))  # (S, H, L, D / H)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :], dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(sequences, length, width)
