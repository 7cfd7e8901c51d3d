"""Attention against the textbook's: a loop over sequences and heads, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mtbert.model import attention
from mtbert.model.attention import attend
from mtbert.model.dropout import mask_like


def attended(qkv: Sequence[Tensor], mask: Tensor, heads: int, dropout: float = 0.0) -> Tensor:
    q, k, v = qkv
    return attend(q, k, v, mask, heads, dropout)


def plainly(qkv: Sequence[Tensor], mask: Tensor, heads: int, drops: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(d)) v over the keys there are, one sequence and head at a time; drops (S, H, L, L)."""
    q, k, v = qkv
    size = q.shape[-1] // heads
    out = torch.zeros_like(q)
    for s in range(q.shape[0]):
        there = mask[s].nonzero().squeeze(1)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weights = (q[s, :, part] @ k[s, there, part].T / math.sqrt(size)).exp()  # (L, keys)
            weights = weights / weights.sum(1, keepdim=True)
            if drops is not None:
                weights = weights * drops[s, head][:, there]
            out[s, :, part] = weights @ v[s, there, part]
    return out


def drawn(sequences: int, length: int, width: int, seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    qkv = [torch.randn(sequences, length, width, generator=generator, dtype=torch.float64) for _ in range(3)]
    mask = torch.rand(sequences, length, generator=generator) < 0.7
    mask[:, generator.initial_seed() % length] = True  # no sequence is empty
    return qkv, mask


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.6])
@pytest.mark.parametrize(
    ("shape", "heads"), [((3, 7, 12), 1), ((3, 7, 12), 4), ((1, 1, 4), 2), ((2, 33, 6), 6)], ids=str
)
def test_attention_and_its_gradients_are_the_textbooks_with_the_same_mask(
    shape: tuple[int, int, int], heads: int, dropout: float
) -> None:
    ours, mask = drawn(*shape, seed=shape[1])
    theirs = [x.clone() for x in ours]
    for x in (*ours, *theirs):
        x.requires_grad_()
    torch.manual_seed(5)
    drops = mask_like(torch.empty(shape[0], heads, shape[1], shape[1], dtype=torch.float64), dropout)

    torch.manual_seed(5)
    mixed = attended(ours, mask, heads, dropout)
    plain = plainly(theirs, mask, heads, drops if dropout else None)
    torch.testing.assert_close(mixed, plain, rtol=1e-10, atol=1e-10)

    weights = torch.randn(shape, dtype=torch.float64)
    (mixed * weights).sum().backward()
    (plain * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [9, attention.SHORT, attention.SHORT + 1])
def test_attention_in_bfloat16_is_the_textbooks_to_its_precision(length: int) -> None:
    """Of numbers that bfloat16 holds, so that only the arithmetic differs; on either side of the change of kernels."""
    ours, mask = drawn(2, length, 8, seed=length)
    ours = [x.bfloat16() for x in ours]
    theirs = [x.double() for x in ours]
    for x in (*ours, *theirs):
        x.requires_grad_()
    mixed, plain = attended(ours, mask, 2), plainly(theirs, mask, 2)
    assert mixed.dtype == torch.bfloat16

    weights = torch.randn((2, length, 8), generator=torch.Generator().manual_seed(1)).bfloat16()
    (mixed * weights).sum().backward()
    (plain * weights.double()).sum().backward()
    found = [(mixed, plain), *((mine.grad, other.grad) for mine, other in zip(ours, theirs, strict=True))]
    for mine, other in found:
        assert (mine.double() - other).norm() < 0.02 * other.norm()


def test_dropped_probabilities_leave_the_mean_where_it_was() -> None:
    qkv, mask = drawn(2, 9, 8, seed=1)
    torch.manual_seed(0)
    mean = torch.stack([attended(qkv, mask, 2, 0.3) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, attended(qkv, mask, 2), rtol=0, atol=0.05)


def test_every_head_and_sequence_drops_its_own_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def remembered(x: Tensor, rate: float) -> Tensor:
        seen.append(mask_like(x, rate))
        return seen[-1]

    monkeypatch.setattr(attention, "mask_like", remembered)
    qkv, mask = drawn(3, 16, 8, seed=2)
    for _ in range(2):
        attended(qkv, mask, 4, 0.5)
    masks = torch.stack(seen).flatten(0, 2).flatten(1)  # (2 * S * H, L * L)
    assert masks.shape == (24, 256)
    assert len({tuple(one.tolist()) for one in masks}) == 24
