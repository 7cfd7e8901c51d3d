"""Where a recipe becomes objects: data, model and, stage by stage, what trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mtbert.data.batches import Examples, ExampleSet, Stream
from mtbert.data.perturbation import perturbed
from mtbert.data.samplers.base import Sampler
from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.tables import Rows, read_rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, at, unknown
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import PRECISIONS, best_device, settled
from mtbert.model.encoder import compute, compute_again
from mtbert.model.frozen import AnyModel, FrozenExamples, FrozenModel
from mtbert.model.grown import grown
from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.selection import SELECTORS, only_heads, select
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe, Stage
from mtbert.runs.folder import BEST, RECIPE, Run
from mtbert.scoring.evaluation import Scores, evaluate
from mtbert.training.combiners.base import Combiner
from mtbert.training.objective import Objective
from mtbert.training.observers import Observer
from mtbert.training.trainer import Trainer


class PreparedStage(NamedTuple):
    """A stage's trainer, what it is judged on, the steps between evaluations, and who looks on."""

    trainer: Trainer
    dev: Mapping[str, ExampleSet]
    evaluate_every: int
    observers: Mapping[str, Observer]


@dataclass(frozen=True)
class Experiment:
    """A recipe's objects: what is trained, and on what."""

    recipe: Recipe
    model: MultiTask
    tokenizer: Tokenizer
    rows: dict[str, dict[str, Rows]]  # split -> task -> rows as read
    sets: dict[str, dict[str, Examples]]  # split -> task -> examples
    frozen: frozenset[str] = frozenset()  # parameters that no stage trains: those of the recipe's base

    @property
    def precision(self) -> str:
        """Of the matrix products in training, on the device where the model is; a name in PRECISIONS."""
        return settled(self.recipe.precision, next(self.model.parameters()).device)

    def stage(self, index: int) -> PreparedStage:
        """One stage of the unrolled recipe at its first step; raises Mistake where its parts do not fit together."""
        entry, stage = self.recipe.unrolled()[index]
        with self.recipe.lines(), at("stages", entry):
            return self._prepared(stage, self.recipe.seed + index)

    def _prepared(self, stage: Stage, seed: int) -> PreparedStage:
        shape = self.model.encoder.shape
        with at("train"):
            parts = [part.make(shape) for part in stage.train]
            learning = select(self.model, parts, self.frozen)
            self._check_learning(stage)
        model: AnyModel = self.model
        sets: Mapping[str, Mapping[str, ExampleSet]] = self.sets
        if stage.cache_features and only_heads(learning) and not stage.regularizers:
            model = FrozenModel(self.model)
            sets = {
                split: {task: FrozenExamples(examples, self.model) for task, examples in by_task.items()}
                for split, by_task in self.sets.items()
            }
        chosen = {task: sets["train"][task] for task in stage.tasks or self.recipe.tasks}
        with at("sampler"):
            sampler = stage.sampler.make(
                {task: self._size(task, examples) for task, examples in chosen.items()}, stage.batch_size, seed
            )
        streams = {
            task: Stream(examples, sampler.batch_sizes[task], (seed, number), sampler.examples[task])
            for number, (task, examples) in enumerate(chosen.items())
        }
        tasks = {task: self.recipe.tasks[task] for task in chosen}
        with at("weighting"):
            weighting = stage.weighting.make(tasks, self._last_shared())
        parameters = dict(self.model.named_parameters())
        learned = {name: parameters[name] for name in learning}
        learned |= {f"weighting.{name}": p for name, p in weighting.parameters().items()}
        epoch = stage.steps_per_epoch or -(-sampler.steps_per_epoch // stage.accumulate)
        with at("regularizers"):
            objective = Objective(
                model,
                {one.name: one.make() for one in stage.regularizers},
                weighting,
                stage.batch_size if stage.reduction == "fixed_batch" else None,
            )
        with at("optimizer"):
            optimizer = stage.optimizer.make(learned.items())
        with at("combiner"):
            combiner = self._combiner(stage, sampler)
        trainer = Trainer(
            objective,
            optimizer,
            stage.schedule.make(),
            sampler,
            streams,
            combiner,
            stage.steps or max(1, round((stage.epochs or 0) * epoch)),
            epoch,
            stage.clip,
            stage.accumulate,
            PRECISIONS[self.precision],
        )
        with at("observe"):
            observers = {one.name: one.make(trainer) for one in stage.observe}
        return PreparedStage(trainer, sets["dev"], stage.evaluate_every or epoch, observers)

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
        combiner = stage.combiner.make()
        if combiner.needs_several and not sampler.several and stage.accumulate == 1:
            several = [name for name in SAMPLERS if getattr(SAMPLERS[name], "several", False)]
            raise Mistake(
                f"'{stage.combiner.name}' combines the gradients of several tasks, and a step of sampler "
                f"'{stage.sampler.name}' has one; samplers with several: {', '.join(several) or 'none'}; "
                "or let `accumulate` batches feed a step"
            )
        return combiner

    def _size(self, task: str, examples: ExampleSet) -> int:
        return min(len(examples), self.recipe.tasks[task].limit or len(examples))

    def _last_shared(self) -> list[nn.Parameter]:
        """The learning parameters of the encoder's last layer."""
        return [p for p in self.model.encoder.layers[-1].parameters() if p.requires_grad]


def build(recipe: Recipe) -> Experiment:
    """Read the data and make the model; nothing is written. Raises Mistake for whatever the data or encoder lack."""
    torch.manual_seed(recipe.seed)
    rows = _read(recipe, recipe.learned, ["train", "dev"])
    with recipe.lines():
        model, tokenizer, frozen = _model(recipe)
    model.encoder.run = compute_again if recipe.recompute else compute
    sets = _examples(recipe, rows, tokenizer, model.encoder.shape.positions)
    return Experiment(recipe, model.to(best_device()), tokenizer, rows, sets, frozen)


def evaluate_run(
    folder: str | Path,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    perturbed_by: int | None = None,
) -> Scores:
    """Score a run's kept model on the dev sets of these tasks, or of all that the run has trained.

    With the seed `perturbed_by`, on texts with typos and changed case instead.
    """
    recipe = _recipe_of(Run.open(folder), data)
    for name in tasks or ():
        if name not in recipe.tasks:
            raise Mistake(unknown("task", name, recipe.tasks))
    model, tokenizer = load_model(Run(folder).part(BEST))
    rows = _read(recipe, tasks or recipe.learned, ["dev"])
    if perturbed_by is not None:
        rows = {"dev": {name: perturbed(read, perturbed_by) for name, read in rows["dev"].items()}}
    return evaluate(model.to(best_device()), _examples(recipe, rows, tokenizer, model.encoder.shape.positions)["dev"])


def course_sources(folder: str | Path, data: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Task -> split -> where its rows are, as a run's recipe says."""
    recipe = _recipe_of(Run.open(folder), data)
    return {task: {split: recipe.source(task, split) for split in ("dev", "test")} for task in recipe.tasks}


def _recipe_of(run: Run, data: str | Path | None) -> Recipe:
    return read_recipe(run.folder / RECIPE, data=data)


def _model(recipe: Recipe) -> tuple[MultiTask, Tokenizer, frozenset[str]]:
    """The model that training begins with, and the names in it that are frozen for good."""
    tasks = list(recipe.tasks.values())
    if recipe.base is None:
        encoder, tokenizer = recipe.encoder.make()
        return MultiTask(encoder, tasks, recipe.modules), tokenizer, frozenset()
    base, tokenizer = load_model(Run.open(recipe.base.run).part(BEST))
    if list(base.tasks) != list(recipe.base.tasks):
        said = f"{', '.join(base.tasks)}, not {', '.join(recipe.base.tasks)}"
        raise Mistake(f"the model of base {recipe.base.run} has the tasks {said}")
    return grown(base, tasks, recipe.modules), tokenizer, frozenset(base.state_dict())


def _read(recipe: Recipe, tasks: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, Rows]]:
    rows: dict[str, dict[str, Rows]] = {split: {} for split in splits}
    for name in tasks:
        for split in splits:
            source = recipe.source(name, split)
            if source is None:
                raise Mistake(f"task '{name}' names no `{split}` rows: a file, or a table")
            rows[split][name] = read_rows(recipe.tasks[name], source)
    return rows


def _examples(
    recipe: Recipe, rows: Mapping[str, Mapping[str, Rows]], tokenizer: Tokenizer, positions: int
) -> dict[str, dict[str, Examples]]:
    return {
        split: {
            name: Examples.from_rows(recipe.tasks[name], read, tokenizer, positions) for name, read in by_task.items()
        }
        for split, by_task in rows.items()
    }
