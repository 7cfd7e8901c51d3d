"""Which tasks help each other, in one short run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reports.affinity import best_partition, measure_affinity
from mtbert.runs.build import build


def test_affinity_of_a_short_run_is_the_mean_of_its_looks(small_recipe: dict[str, Any]) -> None:
    report = measure_affinity(build(read_recipe(small_recipe)), steps=4, every=2)
    assert (report.looks, report.steps) == (2, 4)
    assert sorted(task for group in report.together for task in group) == ["mood", "near", "same"]
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
