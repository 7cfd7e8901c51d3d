"""Which tasks feed a step: what holds for every sampler, and what each one promises."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from scipy.stats import chisquare

from mtbert.data.samplers.base import Sampler
from mtbert.data.samplers.table import SAMPLERS

BATCHES = {"sentiment": 6, "paraphrase": 11, "similarity": 3}


def made(name: str, batches: dict[str, int] | None = None, seed: int = 11711) -> Sampler:
    return SAMPLERS[name](batches or BATCHES, 1, seed, **SAMPLERS.complete(name, {}))


def drawn(sampler: Sampler, steps: int) -> list[list[str]]:
    return [sampler.draw(step, step / steps) for step in range(steps)]


def chosen(sampler: Sampler, steps: int) -> Counter[str]:
    return Counter(itertools.chain(*drawn(sampler, steps)))


# ---- what holds for every sampler


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_the_tasks_there_are(name: str) -> None:
    for tasks in drawn(made(name), 100):
        assert tasks
        assert set(tasks) <= set(BATCHES)
        assert len(set(tasks)) == len(tasks)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_forget_what_they_drew(name: str) -> None:
    expected = drawn(made(name), 100)
    fresh = made(name)
    backwards = [fresh.draw(step, step / 100) for step in reversed(range(100))]
    assert backwards[::-1] == expected
    assert [fresh.draw(57, 0.57) for _ in range(3)] == [expected[57]] * 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_repeat_themselves_for_the_same_seed(name: str) -> None:
    assert drawn(made(name), 100) == drawn(made(name), 100)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_reach_every_task(name: str) -> None:
    sampler = made(name)
    assert set(chosen(sampler, 5 * sampler.steps_per_epoch)) == set(BATCHES)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_one_task_draw_it(name: str) -> None:
    sampler = made(name, {"alone": 4})
    assert drawn(sampler, 20) == [["alone"]] * 20


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_is_a_whole_number_of_steps(name: str) -> None:
    steps = made(name).steps_per_epoch
    assert isinstance(steps, int)
    assert steps >= 1


# ---- each


def test_round_robin_takes_task_step_modulo_the_number_of_tasks() -> None:
    assert drawn(made("round_robin"), 7) == [
        ["sentiment"],
        ["paraphrase"],
        ["similarity"],
        ["sentiment"],
        ["paraphrase"],
        ["similarity"],
        ["sentiment"],
    ]


@pytest.mark.parametrize("name", ["round_robin", "proportional"])
def test_an_epoch_has_as_many_steps_as_all_tasks_have_batches(name: str) -> None:
    assert made(name).steps_per_epoch == 20


@pytest.mark.parametrize("seed", [0, 11711])
def test_proportional_draws_tasks_as_often_as_they_have_batches(seed: int) -> None:
    counts = chosen(made("proportional", seed=seed), 3000)
    expected = [3000 * share / 20 for share in BATCHES.values()]
    assert chisquare([counts[task] for task in BATCHES], expected).pvalue > 0.01


def test_proportional_draws_do_not_depend_on_each_other() -> None:
    tasks = list(itertools.chain(*drawn(made("proportional"), 3000)))
    pairs = Counter(itertools.pairwise(tasks))
    observed = [pairs[a, b] for a in BATCHES for b in BATCHES]
    expected = [2999 * BATCHES[a] * BATCHES[b] / 400 for a in BATCHES for b in BATCHES]
    assert chisquare(observed, expected).pvalue > 0.01


def test_proportional_draws_depend_on_the_seed() -> None:
    assert drawn(made("proportional", seed=1), 50) != drawn(made("proportional", seed=2), 50)


def test_proportional_with_very_unequal_tasks_reaches_the_small_one() -> None:
    # four tasks at batch size 8 (methods.md 23): 755 of 19725 batches are the smallest one's
    batches = {"sst": 1068, "cfimdb": 214, "quora": 17688, "sts": 755}
    counts = chosen(made("proportional", batches), 4000)
    expected = [4000 * share / sum(batches.values()) for share in batches.values()]
    assert chisquare([counts[task] for task in batches], expected).pvalue > 0.01
