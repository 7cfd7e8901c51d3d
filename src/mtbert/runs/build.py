"""From a checked recipe to objects: data, model and, stage by stage, what trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtbert.data.balancing import balanced
from mtbert.data.batches import Choose, Examples, ExampleSet, Stream
from mtbert.data.samplers.base import Sampler
from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.shared_rows import SharedRows, examples_together
from mtbert.data.tables import Rows
from mtbert.data.taught import TaughtExamples
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, at
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import PRECISIONS, best_device, settled
from mtbert.model.encoder import compute, compute_again
from mtbert.model.ensemble import Answering
from mtbert.model.frozen import AnyModel, FrozenExamples, FrozenModel
from mtbert.model.grown import grown
from mtbert.model.heads.head import BeginsAt, read_apart
from mtbert.model.multitask import MultiTask
from mtbert.model.original import Original
from mtbert.model.parameters.selection import SELECTORS, only_heads, select
from mtbert.model.sources import commit_of
from mtbert.model.world import ALONE, World
from mtbert.recipe.schema import Recipe, Stage
from mtbert.runs.data import UNLABELLED, read_data
from mtbert.runs.folder import BEST, Run
from mtbert.runs.resume import commit_then
from mtbert.runs.teachers import check_own_teachers, check_teachers, taught
from mtbert.schedules import Varied
from mtbert.training.combiners.base import Combiner
from mtbert.training.distillation import Distillation
from mtbert.training.keeping import KeepRule, Measures
from mtbert.training.objective import Objective
from mtbert.training.observers import Observer
from mtbert.training.optimizer import Optimizer
from mtbert.training.trainer import Trainer
from mtbert.training.weightings.base import Weighting


class PreparedStage(NamedTuple):
    """A stage's trainer, what it is judged on, the steps between evaluations, and who looks on."""

    trainer: Trainer
    dev: Mapping[str, ExampleSet]
    evaluate_every: int
    observers: Mapping[str, Observer]


