"""Calibration: against closed forms, scikit-learn and search by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from mtbert.scoring.calibration import bins_of, calibration_error


def test_bins_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.2, 1, 3000)
    right = generator.uniform(size=3000) < sure**2
    shares, means = calibration_curve(right, sure, n_bins=15)
    found = bins_of(sure, right)
    assert [one.right for one in found] == pytest.approx(list(shares))
    assert [one.sure for one in found] == pytest.approx(list(means))
    by_hand = sum(one.rows * abs(share - mean) for one, share, mean in zip(found, shares, means, strict=True)) / 3000
    assert calibration_error(sure, right) == pytest.approx(by_hand)


def test_a_model_that_knows_how_sure_it_is_has_no_error() -> None:
    sure = np.repeat([0.5, 0.75, 1.0], 400)
    right = np.concatenate([np.arange(400) % 2 == 0, np.arange(400) % 4 != 0, np.ones(400, dtype=bool)])
    assert calibration_error(sure, right) == pytest.approx(0)
    assert calibration_error(sure, np.zeros(1200, dtype=bool)) == pytest.approx(0.75)
