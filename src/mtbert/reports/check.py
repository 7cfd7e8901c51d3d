"""The dry run: what a recipe would read, train and cost, and what looks wrong, before anything is written."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import RenderableType

from mtbert.cost import peak_memory_gib, seconds
from mtbert.data.batches import Batch, Examples
from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels, same
from mtbert.data.tables import Rows
from mtbert.model.devices import autocast
from mtbert.model.parameters.description import sizes_of
from mtbert.reports.base import Report, count, grid, listed, plain
from mtbert.reports.vocabulary import coverage
from mtbert.runs.allowance import Allowance
from mtbert.runs.build import Experiment
from mtbert.scoring.evaluation import evaluate, outputs_of
from mtbert.training.observers import Penalties
from mtbert.training.pace import Pace
from mtbert.training.trainer import Trainer

SHOWN = 3  # parsed examples of each task
LISTED = 20  # names in a line
UNKNOWN = 0.01  # the share of unknown tokens that is a problem by itself
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
    learned_elsewhere: dict[str, int]  # another task -> rows of dev with a text that stands in its train
    unknown: float  # share of the tokens that the vocabulary does not know
    alike: int  # different texts with the tokens of another
    blurred: int  # of these, with unknown tokens


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
    allowed: float | None = None  # minutes, of a stage whose steps are as many as fit into them


@dataclass(frozen=True)
class BesideReport:
    """What the features beside the vector cost: a frozen copy of the encoder, which reads each text by itself."""

    tasks: list[str]
    parameters: int
    texts: int  # of train and dev, read once before training
    seconds: float

    @property
    def said(self) -> str:
        tasks, megabytes = ", ".join(self.tasks), 4 * self.parameters / 1e6
        return (
            f"beside the vector of {tasks}: a frozen copy of the encoder, {self.parameters:,} parameters, "
            f"{megabytes:,.0f} MB more in the saved model; it has read {count(self.texts, 'text')} in "
            f"{self.seconds:.1f} seconds, as it will before training, and reads those of every prediction"
        )


@dataclass(frozen=True)
class CheckReport(Report):
    """Everything `mtbert check` says."""

    splits: list[SplitReport]
    stages: list[StageReport]
    peak_memory_gib: float | None  # None where the system does not keep count
    problems: list[str]
    beside: BesideReport | None = None  # where heads read features beside the vector

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        for split in self.splits:
            yield from _split_shown(split)
        for stage in self.stages:
            yield from _stage_shown(stage)
        if self.beside is not None:
            yield plain(self.beside.said)
        if self.peak_memory_gib is not None:
            yield plain(f"peak memory of these steps: {self.peak_memory_gib:.1f} GiB")
        yield from (plain(f"problem: {problem}") for problem in self.problems)
        if not self.problems:
            yield plain("no problems found")


def check(experiment: Experiment) -> CheckReport:
    """Look at the data, and take a few timed steps of every stage on a model that is then thrown away."""
    splits = _splits(experiment)
    beside = _beside(experiment)
    evaluation = _evaluation_seconds(experiment)
    stages = [_stage(index, experiment, evaluation) for index in range(len(experiment.recipe.unrolled()))]
    problems = [problem for split in splits for problem in _problems(split, experiment)]
    return CheckReport(splits, stages, peak_memory_gib(), problems, beside)


def _beside(experiment: Experiment) -> BesideReport | None:
    """Have the original encoder read what it will, so that no stage counts that again."""
    original, sets = experiment.model.original, experiment.read_apart
    if original is None or not sets:
        return None
    spent = seconds(lambda: [examples.vectors() for examples in sets])
    texts = sum(len(examples) * len(examples.task.text) for examples in sets)
    return BesideReport(sorted({examples.task.name for examples in sets}), original.parameters, texts, spent)


def problems_of_data(experiment: Experiment) -> list[str]:
    """What looks wrong with the rows of an experiment, nothing trained."""
    return [problem for split in _splits(experiment) for problem in _problems(split, experiment)]


def _splits(experiment: Experiment) -> list[SplitReport]:
    tasks = [experiment.recipe.tasks[name] for name in experiment.recipe.learned]
    return [_split(task, split, experiment) for split in experiment.sets for task in tasks]


def _split(task: Task, split: str, experiment: Experiment) -> SplitReport:
    rows, examples = experiment.rows[split][task.name], experiment.sets[split][task.name]
    repeated = _repeated(rows, _labels(examples))
    covered = coverage(rows.texts, examples.tokens, experiment.tokenizer.unknown)
    first = zip(*(column.slice(0, SHOWN).to_pylist() for column in rows.texts), strict=True)
    return SplitReport(
        task=task.name,
        split=split,
        rows=len(rows),
        skipped=rows.skipped,
        examples=[(texts, str(task.say(label))) for texts, label in zip(first, _labels(examples)[:SHOWN], strict=True)],
        labels=task.describe_labels(_labels(examples)),
        mean_length=float(examples.lengths.mean()),
        longest=int(examples.full_lengths.max()),
        truncated=int((examples.full_lengths > examples.lengths).sum()),
        duplicates=repeated.duplicates,
        contradictions=repeated.contradictions,
        overlap=_overlap(rows, experiment.rows["train"][task.name]) if split != "train" else 0,
        learned_elsewhere=_learned_elsewhere(task.name, rows, experiment.rows["train"]) if split != "train" else {},
        unknown=covered.unknown,
        alike=covered.alike,
        blurred=covered.blurred,
    )


def _labels(examples: Examples) -> Labels:
    assert examples.labels is not None  # check reads labelled splits only
    return examples.labels


class Repeated(NamedTuple):
    """Rows whose texts stood in an earlier row, and how many of them have another label than its first."""

    duplicates: int
    contradictions: int


def _repeated(rows: Rows, labels: Labels) -> Repeated:
    codes = _joined(rows).dictionary_encode().combine_chunks().indices.to_numpy()
    distinct, first = np.unique(codes, return_index=True)
    alike = same(labels, labels[first[np.searchsorted(distinct, codes)]])
    return Repeated(len(codes) - len(distinct), int((~alike).sum()))


def _overlap(rows: Rows, learned: Rows) -> int:
    """The rows whose texts also stand among those that are learned from."""
    found = pc.is_in(_joined(rows), value_set=_joined(learned).unique())
    return int(pc.sum(found).as_py() or 0)


def _learned_elsewhere(task: str, rows: Rows, learned: Mapping[str, Rows]) -> dict[str, int]:
    """Other tasks that learn from texts of these rows, with how many rows have such a text."""
    counts = {}
    for name, others in learned.items():
        if name != task:
            known = pa.chunked_array(
                [chunk for column in others.texts for chunk in column.chunks], pa.string()
            ).unique()
            found = np.any([pc.is_in(column, value_set=known).to_numpy() for column in rows.texts], axis=0)
            counts[name] = int(found.sum())
    return {name: count for name, count in counts.items() if count}


def _joined(rows: Rows) -> pa.ChunkedArray:
    """The texts of each row as one, in Arrow's memory; a pair keeps a mark between its two."""
    columns = [pc.cast(column, pa.large_string()) for column in rows.texts]
    if len(columns) == 1:
        return columns[0]
    mark = pa.scalar("\x1f", pa.large_string())  # the unit separator, which no text holds
    return pc.binary_join_element_wise(*columns, mark)


