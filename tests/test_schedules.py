"""What changes during training, as a function of progress."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import yaml
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, StepLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.registry import Registry
from mtbert.schedules import SCHEDULES, Schedule, Varied, Varying

GRID = [step / 200 for step in range(201)]
WARMED_UP = [name for name in SCHEDULES if "warmup" in SCHEDULES.options(name)]


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


@pytest.mark.parametrize("name", WARMED_UP)
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 1.0])
def test_warm_up_rises_in_a_line_from_nothing_to_the_full_value(name: str, warmup: float) -> None:
    schedule = made(name, warmup=warmup)
    assert [schedule(progress) for progress in GRID if progress < warmup] == pytest.approx(
        [progress / warmup for progress in GRID if progress < warmup]
    )
    if warmup < 1:
        assert schedule(warmup) == pytest.approx(1)


@pytest.mark.parametrize("name", WARMED_UP)
@pytest.mark.parametrize("warmup", [-0.1, 1.1, True, "0.1"])
def test_a_warm_up_is_a_share(name: str, warmup: Any) -> None:
    with pytest.raises(Mistake, match=f"warmup of schedule '{name}' is {warmup!r}"):
        made(name, warmup=warmup)


def factors_of_torch(make: Any, *arguments: Any, steps: int = 200, **named: Any) -> list[float]:
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=1.0)
    schedule = make(optimizer, *arguments, **named)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


@pytest.mark.parametrize("warmup", [0, 1, 20, 100, 199])
def test_linear_is_the_linear_schedule_of_transformers(warmup: int) -> None:
    schedule = made("linear", warmup=warmup / 200)
    expected = factors_of_torch(get_linear_schedule_with_warmup, warmup, 200)
    assert [schedule(progress) for progress in GRID[:-1]] == pytest.approx(expected, abs=1e-12)
    assert schedule(1.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 20, 199])
def test_constant_is_the_constant_schedule_of_transformers(warmup: int) -> None:
    schedule = made("constant", warmup=warmup / 200)
    expected = factors_of_torch(get_constant_schedule_with_warmup, warmup)
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


@pytest.mark.parametrize("end", [0.0, 0.25, 1.0])
def test_linear_without_warm_up_is_torchs(end: float) -> None:
    expected = factors_of_torch(LinearLR, start_factor=1.0, end_factor=end, total_iters=200)
    assert [made("linear", warmup=0.0, end=end)(p) for p in GRID[:-1]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("end", [0.0, 0.1])
def test_cosine_is_torchs(end: float) -> None:
    expected = factors_of_torch(CosineAnnealingLR, 200, end, steps=201)
    assert [made("cosine", end=end)(progress) for progress in GRID] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 20, 199])
def test_cosine_with_warm_up_is_the_one_of_transformers(warmup: int) -> None:
    expected = factors_of_torch(get_cosine_schedule_with_warmup, warmup, 200)
    schedule = made("cosine", warmup=warmup / 200)
    assert [schedule(progress) for progress in GRID[:-1]] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("size", "gamma"), [(60, 0.1), (50, 0.5), (70, 0.0), (1, 0.9), (200, 0.1)])
def test_step_is_torchs(size: int, gamma: float) -> None:
    expected = factors_of_torch(StepLR, size, gamma)
    schedule = made("step", every=size / 200, gamma=gamma)
    assert [schedule(progress) for progress in GRID[:-1]] == pytest.approx(expected, rel=1e-9)


def test_step_gives_the_rates_of_ten_epochs_in_threes() -> None:
    rates = [1e-5 * made("step", every=0.3)(epoch / 10) for epoch in range(10)]
    assert rates == pytest.approx([1e-5] * 3 + [1e-6] * 3 + [1e-7] * 3 + [1e-8])


def test_step_drops_after_each_third_unless_told_otherwise() -> None:
    rates = [made("step")(epoch / 9) for epoch in range(9)]
    assert rates == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)


def test_step_counts_shares_of_what_follows_its_warm_up() -> None:
    schedule = made("step", warmup=0.2, every=0.5)
    assert [schedule(p) for p in (0.1, 0.2, 0.59, 0.61)] == pytest.approx([0.5, 1, 1, 0.1])


@pytest.mark.parametrize("rise", [0.3, 0.5])
def test_one_cycle_is_torchs(rise: float) -> None:
    expected = factors_of_torch(OneCycleLR, 1.0, total_steps=201, pct_start=rise, cycle_momentum=False, steps=201)
    # torch ends the rise a step early and takes the last of its steps for the end
    schedule = made("one_cycle", rise=(rise * 201 - 1) / 200)
    assert [schedule(progress) for progress in GRID] == pytest.approx(expected, abs=1e-12)


def test_one_cycle_takes_other_ends_as_torch_does() -> None:
    made_by_torch = {"div_factor": 10.0, "final_div_factor": 5.0, "pct_start": 51 / 201}
    expected = factors_of_torch(OneCycleLR, 1.0, total_steps=201, cycle_momentum=False, steps=201, **made_by_torch)
    schedule = made("one_cycle", rise=0.25, start=0.1, end=0.02)
    assert [schedule(progress) for progress in GRID] == pytest.approx(expected, abs=1e-12)


def test_piecewise_joins_its_points_by_straight_lines() -> None:
    schedule = made("piecewise", points=[[0.2, 0.5], [0.4, 1.0], [0.8, 0.0]])
    given = {0.0: 0.5, 0.2: 0.5, 0.25: 0.625, 0.4: 1.0, 0.6: 0.5, 0.8: 0.0, 1.0: 0.0, 1.5: 0.0}
    assert [schedule(progress) for progress in given] == pytest.approx(list(given.values()))


def test_piecewise_with_one_point_is_level() -> None:
    assert {made("piecewise", points=[[0.5, 0.7]])(progress) for progress in GRID} == {0.7}


def test_piecewise_jumps_between_points_at_the_same_progress() -> None:
    """The schedule in the code of (Stickland and Murray, 2019), which drops where its warm-up ends."""
    schedule = made("piecewise", points=[[0, 0], [0.1, 1], [0.1, 0.9], [1, 0]])
    expected = [progress / 0.1 if progress < 0.1 else 1 - progress for progress in GRID]
    assert [schedule(progress) for progress in GRID] == pytest.approx(expected, abs=1e-12)


def test_piecewise_is_a_slanted_triangle_unless_told_otherwise() -> None:
    """The formula of (Howard and Ruder, 2018) with their cut and ratio."""
    cut, ratio = 0.1, 32

    def slanted(progress: float) -> float:
        p = progress / cut if progress < cut else 1 - (progress - cut) / (cut * (1 / cut - 1))
        return (1 + p * (ratio - 1)) / ratio

    assert [made("piecewise")(p) for p in GRID] == pytest.approx([slanted(p) for p in GRID], abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("piecewise", {"points": []}, "at least 1 item"),
        ("piecewise", {"points": [[0, 1, 2]]}, "at most 2 items"),
        ("piecewise", {"points": [[0, -1]]}, "greater than or equal to 0"),
        ("piecewise", {"points": [[0, 1], [0.5, 1], [0.4, 0]]}, r"\]\]: progress may not fall .* from 0.5 to 0.4"),
        ("piecewise", {"points": [[0, 1], [2, 0]]}, "progress is at most 1, not 2.0"),
        ("step", {"every": 0}, "every of schedule 'step' is 0"),
        ("step", {"gamma": 10}, "gamma of schedule 'step' is 10"),
        ("cosine", {"end": 2}, "end of schedule 'cosine' is 2"),
        ("one_cycle", {"warmup": 0.1}, r"'warmup' \(valid: rise, start, end\)"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Mistake, match=message):
        made(name, **options)


# ---- values that vary


class Wobble:
    """Something with an option that may change during training."""

    def __init__(self, *, size: Varying = 0.5) -> None:
        self.size = Varied(size)


WOBBLES: Registry[Wobble] = Registry("wobble", {"wobble": Wobble})


def varied(given: Any) -> Varied:
    return WOBBLES["wobble"](**WOBBLES.complete("wobble", {"size": given})).size


def test_a_number_does_not_vary() -> None:
    assert {varied(3)(progress) for progress in GRID} == {3.0}
    assert {WOBBLES["wobble"]().size(progress) for progress in GRID} == {0.5}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_value_varies_as_its_schedule_says(name: str) -> None:
    value = varied({"name": name, "value": 5})
    assert [value(progress) for progress in GRID] == pytest.approx([5 * made(name)(progress) for progress in GRID])


def test_a_varying_value_takes_its_schedules_options() -> None:
    value = varied({"name": "linear", "value": 2, "warmup": 0.5, "end": 0.5})
    assert [value(progress) for progress in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0, 1, 2, 1.5, 1])


def test_a_varying_value_is_one_at_its_full_size_unless_told_otherwise() -> None:
    assert varied({"name": "cosine"})(0.0) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_varying_value_is_plain_data_with_every_default_filled_in(name: str) -> None:
    complete = WOBBLES.complete("wobble", {"size": {"name": name, "value": 5}})
    assert set(complete["size"]) == {"name", "value", *SCHEDULES.options(name)}
    assert yaml.safe_load(yaml.safe_dump(complete)) == complete
    assert WOBBLES.complete("wobble", complete) == complete


def test_a_recipe_with_a_varying_value_reads_back_equal() -> None:
    power = {"name": "piecewise", "value": 2, "points": [[0, 1], [1, 0.5]]}
    task = {"kind": "classification", "text": "text", "label": "mood", "classes": 2, "train": "mood.tsv"}
    stage = {"steps": 1, "sampler": {"name": "temperature", "power": power}}
    recipe = read_recipe({"encoder": {"name": "random"}, "tasks": {"mood": task}, "stages": [stage]})
    assert recipe.stages[0].sampler.options["power"] == power
    assert read_recipe(yaml.safe_load(recipe.as_yaml())) == recipe


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1, "size of wobble 'wobble' is -1: value should be a number of at least 0, not -1"),
        (math.nan, "value should be a number of at least 0, not nan"),
        (True, "value should be a number of at least 0, not True"),
        ("5", "value should be a number of at least 0, not '5'"),
        ([1], r"value should be a number of at least 0, not \[1\]"),
        ({"name": "linear", "value": -1}, "value should be a number of at least 0, not -1"),
        ({"value": 5}, "needs the name of its schedule: constant, linear, cosine"),
        ({"name": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"name": "linear", "warm": 1}, r"unknown option of schedule 'linear': 'warm'.*\(valid: warmup, end\)"),
        ({"name": "linear", "warmup": 2}, "warmup of schedule 'linear' is 2: input should be less than"),
    ],
)
def test_a_wrong_value_is_a_mistake_that_shows_what_would_be_right(given: Any, message: str) -> None:
    with pytest.raises(Mistake, match=message):
        varied(given)