@dataclass(frozen=True)
class Experiment:
    """What a recipe trains, and on what."""

    recipe: Recipe
    model: MultiTask
    tokenizer: Tokenizer
    rows: dict[str, dict[str, Rows]]  # split -> task -> rows as read
    sets: dict[str, dict[str, Examples]]  # split -> task -> examples
    # task -> its training examples and behind them its texts without labels, for the stages that learn from these too
    with_unlabelled: dict[str, SharedRows] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()  # parameters that no stage trains: those of the recipe's base
    commit: str | None = None  # of the hub, where the encoder comes from there
    own_teachers: tuple[str, ...] = ()  # runs, where the recipe has its teachers trained first: once they are there

    @property
    def precision(self) -> str:
        """Of the matrix products in training, on the device where the model is; a name in PRECISIONS."""
        return settled(self.recipe.precision, next(self.model.parameters()).device)

    @property
    def read_apart(self) -> dict[tuple[str, str], Examples]:
        """The sets, by split and task, whose texts the original encoder reads too, for features beside the vector."""
        asked = read_apart(self.model.tasks.values())
        return {
            (split, task): by_task[task] for split, by_task in self.sets.items() for task in asked if task in by_task
        }

    def taught_in(self, run: Run) -> Experiment:
        """The experiment whose own teachers, where the recipe asks for some, are those of this run."""
        numbers = range(1, self.recipe.own_teachers + 1)
        return replace(self, own_teachers=tuple(str(run.teacher(number)) for number in numbers))

    def stage(self, index: int, world: World = ALONE) -> PreparedStage:
        """A stage of the unrolled recipe, ready for its first step; raises Mistake where its parts do not fit together.

        Nothing is copied until the stage begins, so that a look at a later stage costs little.
        """
        entry, stage = self.recipe.unrolled()[index]
        with self.recipe.lines(), at("stages", entry):
            learning = self._select(stage)
            model, sets = self._model_and_sets(stage, learning)
            seed = self.recipe.seed + index
            trainer = self._trainer(stage, model, sets["train"], learning, seed=seed, world=world)
            with at("observe"):
                observers = {one.name: one.make(trainer) for one in stage.observe}
            return PreparedStage(trainer, sets["dev"], stage.evaluate_every or trainer.epoch, observers)

    def keep_rule(
        self, stage: Stage, *, kept: Measures | None, baseline: Measures | None, tasks: Sequence[str]
    ) -> KeepRule:
        """What judges the evaluations of a stage of the recipe."""
        return stage.keep.make(kept, baseline, tasks, self.recipe.keep)

    def _select(self, stage: Stage) -> list[str]:
        """Freeze what the stage does not train; the names of the parameters that learn."""
        with at("train"):
            parts = [part.make(self.model.encoder.shape) for part in stage.train]
            learning = select(self.model, parts, self.frozen)
            self._check_learning(stage)
        return learning

    def _model_and_sets(
        self, stage: Stage, learning: Sequence[str]
    ) -> tuple[AnyModel, Mapping[str, Mapping[str, ExampleSet]]]:
        """The model and its examples; where only heads learn, the heads alone and the features that they read."""
        words = any(task.reads_words for task in self.recipe.tasks.values())  # whose features are too many to hold
        if words or not (stage.cache_features and only_heads(learning) and not stage.regularizers):
            return self.model, self.sets
        return FrozenModel(self.model), {
            split: {task: FrozenExamples(examples, self.model) for task, examples in by_task.items()}
            for split, by_task in self.sets.items()
        }

    def _trainer(
        self,
        stage: Stage,
        model: AnyModel,
        examples: Mapping[str, ExampleSet],
        learning: Sequence[str],
        *,
        seed: int,
        world: World,
    ) -> Trainer:
        chosen: dict[str, ExampleSet] = {task: examples[task] for task in stage.tasks or self.recipe.tasks}
        rows = {task: len(own) for task, own in chosen.items()}
        unlabelled = {task: len(some) for task, some in self.sets.get(UNLABELLED, {}).items()}
        sampler = stage_sampler(self.recipe, stage, rows, unlabelled, seed)
        chosen |= self._unlabelled_too(stage, model, sampler, chosen)
        if sampler.by_rows:
            with at("sampler"):
                chosen = self._shared_rows(model, chosen, world)
                sampler = stage.sampler.make({task: len(own) for task, own in chosen.items()}, stage.batch_size, seed)
        chosen, distillation = self._taught(stage, chosen)
        streams = {
            task: Stream(
                own,
                sampler.batch_sizes[task],
                (seed, 0 if sampler.by_rows else number),
                sampler.examples[task],
                sampler.kept_parts.get(task),
                self.recipe.tasks[task].trained_in_both_orders,
                _balancing(own),
            )
            for number, (task, own) in enumerate(chosen.items())
        }
        weighting = self._weighting(stage, list(chosen))
        objective = self._objective(stage, model, weighting, stage.divisors(chosen), distillation)
        optimizer = self._optimizer(stage, learning, weighting)
        length = stage_length(stage, sampler)
        return Trainer(
            objective,
            optimizer=optimizer,
            schedule=stage.schedule.make(),
            sampler=sampler,
            streams=streams,
            combiner=self._combiner(stage, sampler),
            steps=length.steps,
            epoch=length.epoch,
            clip=stage.clip,
            accumulate=stage.accumulate,
            precision=PRECISIONS[self.precision],
            average=stage.average.make(),
            world=world,
        )

    def _unlabelled_too(
        self, stage: Stage, model: AnyModel, sampler: Sampler, tasks: Iterable[str]
    ) -> dict[str, SharedRows]:
        """The sets of those tasks of the stage that have texts without labels too, where it learns from them."""
        if stage.distill is None:
            return {}
        found = {task: self.with_unlabelled[task] for task in tasks if task in self.with_unlabelled}
        with at("distill"):
            for task in found:
                said = f"the `unlabelled` texts of task '{task}'"
                if not isinstance(model, MultiTask):
                    raise Mistake(f"{said} need the encoder, not features computed once: set `cache_features: false`")
                if sampler.by_rows:
                    raise Mistake(f"{said} stand in no row of the file that '{stage.sampler.name}' draws: take 'joint'")
                if self.recipe.tasks[task].balance:
                    raise Mistake(f"{said} have no class that `balance` could draw them by: take `class_weights`")
        return found

    def _shared_rows(self, model: AnyModel, chosen: Mapping[str, ExampleSet], world: World) -> dict[str, ExampleSet]:
        """The tasks' views of the rows that they all read; raises Mistake where they cannot share them."""
        said = "sampler 'joint_rows'"
        if not isinstance(model, MultiTask):
            raise Mistake(f"{said} needs the encoder, not features computed once: set `cache_features: false`")
        if world.size > 1:
            raise Mistake(f"{said} trains in one process, and {world.size} train here: take 'joint'")
        sets = {task: own for task, own in chosen.items() if isinstance(own, Examples)}
        return dict(SharedRows.of(sets, self.tokenizer, model.encoder.shape.positions, model.apart(sets)))

    def _weighting(self, stage: Stage, tasks: Sequence[str]) -> Weighting:
        last_shared = [p for p in self.model.encoder.layers[-1].parameters() if p.requires_grad]
        with at("weighting"):
            return stage.weighting.make({task: self.recipe.tasks[task] for task in tasks}, last_shared)

    def _objective(
        self,
        stage: Stage,
        model: AnyModel,
        weighting: Weighting,
        divisors: Mapping[str, int],
        distillation: Distillation | None,
    ) -> Objective:
        with at("regularizers"):
            regularizers = {one.name: one.make() for one in stage.regularizers}
            return Objective(model, regularizers, weighting, divisors, distillation)

    def _taught(self, stage: Stage, sets: dict[str, ExampleSet]) -> tuple[dict[str, ExampleSet], Distillation | None]:
        """The stage's sets with what its teachers say of them, who are asked once, when it begins, and what it learns
        from that; nothing of the sort before they are trained.
        """
        teachers = self._teachers(stage, sets)
        if stage.distill is None or not teachers:
            return sets, None
        precision = PRECISIONS[self.precision]
        said = cache(partial(taught, teachers, sets, self.tokenizer, self.model.original, precision))

        def of(task: str) -> Callable[[], Tensor]:
            return lambda: said()[task]

        found: dict[str, ExampleSet] = {task: TaughtExamples(own, of(task)) for task, own in sets.items()}
        return found, Distillation(said, Varied(stage.distill.share), stage.distill.temperature)

    def _teachers(self, stage: Stage, names: Iterable[str]) -> tuple[str, ...]:
        """The runs from which the stage learns to do these tasks, as far as they are there."""
        if stage.distill is None:
            return ()
        tasks, teachers = {name: self.recipe.tasks[name] for name in names}, stage.distill.teachers
        with at("distill", "teachers"):
            if isinstance(teachers, int):
                check_own_teachers(tasks)
                return self.own_teachers[:teachers]
            check_teachers(teachers, tasks)
            return teachers

    def _optimizer(self, stage: Stage, learning: Sequence[str], weighting: Weighting) -> Optimizer:
        parameters = dict(self.model.named_parameters())
        learned = {name: parameters[name] for name in learning}
        learned |= {f"weighting.{name}": p for name, p in weighting.parameters().items()}
        with at("optimizer"):
            return stage.optimizer.make(learned.items())

    def _check_learning(self, stage: Stage) -> None:
        tasks = stage.tasks or self.recipe.tasks
        able = [task for task in tasks if self._learns(task)]
        if len(able) < len(tasks):
            idle = ", ".join(task for task in tasks if task not in able)
            remedy = f"limit the stage to `tasks: [{', '.join(able)}]`, or " if able else ""
            raise Mistake(
                f"{', '.join(part.name for part in stage.train)} leaves nothing to train for {idle}; "
                f"{remedy}train more (valid: {', '.join(SELECTORS)})"
            )

    def _learns(self, task: str) -> bool:
        """Whether a task's loss reaches a parameter that learns."""
        holders = [self.model.encoder, self.model.heads[task], *self.model.modules_by_task.holders(task)]
        return any(p.requires_grad for holder in holders for p in holder.parameters())

    def _combiner(self, stage: Stage, sampler: Sampler) -> Combiner:
        with at("combiner"):
            combiner = stage.combiner.make()
            if combiner.needs_several and not sampler.several and stage.accumulate == 1:
                several = [name for name in SAMPLERS if getattr(SAMPLERS[name], "several", False)]
                raise Mistake(
                    f"'{stage.combiner.name}' combines the gradients of several tasks, and a step of sampler "
                    f"'{stage.sampler.name}' has one; samplers with several: {', '.join(several) or 'none'}; "
                    "or let `accumulate` batches feed a step"
                )
            return combiner


