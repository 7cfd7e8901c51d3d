"""Steps that are taken to see how long they take, and undone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from mtbert.data.batches import ExampleSet
from mtbert.model.frozen import AnyModel
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.runs.allowance import clock
from mtbert.runs.snapshot import Snapshot
from mtbert.training.regularizers.passes import random_state, replaying
from mtbert.training.trainer import Trainer

SHARE, FEWEST, LONGEST = 0.01, 3, 5.0  # of the stage's time; steps; seconds, after which two steps are enough
SAMPLED = 64  # rows of each dev set


class Tried(NamedTuple):
    """What a trial took, in seconds."""

    steps: list[float]
    evaluation: float


def trial(trainer: Trainer, model: MultiTask, dev: Mapping[str, ExampleSet], seconds: float) -> Tried:
    """Take a few steps of a stage that is to last so many seconds, and score some rows; then undo the steps.

    The trainer, which stands at its beginning, and torch's random state are as they were.
    """
    with replaying(random_state(trainer.device), trainer.device):
        before = Snapshot.of(model, trainer)
        took = [_timed(trainer) for _ in range(2)]
        while sum(took) < LONGEST and (len(took) < FEWEST or sum(took) < SHARE * seconds):
            took.append(_timed(trainer))
        before.restored(model, trainer)
        trainer.step = 0
        for stream in trainer.streams.values():
            stream.position = 0
        return Tried(took, sum(_scoring(trainer.objective.model, examples) for examples in dev.values()))


def _timed(trainer: Trainer) -> float:
    began = clock()
    trainer.take_step()
    return clock() - began


def _scoring(model: AnyModel, examples: ExampleSet) -> float:
    """The seconds that scoring a set takes, by some of its rows."""
    rows = np.linspace(0, len(examples) - 1, min(SAMPLED, len(examples))).astype(np.int64)
    batch = examples.batch(rows).to(next(model.parameters()).device)
    began = clock()
    with evaluating(model), torch.inference_mode():
        model(batch)
    return (clock() - began) * len(examples) / len(rows) * len(examples.orders)
