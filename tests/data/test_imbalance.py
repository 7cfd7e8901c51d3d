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
from mtbert.data.labels import Ragged
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.data.test_kinds import of_words, ordinal, outputs_for, several
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


def test_a_weight_of_no_class_is_refused_where_the_file_says_the_classes_too(tmp_path: Path) -> None:
    recipe = recipe_over(write_small_data(tmp_path / "data"))
    del recipe["tasks"]["mood"]["classes"]
    recipe["tasks"]["mood"]["class_weights"] = {"lwo": 2}
    with pytest.raises(
        Mistake, match=r"tasks.mood.class_weights: unknown class of a weight: 'lwo'; did you mean 'low'"
    ):
        build(read_recipe(recipe))


# ---- ordered classes


@pytest.mark.parametrize("method", ["corn", "cumulative", "soft", "plain"])
def test_ordered_classes_are_weighed_eased_and_smoothed_by_their_probabilities(method: str) -> None:
    settings = {"class_weights": {"2": 4.0}, "focal": 2.0, "label_smoothing": 0.1}
    one = ordinal(method, 3, **settings)
    one.learn_from(np.array([0.0, 1, 2]))
    outputs, targets = outputs_for(one, 12), torch.arange(12) % 3
    p = np.stack(list(one.probabilities(outputs).values()), 1)
    hot = np.eye(3)[targets]
    if method == "soft":
        distance = np.exp(-np.abs(np.arange(3) - targets.numpy()[:, None]))
        hot = distance / distance.sum(1, keepdims=True)
    wanted = 0.9 * hot + 0.1 / 3
    expected = np.array([1, 1, 4])[targets] * -(wanted * (1 - p) ** 2 * np.log(p)).sum(1)
    np.testing.assert_allclose(one.losses(outputs, targets).numpy(), expected, atol=1e-5)


# ---- several labels


def labels_drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, generator=generator), torch.randint(0, 2, (20, 3), generator=generator).float()


def test_weights_of_labels_that_are_there_are_torchs() -> None:
    logits, targets = labels_drawn()
    one = several(class_weights={"short": 5.0})
    one.learn_from(targets.double().numpy())
    expected = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor([1.0, 5, 1]), reduction="none"
    )
    torch.testing.assert_close(one.losses(logits, targets), expected.mean(1), rtol=0, atol=1e-6)


def test_balanced_labels_are_weighed_as_scikit_learn_weighs_each() -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    logits, targets = labels_drawn()
    targets[3, 1] = torch.nan  # unknown: neither learned nor counted
    one = several(class_weights="balanced")
    one.learn_from(targets.double().numpy())
    plain = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none").double().numpy()
    for label in range(3):
        known = ~targets[:, label].isnan().numpy()
        plain[known, label] *= compute_sample_weight("balanced", targets[known, label].numpy())
    plain[3, 1] = 0
    expected = plain.sum(1) / np.where(np.arange(20) == 3, 2, 3)
    np.testing.assert_allclose(one.losses(logits, targets).numpy(), expected, atol=1e-5)


def test_focal_loss_of_labels_is_its_formula_and_smoothed_ones_are_torchs() -> None:
    logits, targets = labels_drawn()
    p = torch.where(targets > 0, logits.double().sigmoid(), (-logits.double()).sigmoid())
    expected = (-((1 - p) ** 2) * p.log()).mean(1)
    found = several(focal=2.0).losses(logits, targets)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    smoothed = F.binary_cross_entropy_with_logits(logits, 0.8 * targets + 0.1, reduction="none").mean(1)
    torch.testing.assert_close(several(label_smoothing=0.2).losses(logits, targets), smoothed, rtol=0, atol=1e-6)


# ---- labels of words


def test_words_are_weighed_and_smoothed_as_torch_does_and_eased_by_the_formula() -> None:
    labels = Ragged.of([[0, 1, 1], [1], [1, 0]])
    words = torch.tensor([[1, 2, 3], [1, 0, 0], [1, 2, 0]])
    logits = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(0))
    weighed = of_words(["DET", "NOUN"], scheme="none", class_weights="balanced", label_smoothing=0.1)
    weighed.learn_from(labels)
    targets = weighed.targets(labels)
    weights = torch.tensor([6 / (2 * 2), 6 / (2 * 4)])
    seen = targets >= 0
    log_p = logits.log_softmax(-1)
    hot = F.one_hot(targets.clamp(min=0), 2) * 0.9 + 0.05
    by_word = -(hot * log_p).sum(-1) * weights[targets.clamp(min=0)] * seen
    found = weighed.losses(weighed.placed(logits, words), targets)
    torch.testing.assert_close(found, by_word.sum(1) / seen.sum(1), rtol=0, atol=1e-6)
    p = log_p.exp().gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    focal = of_words(["DET", "NOUN"], scheme="none", focal=2.0)
    expected = (-((1 - p) ** 2) * p.log() * seen).sum(1) / seen.sum(1)
    torch.testing.assert_close(focal.losses(focal.placed(logits, words), targets), expected, rtol=0, atol=1e-6)
