"""Combiners that choose one weight per task, so that no task loses by the step or all of them gain alike."""

from __future__ import annotations

import math

import numpy as np

from mtbert.registry import NonNegative
from mtbert.training.combiners.base import Combiner
from mtbert.training.gramian import Matrix, Vector, length

ROUNDING = float(np.finfo(np.float64).eps)
STANDSTILL = 1e-8  # a mean gradient shorter than this share of all gradients together is rounding


class MGDA(Combiner):
    """The shortest of all weighted means of the gradients, a step along which every task gains.

    It leans towards the task with the smallest gradient, and is 0 where no step helps all tasks.

    Source: Sener and Koltun, 2018, https://arxiv.org/abs/1810.04650
    """

    def weights(self, gramian: Matrix) -> Vector:
        """Weights of at least 0 that add up to 1: (K, K) -> (K,).

        >>> gradients = np.array([[1.0, 0.0], [0.0, 2.0]])  # at a right angle, the second twice as long
        >>> MGDA().weights(gradients @ gradients.T / 5).round(6)
        array([0.8, 0.2])
        """
        # the w >= 0 that minimises |sum_k w_k g_k|^2 + (sum_k w_k - 1)^2 has the direction of the shortest mean
        found = _nonnegative(np.vstack([_root(gramian), np.ones(len(gramian))]), np.eye(len(gramian) + 1)[-1])
        shares: Vector = found / found.sum()
        return shares


class CAGrad(Combiner):
    """The step near the mean gradient by which the task that gains least gains the most.

    `radius` is how far the step may be from the mean gradient, as a multiple of the mean gradient's length: 0 gives the
    mean, and larger values come nearer to MGDA. Where some mean of the gradients is 0, so that no step helps all tasks,
    it takes the mean.

    Source: Liu et al., 2021, algorithm 1, https://arxiv.org/abs/2110.14048
    """

    def __init__(self, *, radius: NonNegative = 0.5) -> None:
        self.radius = radius

    def weights(self, gramian: Matrix) -> Vector:
        count = len(gramian)
        mean = np.full(count, 1 / count)
        reach = self.radius * length(gramian, mean)
        worst = _least_on_simplex(gramian, gramian @ mean, reach)
        shortest = length(gramian, worst)
        weights: Vector = mean + reach / shortest * worst if reach > 0 and shortest > STANDSTILL else mean
        return weights


class UPGrad(Combiner):
    """The mean of the gradients, each first moved to the nearest step that harms no task.

    Source: Quinton and Rey, 2024, https://arxiv.org/abs/2406.16232
    """

    def weights(self, gramian: Matrix) -> Vector:
        root, count = _root(gramian), len(gramian)
        # the nearest such step to g_i is g_i + sum_k x_k g_k, with the x >= 0 that make it shortest
        moves = [_nonnegative(root, -root[:, task]) for task in range(count)]
        weights: Vector = (1 + np.sum(moves, axis=0)) / count
        return weights


class IMTLG(Combiner):
    """The step whose projections on all tasks' gradients are equally long.

    The lengths of the tasks' gradients do not change its direction. Weights add up to 1 and may be negative.

    Source: Liu et al., 2021, https://openreview.net/forum?id=IMPnRXEWpvr
    """

    def weights(self, gramian: Matrix) -> Vector:
        tolerance = len(gramian) * ROUNDING
        unscaled = np.linalg.pinv(gramian, rcond=tolerance, hermitian=True) @ np.sqrt(np.diag(gramian))
        size = unscaled.sum()
        weights: Vector = unscaled / size if abs(size) > tolerance else np.zeros(len(gramian))
        return weights


class AlignedMTL(Combiner):
    """The mean of the gradients after they have been made orthogonal and equally long.

    Their common length is that of the smallest principal component of the gradients.

    Source: Senushkin et al., 2023, https://arxiv.org/abs/2305.19000
    """

    def weights(self, gramian: Matrix) -> Vector:
        squares, directions = np.linalg.eigh(gramian)
        kept = squares > squares[-1] * len(gramian) * ROUNDING
        squares, directions = squares[kept], directions[:, kept]
        balance = np.sqrt(squares[0]) * (directions / np.sqrt(squares)) @ directions.T
        weights: Vector = balance.mean(axis=1)
        return weights


def _root(gramian: Matrix) -> Matrix:
    """K columns whose inner products are those of the gramian, to stand in for the gradients: (K, K) -> (K, K)."""
    squares, directions = np.linalg.eigh(gramian)
    root: Matrix = (directions * np.sqrt(np.clip(squares, 0, None))).T
    return root


def _nonnegative(matrix: Matrix, target: Vector) -> Vector:
    """The x >= 0 for which matrix @ x comes nearest to the target: (N, K), (N,) -> (K,)."""
    from scipy.optimize import nnls  # late: most of a second, before any training

    nearest: Vector = nnls(matrix, target)[0]
    return nearest


def _least_on_simplex(gramian: Matrix, slope: Vector, reach: float) -> Vector:
    """The w >= 0 with sum 1 that minimise slope . w + reach * sqrt(w . gramian w): (K,)."""
    from scipy.optimize import minimize  # late, as above

    count = len(gramian)

    def value(w: Vector) -> tuple[float, Vector]:
        size = math.hypot(length(gramian, w), 1e-8)  # not 0, where the root has no slope
        return float(slope @ w + reach * size), slope + reach / size * (gramian @ w)

    found = minimize(
        value,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    positive = np.clip(found.x, 0, None)
    shares: Vector = positive / positive.sum()
    return shares