def _balancing(own: ExampleSet) -> Choose | None:
    """How a pass over a task's rows draws its classes, where not as they are."""
    if not own.task.balance or own.labels is None:
        return None
    return partial(balanced, classes=own.task.strata(own.labels), balance=own.task.balance)


class StageLength(NamedTuple):
    """How many optimiser steps a stage takes, and how many of them are an epoch."""

    steps: int
    epoch: int


def stage_sampler(
    recipe: Recipe, stage: Stage, rows: Mapping[str, int], unlabelled: Mapping[str, int], seed: int
) -> Sampler:
    """The sampler of a stage whose tasks have so many training rows, and so many texts without labels."""
    sizes = {task: min(count, recipe.tasks[task].at_most("train") or count) for task, count in rows.items()}
    if stage.distill is not None:
        sizes = {task: size + unlabelled.get(task, 0) for task, size in sizes.items()}
    with at("sampler"):
        return stage.sampler.make(sizes, stage.batch_size, seed)


def stage_length(stage: Stage, sampler: Sampler) -> StageLength:
    """The length of a stage that draws with this sampler; an epoch for one of `minutes`, until that is settled."""
    epoch = stage.steps_per_epoch or -(-sampler.steps_per_epoch // stage.accumulate)
    return StageLength(stage.steps or max(1, round((stage.epochs or 1) * epoch)), epoch)


def build(recipe: Recipe, commit: str | None = None, looked_at: Sequence[str] = ()) -> Experiment:
    """Read the data and make the model; nothing is written. Raises Mistake for whatever the data or encoder lack.

    The head of every task that is to be learned begins where its training labels are, and the experiment's recipe has
    the classes and ranges that the given one leaves to the data. An encoder from the hub is read at `commit`, or at the
    commit that its revision now means. Splits that are only `looked_at` are read for the mistakes in them.
    """
    torch.manual_seed(recipe.seed)
    recipe, rows = read_data(recipe, recipe.learned, ["train", "dev", UNLABELLED], looked_at)
    with recipe.lines():
        if recipe.base is None:
            commit = commit or commit_of(recipe.encoder.name, recipe.encoder.options)
        model, tokenizer, frozen = _model(recipe, commit)
        for task, read in rows["train"].items():
            _begin(model, task, read)
    model.encoder.run = compute_again if recipe.recompute else compute
    sets = examples_of(model, rows, tokenizer)
    joined = {
        task: SharedRows.with_unlabelled(sets["train"][task], some, tokenizer, model.encoder.shape.positions)
        for task, some in sets.get(UNLABELLED, {}).items()
    }
    return Experiment(recipe, model.to(best_device()), tokenizer, rows, sets, joined, frozen, commit)


def _model(recipe: Recipe, commit: str | None) -> tuple[MultiTask, Tokenizer, frozenset[str]]:
    """The model that training begins with, and the names in it that are frozen for good."""
    tasks = list(recipe.tasks.values())
    if recipe.base is None:
        encoder, tokenizer = recipe.encoder.maker(**_pinned(recipe, commit))
        original = Original(deepcopy(encoder), tokenizer) if read_apart(tasks) else None
        return MultiTask(encoder, tasks, recipe.modules, original), tokenizer, frozenset()
    run = Run.open(recipe.base.run)
    base, tokenizer = load_model(run.part(BEST))
    if list(base.tasks) != list(recipe.base.tasks):
        said = f"{', '.join(base.tasks)}, not {', '.join(recipe.base.tasks)}"
        raise Mistake(f"the model of base {recipe.base.run} has the tasks {said}")
    original = base.original
    if original is None and read_apart(tasks):
        pinned = _pinned(recipe, commit_then(run))
        original = Original(*recipe.encoder.maker(**pinned))
    return grown(base, tasks, recipe.modules, original), tokenizer, frozenset(base.state_dict())


def _pinned(recipe: Recipe, commit: str | None) -> dict[str, Any]:
    """The options of a recipe's encoder, which comes from this commit of the hub where one is given."""
    pinned = {"revision": commit} if commit is not None and "revision" in recipe.encoder.options else {}
    return {**recipe.encoder.options, **pinned}


def _begin(model: MultiTask, task: str, rows: Rows) -> None:
    head = model.heads[task]
    if rows.labels is None:
        return
    with at("tasks", task, "class_weights"):
        model.tasks[task].learn_from(rows.labels)
    if isinstance(head, BeginsAt):
        head.begin_at(model.tasks[task].constant_outputs(rows.labels))


def examples_of(
    model: Answering, rows: Mapping[str, Mapping[str, Rows]], tokenizer: Tokenizer
) -> dict[str, dict[str, Examples]]:
    """The examples of the model's tasks in these rows, split by split."""
    positions = model.encoder.shape.positions
    return {
        split: examples_together(
            {name: (model.tasks[name], read) for name, read in by_task.items()},
            tokenizer,
            positions,
            lambda name: model.apart([name]),
        )
        for split, by_task in rows.items()
    }
