"""Labels that are likely wrong, by what a model says of rows that it was not trained on (confident learning)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
SEED = 20_220_504
STRENGTHS = (0.001, 0.003, 0.01, 0.1)  # of the head's inverse penalty, of which the best by held-out loss is taken


def likely_wrong(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which labels the rows would rather not have: out-of-sample probabilities (N, C), labels (N,) -> (N,).

    A row counts for a class where its probability is at least the mean probability of that class among the rows
    labelled so; the likeliest such class is what it seems to be. A label is likely wrong where that is another class.
    From each pair of classes as many rows are taken as the counts suggest, scaled to the rows that there are, those
    with the widest margin first.

    Source: Northcutt et al., 2021, section 3, https://arxiv.org/abs/1911.00068
    """
    given, classes = labels.astype(np.int64), probabilities.shape[1]
    rows = np.bincount(given, minlength=classes)
    own = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=classes)
    least = np.divide(own, rows, out=np.ones(classes), where=rows > 0)
    confident = np.where(probabilities >= least, probabilities, -1.0)
    seems = np.where(confident.max(1) >= 0, confident.argmax(1), given)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (given, seems), 1)
    joint *= np.divide(rows, joint.sum(1), out=np.zeros(classes), where=joint.sum(1) > 0)[:, None]
    found = np.zeros(len(given), dtype=bool)
    for one, other in np.argwhere(joint > 0):
        if one != other:
            mine = np.flatnonzero(given == one)
            margin = probabilities[mine, other] - probabilities[mine, one]
            chosen = np.argsort(-margin, kind="stable")[: round(joint[one, other])]
            found[mine[chosen[margin[chosen] > 0]]] = True
    return found


def suspicion(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much likelier another class is than the label: (N, C), (N,) -> (N,) from -1 to 1."""
    given = labels.astype(np.int64)
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    margin: NDArray[np.float64] = others.max(1) - probabilities[np.arange(len(given)), given]
    return margin


def out_of_sample(
    features: NDArray[np.float32],
    labels: NDArray[np.float64],
    classes: int,
    groups: NDArray[np.int64],
    told: Callable[[int], None] = lambda fold: None,
) -> NDArray[np.float64]:
    """What a linear head says of each row that was trained on the other folds alone: (N, D), (N,) -> (N, classes).

    Rows of one group (N,), such as those with the same text, are never on both sides. `told` hears each fold done.
    """
    from sklearn.linear_model import LogisticRegression  # late, as elsewhere
    from sklearn.preprocessing import StandardScaler

    given = labels.astype(np.int64)
    wide = StandardScaler().fit_transform(features)
    folds = np.random.default_rng(SEED).permutation(np.arange(int(groups.max()) + 1) % FOLDS)[groups]
    best: NDArray[np.float64] | None = None
    least = np.inf
    for strength in STRENGTHS:
        found = np.full((len(given), classes), 1e-12)
        for fold in range(FOLDS):
            mine = folds == fold
            if mine.any() and len(np.unique(given[~mine])) > 1:
                head = LogisticRegression(C=strength, max_iter=300).fit(wide[~mine], given[~mine])
                found[np.ix_(mine, head.classes_)] = head.predict_proba(wide[mine])
        loss = float(-np.log(found[np.arange(len(given)), given] + 1e-12).mean())
        if loss < least:
            best, least = found, loss
        told(STRENGTHS.index(strength))
    assert best is not None  # a loss is finite
    return best
