"""Every combiner from its table: what it leaves on the parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mtbert.training.combiners.base import Combiner
from mtbert.training.combiners.plain import Sum
from mtbert.training.combiners.table import COMBINERS


def make(name: str) -> Combiner:
    return COMBINERS[name](**COMBINERS.complete(name, {}))


def three() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(5)
    return [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in ((3, 2), (2,), (4,))
    ]


def loss(values: list[nn.Parameter], scale: float) -> Tensor:
    shared, first, _ = values
    return scale * (shared @ first).tanh().sum()


@pytest.mark.parametrize("name", COMBINERS)
def test_one_loss_alone_gives_its_own_gradient(name: str) -> None:
    values = three()
    make(name)([("a", loss(values, 2.0))], values)
    expected = torch.autograd.grad(loss(values, 2.0), values[:2])
    for p, gradient in zip(values[:2], expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", COMBINERS)
def test_a_parameter_that_no_loss_reaches_gets_no_gradient(name: str) -> None:
    values = three()
    make(name)([("a", loss(values, 2.0)), ("b", loss(values, 0.5))], values)
    assert values[2].grad is None


@pytest.mark.parametrize("name", COMBINERS)
def test_every_loss_is_drawn_once(name: str) -> None:
    values, drawn = three(), []

    def losses() -> Iterator[tuple[str, Tensor]]:
        for scale in (1.0, 2.0, 3.0):
            drawn.append(scale)
            yield str(scale), loss(values, scale)

    make(name)(losses(), values)
    assert drawn == [1.0, 2.0, 3.0]


def test_sum_gives_the_gradient_of_the_summed_losses() -> None:
    values = three()
    Sum()([("a", loss(values, 1.0)), ("b", values[0].square().sum()), ("a", loss(values, -3.0))], values)
    shared, first = torch.autograd.grad(
        loss(values, 1.0) + values[0].square().sum() + loss(values, -3.0), [values[0], values[1]]
    )
    torch.testing.assert_close(values[0].grad, shared, atol=1e-12, rtol=0)
    torch.testing.assert_close(values[1].grad, first, atol=1e-12, rtol=0)


def test_sum_frees_one_tasks_graph_before_it_draws_the_next() -> None:
    values, alive = three(), []

    def losses() -> Iterator[tuple[str, Tensor]]:
        for scale in (1.0, 2.0):
            one = loss(values, scale)
            alive.append(one.grad_fn)
            yield str(scale), one
            with pytest.raises(RuntimeError, match="second time"):
                one.backward()

    Sum()(losses(), values)
    assert len(alive) == 2
