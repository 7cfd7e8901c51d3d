"""The dry run: what a recipe would read, train and cost, and what looks wrong, before anything is written."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType

from mtbert.cost import peak_memory_gib, seconds
from mtbert.data.batches import Batch, Examples
from mtbert.data.tables import Rows
from mtbert.model.devices import autocast
from mtbert.model.parameters.description import sizes_of
from mtbert.reports.base import Report, count, grid, plain
from mtbert.reports.sights.base import Look, Looks, Sight
from mtbert.reports.sights.prints import of_rows, of_texts
from mtbert.reports.sights.table import seen
from mtbert.runs.allowance import Allowance
from mtbert.runs.build import Experiment
from mtbert.runs.data import UNLABELLED
from mtbert.scoring.evaluation import evaluate, outputs_of
from mtbert.training.observers import Penalties
from mtbert.training.pace import Pace
from mtbert.training.trainer import Trainer

SHOWN = 3  # parsed examples of each task
FEW = 6  # tasks of which a person is shown every split and example; of more, a table and an example each
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
    sights: list[Sight]


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
    texts: int  # of all that is trained and judged on, read once before training
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
    beside: BesideReport | None = None  # where heads read features beside the vector
    teachers: int = 0  # that are trained first, each as long as all stages together

    @property
    def sights(self) -> list[Sight]:
        """What was seen in the rows, worth knowing or wrong."""
        return [sight for split in self.splits for sight in split.sights]

    @property
    def problems(self) -> list[str]:
        """What looks wrong, a line each."""
        return [str(sight) for sight in self.sights if sight.problem] + self.idle

    @property
    def idle(self) -> list[str]:
        """What is said of tasks of which no stage draws a batch, a line each."""
        drawn = Counter[str]()
        for stage in self.stages:
            drawn.update(stage.batches)
        return [
            f"{task}: no stage draws a batch of it, so that it is not trained: take more steps, or another sampler"
            for task, batches in drawn.items()
            if not batches
        ]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "problems": self.problems}

    def shown(self) -> Iterable[RenderableType]:
        few = len({split.task for split in self.splits}) <= FEW
        if not few:
            yield _splits_shown(self.splits)
        for split in self.splits:
            yield from _split_shown(split) if few else _labels_shown(split)
        for stage in self.stages:
            yield from _stage_shown(stage)
        if self.teachers:
            minutes = self.teachers * sum(stage.minutes for stage in self.stages)
            yield plain(f"before that {count(self.teachers, 'teacher')}, each as long: {minutes:.1f} minutes more")
        if self.beside is not None:
            yield plain(self.beside.said)
        if self.peak_memory_gib is not None:
            yield plain(f"peak memory of these steps: {self.peak_memory_gib:.1f} GiB")
        yield from _sights_shown(self.sights, SHOWN if few else 1)
        yield from (plain(f"problem: {line}") for line in self.idle)
        if not self.problems:
            yield plain("no problems found")


def check(experiment: Experiment) -> CheckReport:
    """Look at the data, and take a few timed steps of every stage on a model that is then thrown away."""
    splits, beside = _splits(experiment), _beside(experiment)
    return CheckReport(splits, _stages(experiment), peak_memory_gib(), beside, experiment.recipe.own_teachers)


def costs(experiment: Experiment) -> list[StageReport]:
    """What every stage takes alone, the rows not looked at."""
    _beside(experiment)
    return _stages(experiment)


def _stages(experiment: Experiment) -> list[StageReport]:
    evaluation = _evaluation_seconds(experiment)
    return [_stage(index, experiment, evaluation) for index in range(len(experiment.recipe.unrolled()))]


def _beside(experiment: Experiment) -> BesideReport | None:
    """Have the original encoder read what it will, so that no stage counts that again."""
    original, sets = experiment.model.original, list(experiment.read_apart.values())
    if original is None or not sets:
        return None
    spent = seconds(lambda: [examples.vectors() for examples in sets])
    texts = sum(len(examples) * len(examples.task.text) for examples in sets)
    return BesideReport(sorted({examples.task.name for examples in sets}), original.parameters, texts, spent)


def sights_of(experiment: Experiment) -> list[Sight]:
    """What is seen in the rows of an experiment, nothing trained."""
    return seen(_looks(experiment))


def _looks(experiment: Experiment) -> Looks:
    rows, unknown = experiment.rows, experiment.tokenizer.unknown
    tasks = [experiment.recipe.tasks[name] for name in experiment.recipe.learned]
    return Looks(
        {
            split: {task.name: Look(task, split, rows[split][task.name], sets[task.name], unknown) for task in tasks}
            for split, sets in experiment.sets.items()
            if split != UNLABELLED
        },
        {task: of_rows([*map(of_texts, read.texts)]) for task, read in rows.get(UNLABELLED, {}).items()},
    )


def _splits(experiment: Experiment) -> list[SplitReport]:
    looks = _looks(experiment)
    sights = seen(looks)
    unlabelled = experiment.sets.get(UNLABELLED, {})
    return [
        *(
            _labelled(look, [one for one in sights if (one.split, one.task) == (look.split, look.task.name)])
            for look in looks
        ),
        *(_split(examples, UNLABELLED, experiment.rows[UNLABELLED][task]) for task, examples in unlabelled.items()),
    ]


def _labelled(look: Look, sights: list[Sight]) -> SplitReport:
    return replace(
        _split(look.examples, look.split, look.rows, [str(look.task.say(label)) for label in look.labels[:SHOWN]]),
        labels=look.task.describe_labels(look.labels),
        sights=sights,
    )


def _split(examples: Examples, split: str, rows: Rows, labels: Sequence[str] = ("?",) * SHOWN) -> SplitReport:
    first = zip(*(column.slice(0, SHOWN).to_pylist() for column in rows.texts), strict=True)
    return SplitReport(
        task=examples.task.name,
        split=split,
        rows=len(rows),
        skipped=rows.skipped,
        examples=list(zip(first, labels, strict=False)),
        labels="none, but what teachers say",
        mean_length=float(examples.lengths.mean()),
        longest=int(examples.full_lengths.max()),
        sights=[],
    )


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


def _splits_shown(splits: Sequence[SplitReport]) -> RenderableType:
    cells = [[f"{one.rows:,}", f"{one.mean_length:.0f}", f"{one.longest:,}"] for one in splits]
    return grid("task", ["rows", "mean tokens", "longest"], [f"{one.task} {one.split}" for one in splits], cells)


def _labels_shown(split: SplitReport) -> Iterable[RenderableType]:
    if split.split == "train":
        texts, label = split.examples[0]
        yield plain(f"{split.task}: {split.labels}\n  {label} <- " + " | ".join(_short(text) for text in texts))


def _split_shown(split: SplitReport) -> Iterable[RenderableType]:
    yield plain(
        f"{split.task} {split.split}: {count(split.rows, 'row')}; {split.mean_length:.0f} tokens a sequence, "
        f"{split.longest:,} in the longest\n  labels: {split.labels}"
    )
    for texts, label in split.examples:
        yield plain(f"  {label} <- " + " | ".join(_short(text) for text in texts))


def _stage_shown(stage: StageReport) -> Iterable[RenderableType]:
    fit = "" if stage.allowed is None else f", as many as fit into {stage.allowed:g} minutes here and now"
    yield plain(f"stage {stage.stage}: {count(stage.steps, 'step')}{fit}")
    cells = [
        [f"{stage.batches[task]:,}", f"{times:z.2f}", f"{stage.first_losses[task]:z.3f}"]
        for task, times in stage.passes.items()
    ]
    yield grid("  task", ["batches", "passes over it", "first loss"], [f"  {task}" for task in stage.passes], cells)
    yield plain(f"  trains: {_parts(stage.trained_parts)}; frozen: {_parts(stage.frozen_parts)}")
    for task, terms in stage.gradient_shares.items():
        yield plain(f"  gradient of {task}: " + ", ".join(f"{term} {share:.1%}" for term, share in terms.items()))
    yield plain(f"  about {stage.seconds_per_step * 1000:.0f} ms a step, {stage.minutes:.1f} minutes with evaluations")


def _sights_shown(sights: Sequence[Sight], examples: int) -> Iterable[RenderableType]:
    """What was seen of one sort together, its remedy said once: problems first, then what is worth knowing."""
    for problem, word in ((True, "problem"), (False, "note")):
        of_word = [sight for sight in sights if sight.problem == problem]
        for what in dict.fromkeys(sight.what for sight in of_word):
            alike = [sight for sight in of_word if sight.what == what]
            yield plain(f"{word}: {what}")
            for sight in alike:
                yield plain(f"  {sight}")
                for example in sight.examples[:examples]:
                    yield plain("\n".join(f"    {line}" for line in example.split("\n")))
            for remedy in dict.fromkeys(sight.remedy for sight in alike):
                yield plain(f"  remedy: {remedy}")


def _parts(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{part} ({size:,})" for part, size in sizes.items()) or "nothing"


def _short(text: str, room: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= room else line[: room - 1] + "…"
