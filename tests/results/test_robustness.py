"""Robustness: the scores on texts as they are, and on the same texts with typos."""

from __future__ import annotations

from typing import Any

import pytest

from mtbert.data.batches import Examples
from mtbert.data.perturbation import perturbed
from mtbert.experiment import build
from mtbert.recipe import read_recipe
from mtbert.results.evaluation import evaluate
from mtbert.results.robustness import robustness


def test_robustness_is_the_drop_from_the_clean_dev_set_to_the_perturbed_one(small_recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(small_recipe))
    model, rows = experiment.model, experiment.rows["dev"]
    found = robustness(model, experiment.tokenizer, rows, seed=3)
    assert found.clean == evaluate(model, experiment.sets["dev"])
    changed = {
        task: Examples.from_rows(model.tasks[task], perturbed(one, 3), experiment.tokenizer, 512)
        for task, one in rows.items()
    }
    assert found.perturbed == evaluate(model, changed)
    assert found.perturbed != found.clean
    for task, drop in found.drop.items():
        if task != "overall":
            assert drop == pytest.approx(found.clean.normalised[task] - found.perturbed.normalised[task])
    assert found.drop["overall"] == pytest.approx(sum(found.drop[task] for task in rows) / 3)
    assert robustness(model, experiment.tokenizer, rows, seed=3) == found