def _evaluation_seconds(experiment: Experiment) -> float:
    """How long one evaluation of all dev sets takes, judged by a sample of each."""
    total = 0.0
    for task, examples in experiment.sets["dev"].items():
        sample = np.linspace(0, len(examples) - 1, min(128, len(examples))).astype(int)
        chosen = experiment.rows["dev"][task].take(sample).given
        apart = experiment.model.apart([task])
        some = Examples.from_texts(examples.task, chosen, experiment.tokenizer, examples.max_length, apart=apart)
        some.vectors()
        spent = seconds(partial(outputs_of, experiment.model, some))
        total += spent * len(examples) / len(some)
    return total


class Draws(NamedTuple):
    """How often a stage draws from each task."""

    batches: dict[str, int]
    passes: dict[str, float]  # how often each example is seen


class Seconds(NamedTuple):
    """What a stage takes."""

    once: float  # where features are cached, they are computed at the first batch and never again
    step: float
    evaluation: float


def _stage(index: int, experiment: Experiment, evaluation_seconds: float) -> StageReport:
    trainer, dev, every, _ = experiment.stage(index)
    trainer.begin()
    allowed = experiment.recipe.unrolled()[index][1].minutes
    once = seconds(lambda: [stream.draw() for stream in trainer.streams.values()])
    if trainer.objective.model is not experiment.model:
        once += seconds(lambda: evaluate(trainer.objective.model, dev))
        evaluation_seconds = seconds(lambda: evaluate(trainer.objective.model, dev))
    first_losses = {task: _loss(trainer, stream.draw()) for task, stream in trainer.streams.items()}
    timed = [record.seconds for record in islice(trainer, TIMED)]
    spent = Seconds(once, statistics.mean(timed[1:] or timed), evaluation_seconds)
    if allowed is not None:
        allowance = Allowance(60 * allowed, every, spent=once)
        allowance.tried([spent.step], spent.evaluation)
        trainer.pace = Pace(allowance.steps(0))
    draws = _draws(trainer)
    # after some steps: the weights of some penalties, and the distances of others, begin at 0
    shares = Penalties(trainer).look() if trainer.objective.regularizers else {}
    learns = {name: p.requires_grad for name, p in experiment.model.named_parameters()}
    trained = sizes_of(experiment.model, {name for name in learns if learns[name]})
    frozen = sizes_of(experiment.model, {name for name in learns if not learns[name]})
    evaluations = -(-trainer.steps // every)
    return StageReport(
        stage=index,
        steps=trainer.steps,
        batches=draws.batches,
        passes=draws.passes,
        first_losses=first_losses,
        gradient_shares=shares,
        trained=sum(trained.values()),
        frozen=sum(frozen.values()),
        trained_parts=trained,
        frozen_parts=frozen,
        seconds_per_step=spent.step,
        minutes=(spent.once + trainer.steps * spent.step + evaluations * spent.evaluation) / 60,
        allowed=allowed,
    )


def _draws(trainer: Trainer) -> Draws:
    draws = range(trainer.steps * trainer.accumulate)
    drawn = Counter(
        task for draw in draws for task in trainer.sampler.draw(draw, draw // trainer.accumulate / trainer.steps)
    )
    passes = {task: drawn[task] / stream.batches_per_pass for task, stream in trainer.streams.items()}
    return Draws({task: drawn[task] for task in trainer.streams}, passes)


def _loss(trainer: Trainer, batch: Batch) -> float:
    with autocast(trainer.device, trainer.precision):
        return trainer.objective(batch.to(trainer.device), 0.0).terms["loss"]


def _problems(split: SplitReport, experiment: Experiment) -> list[str]:
    where = f"{split.task} {split.split}"
    found = []
    if split.skipped:
        rows = count(len(split.skipped), "bad row")
        found.append(f"{where}: {rows} skipped: {'; '.join(split.skipped[:SHOWN])}")
    if split.truncated:
        limit = experiment.sets[split.split][split.task].max_length
        found.append(
            f"{where}: {split.truncated:,} of {count(split.rows, 'row')} {_is(split.truncated)} cut to {limit} tokens "
            f"(the longest has {split.longest:,})"
        )
    if split.duplicates:
        found.append(
            f"{where}: {count(split.duplicates, 'row')} {'repeats' if split.duplicates == 1 else 'repeat'} the texts "
            f"of another, {split.contradictions:,} with another label"
        )
    if split.overlap:
        found.append(f"{where}: the texts of {count(split.overlap, 'row')} also stand in train")
    found += [
        f"{where}: {count(rows, 'row')} of {split.rows:,} with a text that task '{other}' is trained on"
        for other, rows in split.learned_elsewhere.items()
    ]
    if split.split == "train":
        found += [f"{split.task}: {oddity}" for oddity in experiment.recipe.tasks[split.task].oddities()]
    if split.blurred or split.unknown >= UNKNOWN:
        found.append(
            f"{where}: the vocabulary does not know {split.unknown:.2%} of the tokens; "
            f"{count(split.blurred, 'text')} with such tokens {'has' if split.blurred == 1 else 'have'} the same "
            "tokens as another text"
        )
    absent = experiment.recipe.tasks[split.task].absent(_labels(experiment.sets[split.split][split.task]))
    if absent:
        found.append(f"{where}: no row has the label {listed(absent, LISTED)}")
    return found


def _split_shown(split: SplitReport) -> Iterable[RenderableType]:
    yield plain(
        f"{split.task} {split.split}: {count(split.rows, 'row')}; {split.mean_length:.0f} tokens a sequence, "
        f"{split.longest:,} in the longest\n  labels: {split.labels}\n"
        f"  tokens unknown to the vocabulary: {split.unknown:.2%}; different texts with equal tokens: {split.alike:,}"
    )
    for texts, label in split.examples:
        yield plain(f"  {label} <- " + " | ".join(_short(text) for text in texts))


def _stage_shown(stage: StageReport) -> Iterable[RenderableType]:
    fit = "" if stage.allowed is None else f", as many as fit into {stage.allowed:g} minutes here and now"
    yield plain(f"stage {stage.stage}: {count(stage.steps, 'step')}{fit}")
    cells = [
        [f"{stage.batches[task]:,}", f"{times:.2f}", f"{stage.first_losses[task]:.3f}"]
        for task, times in stage.passes.items()
    ]
    yield grid("  task", ["batches", "passes over it", "first loss"], [f"  {task}" for task in stage.passes], cells)
    yield plain(f"  trains: {_parts(stage.trained_parts)}; frozen: {_parts(stage.frozen_parts)}")
    for task, terms in stage.gradient_shares.items():
        yield plain(f"  gradient of {task}: " + ", ".join(f"{term} {share:.1%}" for term, share in terms.items()))
    yield plain(f"  about {stage.seconds_per_step * 1000:.0f} ms a step, {stage.minutes:.1f} minutes with evaluations")


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _parts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{part} ({size:,})" for part, size in sizes.items()) or "nothing"


def _short(text: str, room: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= room else line[: room - 1] + "…"
