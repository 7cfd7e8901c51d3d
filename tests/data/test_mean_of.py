"""What several models say on average, kind by kind: the mean of their probabilities, or of their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS

CLASSES = ("a", "b", "c", "d")
OF_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("classification", {}),
    "multilabel": ("multilabel", {}),
    **{f"ordinal, {method}": ("ordinal", {"method": method}) for method in ("corn", "cumulative", "soft", "plain")},
}


def task(kind: str, **options: Any) -> Task:
    maker: Any = KINDS[kind]
    made: Task = maker(name="one", text="text", label="label", **options)
    return made


def some_outputs(one: Task, scale: float) -> list[torch.Tensor]:
    made = [torch.randn(6, one.outputs, generator=torch.Generator().manual_seed(seed)) * scale for seed in range(3)]
    # thresholds of a cumulative model are in order
    return [outputs.sort(-1, descending=True).values for outputs in made] if getattr(one, "ordered", False) else made


@pytest.mark.parametrize("scale", [1.0, 6.0])
@pytest.mark.parametrize("name", list(OF_CLASSES))
def test_the_probabilities_are_the_means_of_the_models_own(name: str, scale: float) -> None:
    kind, options = OF_CLASSES[name]
    one = task(kind, classes=CLASSES, **options)
    several = some_outputs(one, scale)
    found = one.probabilities(one.mean_of(several))
    each = [one.probabilities(outputs) for outputs in several]
    assert list(found) == list(CLASSES)
    for label in CLASSES:
        np.testing.assert_allclose(found[label], np.mean([own[label] for own in each], axis=0), atol=1e-6)


def test_scores_are_averaged_as_they_are() -> None:
    one = task("regression", range=(0, 5))
    several = some_outputs(one, 1.0)
    np.testing.assert_allclose(
        one.mean_of(several).numpy(), np.mean([own.numpy() for own in several], axis=0), atol=1e-6
    )


def test_words_keep_their_mark_and_average_the_probabilities_of_their_labels() -> None:
    one = task("tokens", classes=CLASSES, scheme="none")
    marks = torch.tensor([[1.0, 1.0, -1.0], [1.0, 0.0, 0.0]])[..., None]
    several = [torch.cat([marks, torch.randn(2, 3, 4)], -1) for _ in range(3)]
    found = one.mean_of(several).numpy()
    assert np.array_equal(found[..., :1], marks.numpy())
    expected = np.mean([softmax(own[..., 1:].double().numpy(), axis=-1) for own in several], axis=0)
    np.testing.assert_allclose(softmax(found[..., 1:].astype(np.float64), axis=-1), expected, atol=1e-6)


def test_every_kind_has_its_test_here() -> None:
    assert {kind for kind, _ in OF_CLASSES.values()} | {"regression", "tokens"} == set(KINDS)
