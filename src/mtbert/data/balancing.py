"""Rows drawn so that classes come as often as a task wants them, however rare they are in its file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def balanced(
    rows: NDArray[np.int64], generator: np.random.Generator, *, classes: NDArray[np.int64], balance: float
) -> NDArray[np.int64]:
    """As many rows as are given (N,), of a class of n rows in proportion to n^(1 - balance); `classes` is by row.

    With 0 all rows once, with 1 as many of each class. Within a class no row comes once more before each of it has
    come, so that a frequent class shows other rows in every pass.

    Source: Kang et al., 2020, equation 1, https://arxiv.org/abs/1910.09217

    >>> drawn = balanced(np.arange(8), np.random.default_rng(0), classes=np.array([0] * 6 + [1] * 2), balance=1.0)
    >>> sorted(drawn.tolist())[4:]
    [6, 6, 7, 7]
    """
    _, place, counts = np.unique(classes[rows], return_inverse=True, return_counts=True)
    shares = counts ** (1.0 - balance)
    wanted = shares / shares.sum() * len(rows)
    sizes = np.floor(wanted).astype(np.int64)
    most_cut = np.argsort(sizes - wanted, kind="stable")  # by rounding down
    sizes[most_cut[: len(rows) - sizes.sum()]] += 1
    drawn = []
    for number, size in enumerate(sizes):
        own = rows[place == number]
        turns = [generator.permutation(own) for _ in range(-(-size // len(own)))]
        drawn.append(np.concatenate([own[:0], *turns])[:size])
    return np.concatenate(drawn)
