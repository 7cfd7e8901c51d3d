"""Which tasks help each other, in one short run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reports.affinity import AffinityReport, best_partition, measure_affinity, surely
from mtbert.runs.build import build
from tests.support.screen import assert_fits, shown_lines


def test_affinity_of_a_short_run_is_the_mean_of_its_looks(small_recipe: dict[str, Any]) -> None:
    report = measure_affinity(build(read_recipe(small_recipe)), steps=4, every=2)
    assert (report.looks, report.steps) == (2, 4)
    assert report.together == []  # two looks carry no grouping of three tasks
    with pytest.raises(Mistake, match="3 steps are too few to look every 10"):
        measure_affinity(build(read_recipe(small_recipe)), steps=3, every=10)


@pytest.mark.parametrize(
    ("affinity", "groups"),
    [
        ([[1, 0.2, 0.3], [0.2, 1, 0.3], [0.2, 0.2, 1]], [[0, 1, 2]]),  # 0.2 + 0.2 + 0.3 against 0.4 for the first two
        ([[1, 0.2, -0.5], [0.3, 1, -0.5], [-0.5, -0.5, 1]], [[0, 1], [2]]),
        ([[1, -0.1, -0.1], [-0.1, 1, -0.1], [-0.1, -0.1, 1]], [[0], [1], [2]]),
        ([[1, -1, 0.2], [-1, 1, -1], [0.2, -1, 1]], [[0, 2], [1]]),
    ],
)
def test_tasks_that_help_each_other_are_grouped(affinity: list[list[float]], groups: list[list[int]]) -> None:
    found = best_partition(np.array(affinity, dtype=float))
    assert sorted(sorted(group) for group in found) == groups


def test_an_affinity_within_its_errors_groups_nothing() -> None:
    mean = np.array([[1, 0.1, 0.1], [0.1, 1, 0.1], [0.1, 0.1, 1]])
    assert not surely(mean, np.full((3, 3), 0.05), looks=20)[~np.eye(3, dtype=bool)].any()
    np.testing.assert_array_equal(surely(mean, np.full((3, 3), 0.01), looks=20), mean)
    assert not surely(mean, np.full((3, 3), np.nan), looks=1).any()


def test_chance_alone_seldom_groups_tasks() -> None:
    """By the level, at most one in twenty experiments on tasks that do nothing for each other groups any of them."""
    generator = np.random.default_rng(0)
    grouped = 0
    for _ in range(400):
        looks = generator.normal(size=(20, 5, 5))
        carried = surely(looks.mean(0), looks.std(0, ddof=1) / np.sqrt(20), 20)
        grouped += any(len(group) > 1 for group in best_partition(np.where(np.eye(5), 0, carried)))
    assert grouped <= 0.07 * 400  # two standard errors above 0.05


def test_twenty_tasks_are_grouped_at_once_with_those_that_help_them() -> None:
    blocks = np.full((20, 20), -0.1)
    for first in range(0, 20, 5):
        blocks[first : first + 5, first : first + 5] = 0.3
    groups = best_partition(blocks)
    assert sorted(task for group in groups for task in group) == list(range(20))
    assert all(len(group) > 1 and len({task // 5 for task in group}) == 1 for group in groups)


def test_it_is_said_where_no_group_is_carried_by_the_looks() -> None:
    nothing = AffinityReport(["a", "b"], [[0.1, 0.0], [0.0, 0.1]], [[0.1, 0.1], [0.1, 0.1]], 2, 20, [])
    lines = shown_lines(nothing, 80)
    assert "no group surely helps its members" in " ".join(line.strip() for line in lines)
    assert_fits(lines, 80)


def test_one_look_has_no_standard_error() -> None:
    nan = float("nan")
    lines = shown_lines(AffinityReport(["a", "b"], [[0.1, 0.0], [0.0, 0.1]], [[nan, nan], [nan, nan]], 1, 10, []), 80)
    said = " ".join(" ".join(lines).split())
    assert "nan" not in said
    assert "means over 1 look in 10 steps, which has no standard error" in said
    assert "1 look cannot say which tasks to train together" in said
