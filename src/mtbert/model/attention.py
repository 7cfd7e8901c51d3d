"""Attention: the one place for kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtbert.model.dropout import mask_like

SHORT = 64  # tokens up to which the formula is faster than the fused kernel in bfloat16 on a CPU


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Multi-head attention inside each sequence: (S, L, D) -> (S, L, D).

    `mask` (S, L) is True at the keys that may be attended to, of which each sequence has one at least; `dropout` is the
    rate on attention probabilities.
    """
    sequences, length, width = q.shape
    q, k, v = (x.view(sequences, length, heads, -1).transpose(1, 2) for x in (q, k, v))  # (S, H, L, D / H)
    keys = mask[:, None, None, :]
    # on a CPU the fused kernel has no dropout, and in bfloat16 a slow backward pass
    if q.device.type == "cpu" and (dropout or (q.dtype == torch.bfloat16 and length <= SHORT)):
        mixed = _by_formula(q, k, v, keys, dropout)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(sequences, length, width)


def _by_formula(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, dropout: float) -> Tensor:
    wide = torch.promote_types(v.dtype, torch.float32)  # large scores in bfloat16 would move probabilities
    with torch.autocast(q.device.type, enabled=False):
        scores = (q.to(wide) * q.shape[-1] ** -0.5) @ k.to(wide).transpose(-2, -1)  # (S, H, L, L)
        probabilities = scores.masked_fill(~keys, float("-inf")).softmax(-1)
        if dropout:
            probabilities = probabilities * mask_like(probabilities, dropout)  # drawn cheaply
        mixed: Tensor = probabilities @ v.to(wide)
    return mixed.to(v.dtype)
