"""Multi-head attention, and the choice between torch's fused kernel and the formula written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtbert.model.dropout import mask_like

SHORT = 64  # the longest sequences for which, in bfloat16 on a CPU, the formula is faster than the fused kernel


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    """Multi-head attention inside each sequence: (S, L, D) -> (S, L, D).

    `mask` (S, L) is True for the tokens that may be attended to; every sequence needs at least one. `dropout` is the
    rate of dropout on the attention probabilities.

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805
    """
    sequences, length, width = q.shape
    if torch.onnx.is_in_onnx_export():
        # one operator, which runtimes compute faster than the parts that torch would write of it
        return torch.onnx.ops.attention(
            q, k, v, mask[:, None, None, :].expand(-1, 1, length, -1), q_num_heads=heads, kv_num_heads=heads
        )[0]
    q, k, v = (x.view(sequences, length, heads, -1).transpose(1, 2) for x in (q, k, v))  # (S, H, L, D / H)
    keys = mask[:, None, None, :]
    # on a CPU the fused kernel offers no dropout, and in bfloat16 its backward pass is slow
    if q.device.type == "cpu" and (dropout or (q.dtype == torch.bfloat16 and length <= SHORT)):
        mixed = _by_formula(q, k, v, keys, dropout)
    else:
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=keys, dropout_p=dropout)
    return mixed.transpose(1, 2).reshape(sequences, length, width)


def _by_formula(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, dropout: float) -> Tensor:
    """softmax(q k / sqrt(d)) v, with scores in float32 at least: (S, H, L, d) -> (S, H, L, d)."""
    wide = torch.promote_types(v.dtype, torch.float32)  # large scores in bfloat16 would move probabilities
    with torch.autocast(q.device.type, enabled=False):
        scores = (q.to(wide) * q.shape[-1] ** -0.5) @ k.to(wide).transpose(-2, -1)  # (S, H, L, L)
        probabilities = scores.masked_fill(~keys, float("-inf")).softmax(-1)
        if dropout:
            probabilities = probabilities * mask_like(probabilities, dropout)  # cheaper to draw than torch's
        mixed: Tensor = probabilities @ v.to(wide)
    return mixed.to(v.dtype)
