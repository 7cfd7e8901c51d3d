"""Labels flipped on purpose are found."""

from __future__ import annotations

import numpy as np
import pytest

from mtbert.scoring.label_errors import likely_wrong, out_of_sample, suspicion


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_labels_are_flagged(classes: int, seed: int) -> None:
    """Of the flipped ones at least half are flagged, and at least half of what is flagged was flipped."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, classes, 1500)
    features = generator.normal(size=(1500, 20)).astype(np.float32)
    features[:, :classes] += 3 * np.eye(classes, dtype=np.float32)[true]
    flipped = generator.uniform(size=1500) < 0.05
    labels = np.where(flipped, (true + generator.integers(1, classes, 1500)) % classes, true).astype(float)
    probabilities = out_of_sample(features, labels, classes, np.arange(1500))
    found = likely_wrong(probabilities, labels)
    assert (found & flipped).sum() >= flipped.sum() / 2
    assert (found & flipped).sum() >= found.sum() / 2


def test_rows_of_one_group_are_not_on_both_sides() -> None:
    """Each row stands there twice and its label is chance: whoever had seen its twin would know it."""
    generator = np.random.default_rng(3)
    features = np.repeat(generator.normal(size=(200, 40)), 2, axis=0).astype(np.float32) * 10
    labels = np.repeat(generator.integers(0, 2, 200), 2).astype(float)
    apart = out_of_sample(features, labels, 2, np.arange(400))
    together = out_of_sample(features, labels, 2, np.repeat(np.arange(200), 2))
    assert (apart.argmax(1) == labels).mean() > 0.6
    assert (together.argmax(1) == labels).mean() < 0.6


def test_a_label_without_a_better_class_is_not_suspected() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05], [0.9, 0.1]])
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    assert likely_wrong(probabilities, labels).tolist() == [False, False, True, False]
    assert suspicion(probabilities, labels) == pytest.approx([-0.8, -0.6, 0.9, -0.8])
