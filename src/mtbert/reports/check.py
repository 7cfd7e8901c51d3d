"""A dry run that tells the truth: what would be read, trained and paid, before anything is."""

from __future__ import annotations

import resource
import statistics
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from mtbert.clock import seconds
from mtbert.data.batches import Batch, Examples
from mtbert.data.tables import Rows
from mtbert.data.tasks import Task
from mtbert.model.devices import autocast
from mtbert.model.parameters.description import sizes_of
from mtbert.runs.build import Experiment
from mtbert.scoring.evaluation import evaluate, outputs_of
from mtbert.training.observers import Penalties
from mtbert.training.trainer import Trainer

SHOWN = 3  # parsed examples of each task
TIMED = 6  # optimiser steps a stage; the first warms up and does not count


@dataclass(frozen=True)
class SplitReport:
    """One task's rows of one split."""

    task: str
    split: str
    rows: int
    skipped: list[str]
    examples: list[tuple[tuple[str, ...], str]]  # texts and label as they were understood
    labels: str
    mean_length: float  # tokens a sequence, [CLS] and [SEP] included
    longest: int
    truncated: int
    duplicates: int  # rows whose texts stood in an earlier row of this split
    contradictions: int  # of these, with another label
    overlap: int  # rows of dev whose texts also stand in train


@dataclass(frozen=True)
class StageReport:
    """What one stage would do and cost."""

    stage: int
    steps: int
    batches: dict[str, int]  # task -> how many of its batches are drawn
    passes: dict[str, float]  # task -> how often each of its examples is seen
    first_losses: dict[str, float]
    gradient_shares: dict[str, dict[str, float]]  # task -> term -> share of the gradient; none without penalties
    trained: int  # parameters that learn
    frozen: int
    trained_parts: dict[str, int]  # the same by part of the model
    frozen_parts: dict[str, int]
    seconds_per_step: float
    minutes: float  # training and evaluations together


@dataclass(frozen=True)
class Report:
    """Everything `mtbert check` says."""

    splits: list[SplitReport]
    stages: list[StageReport]
    peak_memory_gib: float
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(experiment: Experiment) -> Report:
    """Look at the data, take a few timed steps of every stage on a model that is then thrown away."""
    tasks = [experiment.recipe.tasks[name] for name in experiment.recipe.learned]
    splits = [_split(task, split, experiment) for split in experiment.sets for task in tasks]
    evaluation = _evaluation_seconds(experiment)
    stages = [_stage(index, experiment, evaluation) for index in range(len(experiment.recipe.unrolled()))]
    problems = [problem for split in splits for problem in _problems(split, experiment)]
    # kilobytes on Linux, bytes on a Mac
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return Report(splits, stages, peak, problems)


def _split(task: Task, split: str, experiment: Experiment) -> SplitReport:
    rows, examples = experiment.rows[split][task.name], experiment.sets[split][task.name]
    texts = _texts(rows)
    duplicates, contradictions = _repeated(texts, examples)
    learned = set(_texts(experiment.rows["train"][task.name])) if split != "train" else set()
    return SplitReport(
        task.name,
        split,
        len(rows),
        rows.skipped,
        [(texts[row], str(task.say(float(_labels(examples)[row])))) for row in range(min(SHOWN, len(rows)))],
        task.describe_labels(_labels(examples)),
        float(examples.lengths.mean()),
        int(examples.full_lengths.max()),
        int((examples.full_lengths > examples.lengths).sum()),
        duplicates,
        contradictions,
        sum(text in learned for text in texts),
    )


def _texts(rows: Rows) -> list[tuple[str, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.texts), strict=True))


def _labels(examples: Examples) -> np.ndarray[Any, np.dtype[np.float64]]:
    assert examples.labels is not None  # check reads labelled splits only
    return examples.labels


