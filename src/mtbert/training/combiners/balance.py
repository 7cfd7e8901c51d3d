"""Combiners that choose one weight a task, so that no task loses by the step, or all gain alike."""

from __future__ import annotations

import math

import numpy as np

from mtbert.registry import NonNegative
from mtbert.training.combiners.base import Combiner
from mtbert.training.gramian import Matrix, Vector, length

ROUNDING = float(np.finfo(np.float64).eps)
STANDSTILL = 1e-4  # length of a mean gradient, of that of all gradients together, below which it has no direction


class MGDA(Combiner):
    """The shortest of all weighted means of the gradients, along which every task gains (Sener and Koltun, 2018).

    It leans towards the task with the smallest gradient, and is 0 where no step helps all tasks.
    """

    def weights(self, gramian: Matrix) -> Vector:
        # of |sum_k w_k g_k|^2 + (sum_k w_k - 1)^2 over w >= 0 the best direction is that of the shortest mean
        found = _nonnegative(np.vstack([_root(gramian), np.ones(len(gramian))]), np.eye(len(gramian) + 1)[-1])
        shares: Vector = found / found.sum()
        return shares


class CAGrad(Combiner):
    """The step near the mean gradient from which the task that gains least gains most (Liu et al., 2021).

    `radius` is how far from the mean gradient it may lie, in multiples of its length: 0 is the mean; the more, the
    nearer to MGDA.
    """

    def __init__(self, *, radius: NonNegative = 0.5) -> None:
        self.radius = radius

    def weights(self, gramian: Matrix) -> Vector:
        count = len(gramian)
        mean = np.full(count, 1 / count)
        reach = self.radius * length(gramian, mean)
        worst = _least_on_simplex(gramian, gramian @ mean, reach)
        shortest = length(gramian, worst)
        if shortest < STANDSTILL:
            return np.zeros(count)  # some mean of the gradients is 0: no step helps all tasks
        weights: Vector = mean + reach / shortest * worst
        return weights


class UPGrad(Combiner):
    """The mean of the gradients, each first moved to the nearest step that harms no task (Quinton and Rey, 2024)."""

    def weights(self, gramian: Matrix) -> Vector:
        root, count = _root(gramian), len(gramian)
        # nearest to g_i is g_i + sum_k x_k g_k with the x >= 0 that make it shortest
        moves = [_nonnegative(root, -root[:, task]) for task in range(count)]
        weights: Vector = (1 + np.sum(moves, axis=0)) / count
        return weights


class IMTLG(Combiner):
    """The step whose projections on all tasks' gradients are equally long (Liu et al., 2021).

    How large a task's gradient is does not change its direction. Weights add up to 1 and may be negative.
    """

    def weights(self, gramian: Matrix) -> Vector:
        tolerance = len(gramian) * ROUNDING
        unscaled = np.linalg.pinv(gramian, rcond=tolerance, hermitian=True) @ np.sqrt(np.diag(gramian))
        size = unscaled.sum()
        weights: Vector = unscaled / size if abs(size) > tolerance else np.zeros(len(gramian))
        return weights


class AlignedMTL(Combiner):
    """The mean of the gradients after making them orthogonal and of equal length (Senushkin et al., 2023).

    Their length is that of the smallest principal component of the gradients.
    """

    def weights(self, gramian: Matrix) -> Vector:
        squares, directions = np.linalg.eigh(gramian)
        kept = squares > squares[-1] * len(gramian) * ROUNDING
        squares, directions = squares[kept], directions[:, kept]
        balance = np.sqrt(squares[0]) * (directions / np.sqrt(squares)) @ directions.T
        weights: Vector = balance.mean(axis=1)
        return weights


def _root(gramian: Matrix) -> Matrix:
    """As many columns as tasks, with the inner products of the gramian: (K, K)."""
    squares, directions = np.linalg.eigh(gramian)
    root: Matrix = (directions * np.sqrt(np.clip(squares, 0, None))).T
    return root


def _nonnegative(matrix: Matrix, target: Vector) -> Vector:
    """The x, nowhere negative, for which matrix @ x comes nearest to the target."""
    from scipy.optimize import nnls  # late: most of a second, before any training

    nearest: Vector = nnls(matrix, target)[0]
    return nearest


def _least_on_simplex(gramian: Matrix, slope: Vector, reach: float) -> Vector:
    """The shares w, none negative and adding up to 1, that minimise slope . w + reach * sqrt(w . gramian w)."""
    from scipy.optimize import minimize  # late, as above

    count = len(gramian)

    def value(w: Vector) -> tuple[float, Vector]:
        size = math.hypot(length(gramian, w), 1e-8)  # so that there is a slope at 0 too
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
