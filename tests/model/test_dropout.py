"""The fast dropout drops as the plain one does."""

from __future__ import annotations

import pytest
import torch

from mtbert.model.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_units_fall_at_their_rate_and_the_rest_grow_by_it(rate: float) -> None:
    ones = torch.ones(300, 1001)
    dropped = Dropout(rate).train()(ones)

    share = float((dropped == 0).double().mean())
    assert share == pytest.approx(rate, abs=5 * (rate * (1 - rate) / ones.numel()) ** 0.5)
    assert float(dropped.max()) == pytest.approx(1 / (1 - rate), rel=1e-3)
    assert len(dropped.unique()) == 2
    # neighbours share a random number, not a fate
    kept = (dropped != 0).flatten().double()
    for apart in (1, 2, 3, 4):
        correlation = torch.corrcoef(torch.stack([kept[:-apart], kept[apart:]]))[0, 1]
        assert abs(float(correlation)) < 5 / ones.numel() ** 0.5


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.99999, 0.9999999, 1.0])
def test_every_rate_from_zero_to_one_is_finite(rate: float) -> None:
    dropped = Dropout(rate).train()(torch.ones(100))
    assert dropped.isfinite().all()
    assert (dropped != 0).all() if rate < 0.5 else (dropped == 0).float().mean() > 0.9


def test_masks_come_from_torchs_seed_and_never_twice() -> None:
    dropout, ones = Dropout(0.5).train(), torch.ones(64)
    torch.manual_seed(7)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(7)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)


def test_the_gradient_passes_where_the_unit_did() -> None:
    x = torch.randn(4, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    dropped = Dropout(0.3).train()(x)
    dropped.sum().backward()
    assert dropped.dtype == torch.float64
    torch.testing.assert_close(x.grad * x.detach(), dropped.detach())


def test_evaluation_changes_nothing() -> None:
    x = torch.randn(5, 7)
    assert Dropout(0.9).eval()(x) is x
