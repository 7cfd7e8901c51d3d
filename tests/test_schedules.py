"""What changes during training, as a function of progress."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from mtbert.errors import Mistake
from mtbert.schedules import SCHEDULES, Schedule

GRID = [step / 200 for step in range(201)]


def made(name: str, **options: Any) -> Schedule:
    return SCHEDULES[name](**SCHEDULES.complete(name, options))


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_stay_between_nothing_and_the_full_value(name: str) -> None:
    factors = [made(name)(progress) for progress in GRID]
    assert all(math.isfinite(factor) and 0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_depend_on_progress_alone(name: str) -> None:
    schedule = made(name)
    expected = [made(name)(progress) for progress in GRID]
    assert [schedule(progress) for progress in reversed(GRID)][::-1] == expected
    assert [schedule(progress) for progress in GRID] == expected


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_warm_up_rises_in_a_line_from_nothing_to_the_full_value(name: str, warmup: float) -> None:
    if "warmup" not in SCHEDULES.options(name):
        pytest.skip("has no warm-up")
    schedule = made(name, warmup=warmup)
    assert [schedule(progress) for progress in GRID if progress < warmup] == pytest.approx(
        [progress / warmup for progress in GRID if progress < warmup]
    )
    if warmup < 1:
        assert schedule(warmup) == pytest.approx(1)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [-0.1, 1.1, True, "0.1"])
def test_a_warm_up_is_a_share(name: str, warmup: Any) -> None:
    if "warmup" not in SCHEDULES.options(name):
        pytest.skip("has no warm-up")
    with pytest.raises(Mistake, match=f"warmup of schedule '{name}' is {warmup!r}"):
        made(name, warmup=warmup)


def factors_of_transformers(make: Any, *steps: int) -> list[float]:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=1.0)
    schedule = make(optimizer, *steps)
    factors = []
    for _ in range(200):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


@pytest.mark.parametrize("warmup", [0, 1, 20, 100, 199])
def test_linear_is_the_linear_schedule_of_transformers(warmup: int) -> None:
    schedule = made("linear", warmup=warmup / 200)
    expected = factors_of_transformers(get_linear_schedule_with_warmup, warmup, 200)
    assert [schedule(progress) for progress in GRID[:-1]] == pytest.approx(expected, abs=1e-12)
    assert schedule(1.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 20, 199])
def test_constant_is_the_constant_schedule_of_transformers(warmup: int) -> None:
    schedule = made("constant", warmup=warmup / 200)
    expected = factors_of_transformers(get_constant_schedule_with_warmup, warmup)
    assert [schedule(progress) for progress in GRID[:-1]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("end", [0.0, 0.25, 1.0])
def test_linear_falls_to_its_end(end: float) -> None:
    schedule = made("linear", warmup=0.2, end=end)
    assert schedule(0.2) == 1
    assert schedule(0.6) == pytest.approx((1 + end) / 2)
    assert schedule(1.0) == pytest.approx(end)
    assert schedule(1.5) == pytest.approx(end)  # never below it


def test_constant_without_warm_up_is_one_from_the_first_step() -> None:
    assert {made("constant")(progress) for progress in GRID} == {1.0}


def test_linear_warms_up_over_a_tenth_unless_told_otherwise() -> None:
    assert [made("linear")(progress) for progress in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
