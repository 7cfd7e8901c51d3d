"""Whether a model is as often right as it is sure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Bin(NamedTuple):
    """Predictions that were about as sure."""

    rows: int
    sure: float  # the mean of their probabilities
    right: float  # the share that was right


def bins_of(sure: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Predictions with probabilities `sure` (N,) in bins of equal width, empty ones left out.

    Source: Guo et al., 2017, section 2, https://arxiv.org/abs/1706.04599
    """
    places = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    return [
        Bin(int(own.sum()), float(sure[own].mean()), float(right[own].mean()))
        for own in (places == place for place in np.unique(places))
    ]


def calibration_error(sure: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """The expected calibration error (ECE): how far sure and right are apart in a bin, a mean over the rows.

    Source: Guo et al., 2017, equation 3, https://arxiv.org/abs/1706.04599
    """
    return sum(one.rows * abs(one.sure - one.right) for one in bins_of(sure, right, bins)) / len(sure)
