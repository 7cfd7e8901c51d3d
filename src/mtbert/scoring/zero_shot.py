"""What the untrained encoder knows of pairs: a trained model should know more.

The two texts are encoded apart, each to the mean of its tokens' states, and compared by their cosine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.data.batches import Examples
from mtbert.data.kinds.base import Task
from mtbert.data.labels import plain
from mtbert.data.tokenizer import Tokenizer
from mtbert.model.encoder import Encoder
from mtbert.model.sentences import cosines

MOST = 10_000  # pairs that are worth comparing, of a set that holds more
LEARNED = 2_000  # training pairs that are enough to learn the threshold from


class Threshold(NamedTuple):
    """From which cosine on a pair is of one class rather than the other."""

    cosine: float
    above: float  # the class from there on; the other one below


def applies_to(task: Task) -> bool:
    """Whether a cosine can answer the task: a score of pairs, or one of two classes."""
    return len(task.text) == 2 and (task.scored or task.binary)


def zero_shot_metrics(
    encoder: Encoder, tokenizer: Tokenizer, examples: Examples, train: Examples | None
) -> dict[str, float]:
    """The metrics of the cosine on labelled pairs, for a task that it `applies_to`.

    For scores the correlations; for two classes the metrics of the best threshold on `train`, and of the cosine itself
    where they see probabilities.
    """
    task = examples.task
    assert examples.labels is not None  # whoever scores a set has looked
    labels = plain(examples.labels)
    values = cosines(encoder, examples.tokens, tokenizer).numpy()
    if task.scored:
        found = task.metrics(values, labels)
        return {metric: found[metric] for metric in found if task.all_metrics[metric].scale == "correlation"}
    assert train is not None  # two classes need examples to learn the threshold from
    assert train.labels is not None
    learned = best_threshold(cosines(encoder, train.tokens, tokenizer).numpy(), plain(train.labels))
    said = np.where(values >= learned.cosine, learned.above, 1 - learned.above)
    second = values if learned.above else -values
    return task.metrics(task.beside(said, np.stack([-second, second], axis=1)), labels)


def best_threshold(values: NDArray[np.float64], labels: NDArray[np.float64]) -> Threshold:
    """The threshold that tells classes 0 and 1 apart most often on cosines (N,), and the class above it."""
    order = np.argsort(-values, kind="stable")
    ones = np.concatenate([[0], np.cumsum(labels[order] == 1)])  # among the highest 0, 1, ..., N
    counted = np.arange(len(values) + 1)
    right = ones + (len(values) - counted) - (ones[-1] - ones)  # the highest are of class 1, the others of class 0
    ends = np.concatenate([[True], np.diff(values[order]) != 0, [True]])  # equal cosines stay together
    best_one = int(np.where(ends, right, -1).argmax())
    best_zero = int(np.where(ends, len(values) - right, -1).argmax())
    above = right[best_one] >= len(values) - right[best_zero]
    highest = best_one if above else best_zero
    return Threshold(float(values[order[highest - 1]]) if highest else np.inf, float(above))
