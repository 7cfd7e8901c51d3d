"""Class by class, counted by hand."""

from __future__ import annotations

import numpy as np

from mtbert.data.kinds.class_scores import ClassScore, class_scores

NAMES = ["low", "mid", "high", "never"]


def test_every_class_is_counted() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2.0])
    predictions = np.array([0, 0, 1, 1, 0, 1.0])
    found = class_scores(NAMES, predictions, labels)
    assert found.classes == [
        ClassScore("low", 2 / 3, 2 / 3, 2 / 3, 3),
        ClassScore("mid", 1 / 3, 1 / 2, 0.4, 2),
        ClassScore("high", 0.0, 0.0, 0.0, 1),
        ClassScore("never", 0.0, 0.0, 0.0, 0),
    ]
    assert found.confusion == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert (found.unfound, found.unasked) == (["high"], ["never"])


def test_of_very_many_classes_those_that_occur_are_counted() -> None:
    found = class_scores([f"c{n}" for n in range(1000)], np.array([7.0, 500.0]), np.array([7.0, 999.0]))
    assert [one.name for one in found.classes] == ["c7", "c500", "c999"]
    assert found.confusion == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
