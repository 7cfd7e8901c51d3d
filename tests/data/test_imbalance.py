"""Weights of classes, focal loss and smoothed labels beside torch and their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from mtbert.data.kinds.classification import Classification
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.small import recipe_over, write_small_data


def task(**settings: Any) -> Classification:
    return Classification(**{"name": "t", "text": ("text",), "label": "label", "classes": ("a", "b", "c")} | settings)


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=generator), torch.randint(0, 3, (12,), generator=generator)


def test_focal_loss_is_its_formula() -> None:
    logits, targets = drawn()
    p = logits.double().softmax(-1).gather(1, targets[:, None])[:, 0]
    expected = -((1 - p) ** 2) * p.log()
    torch.testing.assert_close(task(focal=2.0).losses(logits, targets).double(), expected, rtol=0, atol=1e-6)


def test_smoothed_labels_are_torchs() -> None:
    logits, targets = drawn()
    expected = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(task(label_smoothing=0.1).losses(logits, targets), expected, rtol=0, atol=1e-6)


def test_weights_by_name_are_torchs() -> None:
    logits, targets = drawn()
    one = task(class_weights={"c": 5})
    one.learn_from(np.array([0.0, 1, 2]))
    expected = F.cross_entropy(logits, targets, torch.tensor([1.0, 1, 5]), reduction="none")
    torch.testing.assert_close(one.losses(logits, targets), expected, rtol=0, atol=1e-6)


def test_balanced_weights_are_those_of_scikit_learn_and_1_on_average() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.array([0.0] * 9 + [1.0] * 2 + [2.0])
    one = task(class_weights="balanced")
    one.learn_from(labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    same_logits = torch.zeros(3, 3)
    losses = one.losses(same_logits, torch.arange(3)) / np.log(3)
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-6)
    assert losses[labels.astype(int)].mean().item() == pytest.approx(1)


def test_without_any_of_it_the_loss_is_the_plain_one_to_the_bit() -> None:
    logits, targets = drawn()
    assert torch.equal(task().losses(logits, targets), F.cross_entropy(logits, targets, reduction="none"))


def test_a_weight_of_no_class_is_refused() -> None:
    with pytest.raises(ValidationError, match="unknown class of a weight: 'd'"):
        task(class_weights={"d": 2})
    with pytest.raises(ValidationError, match="not a number above 0"):
        task(class_weights={"a": 0})


def test_a_recipe_takes_the_weights_from_its_training_rows(tmp_path: Path) -> None:
    recipe = recipe_over(write_small_data(tmp_path / "data"))
    recipe["tasks"]["mood"] |= {"class_weights": "balanced", "focal": 1.5}
    built = build(read_recipe(recipe)).model.tasks["mood"]
    assert isinstance(built, Classification)
    assert built._weights is not None
    labels = np.array([i % 3 for i in range(40)])
    np.testing.assert_allclose(built._weights.numpy(), 40 / (3 * np.bincount(labels)), rtol=1e-6)
