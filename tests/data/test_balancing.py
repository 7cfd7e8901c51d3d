"""Rows drawn by class: how often each class and each row comes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mtbert.data.balancing import balanced
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.cut_off import assert_goes_on_to_the_bit
from tests.support.small import recipe_over, with_more_kinds, write_small_data

CLASSES = np.array([0] * 900 + [1] * 90 + [2] * 10)


def drawn(balance: float, seed: int = 0) -> np.ndarray:
    return balanced(np.arange(1000), np.random.default_rng(seed), classes=CLASSES, balance=balance)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.5, 1.0])
def test_classes_come_by_the_power_of_their_size(balance: float) -> None:
    power = np.array([900.0, 90, 10]) ** (1 - balance)
    expected = 1000 * power / power.sum()
    found = np.bincount(CLASSES[drawn(balance)])
    assert found.sum() == 1000
    assert np.abs(found - expected).max() < 1


def test_no_row_comes_again_before_all_of_its_class_have_come() -> None:
    counts = np.bincount(drawn(1.0), minlength=1000)
    for one in range(3):
        of_class = counts[one == CLASSES]
        assert of_class.max() - of_class.min() <= 1
    assert set(counts[CLASSES < 1]) == {0, 1}
    assert sorted(drawn(0.0)) == list(range(1000))


def test_another_pass_shows_other_rows_of_a_frequent_class() -> None:
    frequent = [set(drawn(1.0, seed)[CLASSES[drawn(1.0, seed)] == 0]) for seed in (0, 1)]
    assert frequent[0] != frequent[1]


def test_a_task_of_any_kind_is_trained_on_its_classes_alike(tmp_path: Path) -> None:
    given = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    for task in given["tasks"].values():
        task["balance"] = 1.0
    trainer = build(read_recipe(given)).stage(0).trainer
    for name, stream in trainer.streams.items():
        own = stream.examples
        assert own.labels is not None
        classes = own.task.strata(own.labels)
        seen = Counter[int]()
        for _ in range(stream.batches_per_pass):
            seen.update(classes[stream.draw().rows].tolist())
        assert set(seen) == set(classes.tolist()), name
        assert max(seen.values()) - min(seen.values()) <= 1


def test_a_balanced_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    given = recipe_over(write_small_data(tmp_path / "data"))
    given["tasks"]["mood"]["balance"] = 0.5
    assert_goes_on_to_the_bit(given, tmp_path, steps=5)


def test_rows_that_tasks_share_cannot_be_drawn_by_the_classes_of_one(tmp_path: Path) -> None:
    given = with_more_kinds(recipe_over(write_small_data(tmp_path / "data")))
    given["tasks"] = {name: given["tasks"][name] for name in ("stars", "topics")}
    given["tasks"]["stars"]["balance"] = 1.0
    given["stages"][0]["sampler"] = "joint_rows"
    with pytest.raises(Mistake, match="`balance` of task 'stars' is about its own classes"):
        build(read_recipe(given)).stage(0)