def _repeated(texts: list[tuple[str, ...]], examples: Examples) -> tuple[int, int]:
    first: dict[tuple[str, ...], float] = {}
    duplicates = contradictions = 0
    for text, label in zip(texts, _labels(examples).tolist(), strict=True):
        duplicates += text in first
        contradictions += first.setdefault(text, label) != label
    return duplicates, contradictions


def _evaluation_seconds(experiment: Experiment) -> float:
    """How long one evaluation of all dev sets takes, judged by a sample of each."""
    total = 0.0
    for task, examples in experiment.sets["dev"].items():
        sample = np.linspace(0, len(examples) - 1, min(128, len(examples))).astype(int)
        columns = [
            [text[part] for text in _texts(experiment.rows["dev"][task])] for part in range(len(examples.task.text))
        ]
        chosen = [[column[row] for row in sample] for column in columns]
        some = Examples.from_texts(examples.task, chosen, experiment.tokenizer, examples.max_length)
        spent = seconds(partial(outputs_of, experiment.model, some))
        total += spent * len(examples) / len(some)
    return total


def _stage(index: int, experiment: Experiment, evaluation_seconds: float) -> StageReport:
    trainer, dev, every, _ = experiment.stage(index)
    draws = trainer.steps * trainer.accumulate
    drawn = Counter(
        task for draw in range(draws) for task in trainer.sampler.draw(draw, draw // trainer.accumulate / trainer.steps)
    )
    passes = {task: drawn[task] / stream.batches_per_pass for task, stream in trainer.streams.items()}
    # where features are cached, they are computed at the first batch and never again
    once = seconds(lambda: [stream.draw() for stream in trainer.streams.values()])
    first_losses = {task: _loss(trainer, stream.draw()) for task, stream in trainer.streams.items()}
    if trainer.objective.model is not experiment.model:
        once += seconds(lambda: evaluate(trainer.objective.model, dev))
        evaluation_seconds = seconds(lambda: evaluate(trainer.objective.model, dev))
    timed = [record.seconds for record in islice(trainer, TIMED)]
    shares = (
        Penalties(trainer).look() if trainer.objective.regularizers else {}
    )  # some weights and distances begin at 0
    per_step = statistics.mean(timed[1:] or timed)
    evaluations = -(-trainer.steps // every)
    learns = {name: p.requires_grad for name, p in experiment.model.named_parameters()}
    trained = sizes_of(experiment.model, {name for name in learns if learns[name]})
    frozen = sizes_of(experiment.model, {name for name in learns if not learns[name]})
    return StageReport(
        index,
        trainer.steps,
        {task: drawn[task] for task in trainer.streams},
        passes,
        first_losses,
        shares,
        sum(trained.values()),
        sum(frozen.values()),
        trained,
        frozen,
        per_step,
        (once + trainer.steps * per_step + evaluations * evaluation_seconds) / 60,
    )


def _loss(trainer: Trainer, batch: Batch) -> float:
    with autocast(trainer.device, trainer.precision):
        return trainer.objective(batch.to(trainer.device), 0.0).terms["loss"]


def _problems(split: SplitReport, experiment: Experiment) -> list[str]:
    where = f"{split.task} {split.split}"
    found = []
    if split.skipped:
        found.append(f"{where}: {len(split.skipped)} bad rows skipped: {'; '.join(split.skipped[:SHOWN])}")
    if split.truncated:
        limit = experiment.sets[split.split][split.task].max_length
        found.append(
            f"{where}: {split.truncated:,} of {split.rows:,} rows are cut to {limit} tokens "
            f"(the longest has {split.longest:,})"
        )
    if split.duplicates:
        found.append(
            f"{where}: {split.duplicates:,} rows repeat the texts of another, "
            f"{split.contradictions:,} with another label"
        )
    if split.overlap:
        found.append(f"{where}: the texts of {split.overlap:,} rows also stand in train")
    absent = experiment.recipe.tasks[split.task].absent(_labels(experiment.sets[split.split][split.task]))
    if absent:
        found.append(f"{where}: no row has the label {', '.join(absent)}")
    return found
