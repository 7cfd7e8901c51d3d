"""The only place where a recipe becomes objects; and the run that comes of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtbert.data.batches import Examples, ExampleSet, Stream
from mtbert.data.samplers.base import Sampler
from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.tables import Rows, read_rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.devices import PRECISIONS, best_device
from mtbert.model.encoders import make_encoder
from mtbert.model.frozen import AnyModel, FrozenExamples, FrozenModel
from mtbert.model.grown import grown
from mtbert.model.multitask import MultiTask
from mtbert.recipe import Recipe, Stage, read_recipe
from mtbert.results.environment import environment
from mtbert.results.evaluation import Scores, constant_scores, evaluate
from mtbert.results.runs import BEST, ENVIRONMENT, LAST, RECIPE, SCORES, Run
from mtbert.schedules import SCHEDULES
from mtbert.training.gradients import COMBINERS, Combiner
from mtbert.training.objective import Objective
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.selection import SELECTORS, only_heads, select
from mtbert.training.stages import KEEP_RULES, Keeper
from mtbert.training.trainer import Record, Trainer
from mtbert.training.weighting import WEIGHTINGS

STATE, FACTS = "state.safetensors", "state.json"


class Listener(Protocol):
    """Whoever wants to know how training goes."""

    def begin(self, stage: int, steps: int, done: int) -> None: ...

    def step(self, record: Record) -> None: ...

    def scores(self, scores: Scores, kept: bool) -> None: ...


class Silence:
    """A listener that says nothing."""

    def begin(self, stage: int, steps: int, done: int) -> None: ...

    def step(self, record: Record) -> None: ...

    def scores(self, scores: Scores, kept: bool) -> None: ...


class PreparedStage(NamedTuple):
    """A stage's trainer, what it is judged on, and the steps between evaluations."""

    trainer: Trainer
    dev: Mapping[str, ExampleSet]
    evaluate_every: int


@contextmanager
def _said_of(place: str) -> Iterator[None]:
    """Mistakes made in here name the place in the recipe."""
    try:
        yield
    except Mistake as mistake:
        raise Mistake(f"{place}: {mistake}") from None


@dataclass(frozen=True)
class Experiment:
    """A recipe's objects: what is trained, and on what."""

    recipe: Recipe
    model: MultiTask
    tokenizer: Tokenizer
    rows: dict[str, dict[str, Rows]]  # split -> task -> rows as read
    sets: dict[str, dict[str, Examples]]  # split -> task -> examples
    frozen: frozenset[str] = frozenset()  # parameters that no stage trains: those of the recipe's base

    def stage(self, index: int) -> PreparedStage:
        """One stage of the unrolled recipe at its first step; raises Mistake where its parts do not fit together."""
        entry, stage = self.recipe.unrolled()[index]
        with _said_of(f"stages.{entry}"):
            return self._prepared(stage, self.recipe.seed + index)

    def _prepared(self, stage: Stage, seed: int) -> PreparedStage:
        shape = self.model.encoder.shape
        parts = [SELECTORS[part.name](shape, **part.options) for part in stage.train]
        learning = select(self.model, parts, self.frozen)
        if not learning:
            raise Mistake(
                f"train: {', '.join(part.name for part in stage.train)} leaves nothing to train in this model"
            )
        model: AnyModel = self.model
        sets: Mapping[str, Mapping[str, ExampleSet]] = self.sets
        if stage.cache_features and only_heads(learning) and not stage.regularizers:
            model = FrozenModel(self.model)
            sets = {
                split: {task: FrozenExamples(examples, self.model) for task, examples in by_task.items()}
                for split, by_task in self.sets.items()
            }
        chosen = {task: sets["train"][task] for task in stage.tasks or self.recipe.tasks}
        with _said_of("sampler"):
            sampler = SAMPLERS[stage.sampler.name](
                {task: len(examples) for task, examples in chosen.items()},
                stage.batch_size,
                seed,
                **stage.sampler.options,
            )
        streams = {
            task: Stream(examples, sampler.batch_sizes[task], (seed, number), sampler.examples[task])
            for number, (task, examples) in enumerate(chosen.items())
        }
        tasks = {task: self.recipe.tasks[task] for task in chosen}
        weighting = WEIGHTINGS[stage.weighting.name](tasks, self._last_shared(), **stage.weighting.options)
        parameters = dict(self.model.named_parameters())
        learned = {name: parameters[name] for name in learning}
        learned |= {f"weighting.{name}": p for name, p in weighting.parameters().items()}
        epoch = stage.steps_per_epoch or -(-sampler.steps_per_epoch // stage.accumulate)
        trainer = Trainer(
            Objective(
                model,
                {one.name: REGULARIZERS[one.name](**one.options) for one in stage.regularizers},
                weighting,
                stage.batch_size if stage.reduction == "fixed_batch" else None,
            ),
            OPTIMIZERS[stage.optimizer.name](learned.items(), **stage.optimizer.options),
            SCHEDULES[stage.schedule.name](**stage.schedule.options),
            sampler,
            streams,
            self._combiner(stage, sampler),
            stage.steps or max(1, round((stage.epochs or 0) * epoch)),
            stage.clip,
            stage.accumulate,
            PRECISIONS[self.recipe.precision],
        )
        return PreparedStage(trainer, sets["dev"], stage.evaluate_every or epoch)

    def _combiner(self, stage: Stage, sampler: Sampler) -> Combiner:
        combiner = COMBINERS[stage.combiner.name](**stage.combiner.options)
        if combiner.needs_several and not sampler.several and stage.accumulate == 1:
            several = [name for name in SAMPLERS if getattr(SAMPLERS[name], "several", False)]
            raise Mistake(
                f"combiner '{stage.combiner.name}' combines the gradients of several tasks, and a step of sampler "
                f"'{stage.sampler.name}' has one; samplers with several: {', '.join(several) or 'none'}; "
                "or let `accumulate` batches feed a step"
            )
        return combiner

    def _last_shared(self) -> list[nn.Parameter]:
        """The learning parameters of the encoder's last layer."""
        return [p for p in self.model.encoder.layers[-1].parameters() if p.requires_grad]


def build(recipe: Recipe) -> Experiment:
    """Read the data and make the model; nothing is written. Raises Mistake for whatever the data or encoder lack."""
    torch.manual_seed(recipe.seed)
    rows = _read(recipe, recipe.learned, ["train", "dev"])
    model, tokenizer, frozen = _model(recipe)
    sets = _examples(recipe, rows, tokenizer, model.encoder.shape.positions)
    return Experiment(recipe, model.to(best_device()), tokenizer, rows, sets, frozen)


def train(
    recipe: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train the recipe (a file or a dict) into the run folder `out`, and keep the best model by its rule.

    With `resume` a run that was cut off goes on from its last evaluation to the weights that the uninterrupted one
    would have had. Raises Mistake for anything the caller can put right, before anything is written.
    """
    return train_recipe(read_recipe(recipe, overrides, data), run_for(recipe, out), resume, overwrite, listener)


def run_for(recipe: str | Path | Mapping[str, Any], out: str | Path | None) -> Run:
    """The run folder asked for, or one named after the recipe."""
    return Run(out or Path("runs") / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"))


def train_recipe(
    recipe: Recipe, run: Run, resume: bool = False, overwrite: bool = False, listener: Listener | None = None
) -> Run:
    """Train a recipe that has been read; as `train` otherwise."""
    _check_folder(run, recipe, resume, overwrite)
    experiment = build(recipe)
    for index in range(len(recipe.unrolled())):
        experiment.stage(index)  # what is wrong with a later stage is said before the first one runs

    if not (resume and run.exists):
        _begin(run, experiment)
    return _go(run, experiment, listener or Silence())


def evaluate_run(folder: str | Path, data: str | Path | None = None, tasks: Sequence[str] | None = None) -> Scores:
    """Score a run's kept model on the dev sets of these tasks, or of all that the run has trained."""
    recipe = _recipe_of(Run.open(folder), data)
    for name in tasks or ():
        if name not in recipe.tasks:
            raise Mistake(unknown("task", name, recipe.tasks))
    model, tokenizer = load_model(Run(folder).part(BEST))
    rows = _read(recipe, tasks or recipe.learned, ["dev"])
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
        encoder, tokenizer = make_encoder(recipe.encoder.name, recipe.encoder.options)
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


def _check_folder(run: Run, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    if run.exists and resume:
        before, now = (run.folder / RECIPE).read_text(encoding="utf-8"), recipe.as_yaml()
        changes = [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "+-"]
        if changes:
            said = "; ".join(f"{'now' if line[0] == '+' else 'then'}: `{line[2:].strip()}`" for line in changes[:2])
            raise Mistake(f"{run.folder} was begun with another recipe ({said}); --overwrite begins anew")
    elif run.exists and not overwrite:
        raise Mistake(
            f"{run.folder} already holds a run; --resume goes on with it, --overwrite begins anew, --out names another"
        )
    elif not run.exists and run.strangers:
        raise Mistake(
            f"{run.folder} is not empty and holds no run (it holds {', '.join(run.strangers[:3])}); "
            "name another folder with --out"
        )


def _begin(run: Run, experiment: Experiment) -> None:
    run.clear()
    run.write_json(ENVIRONMENT, environment(experiment.model, experiment.rows))
    run.write(RECIPE, experiment.recipe.as_yaml())


def _go(run: Run, experiment: Experiment, listener: Listener) -> Run:
    recipe, model = experiment.recipe, experiment.model
    constant = constant_scores(recipe.tasks, experiment.sets["train"], experiment.sets["dev"])
    facts, state = _saved(run)
    run.cut_log(facts["log_size"])

    for index in range(facts["stage"], len(recipe.unrolled())):
        entry, stage = recipe.unrolled()[index]
        trainer, dev, every = experiment.stage(index)
        if index == 0 or recipe.unrolled()[index - 1][0] != entry:
            facts["baseline"] = facts["kept"]
        rule = KEEP_RULES[stage.keep.name](
            facts["kept"], facts["baseline"], stage.tasks or list(recipe.tasks), recipe.keep, **stage.keep.options
        )
        keeper = Keeper(rule, stage.patience)
        trainer.objective.start()
        if index == facts["resumed"]:
            _restore(model, trainer, keeper, facts, state)
        elif index > 0:
            # so that a resumed stage begins from what this one began from
            _save(run, model, trainer, keeper, index, facts["baseline"])
        accepted = Accepted.of(model, trainer) if rule.reverts else None
        listener.begin(index, trainer.steps, trainer.step)

        for record in () if keeper.satisfied else trainer:
            run.log({"stage": index, **asdict(record)})
            listener.step(record)
            if record.step % every and not trainer.finished:
                continue
            scores = evaluate(trainer.objective.model, dev)
            kept_now = keeper.take(scores.measures)
            run.log({"stage": index, "step": record.step, "kept": kept_now, "scores": scores.as_dict()})
            if kept_now:
                run.replace(BEST, lambda folder: save_model(model, experiment.tokenizer, folder))
                run.write_json(
                    SCORES,
                    {"stage": index, "step": record.step, "keep": recipe.keep}
                    | {"dev": scores.as_dict(), "constant": constant.as_dict()},
                )
            if accepted is not None:
                accepted = Accepted.of(model, trainer) if kept_now else accepted.restored(model, trainer)
            _save(run, model, trainer, keeper, index, facts["baseline"])
            listener.scores(scores, kept_now)
            if keeper.satisfied:
                break
        facts["kept"] = rule.kept
        if index + 1 < len(recipe.unrolled()):
            kept, _ = load_model(run.part(BEST))
            model.load_state_dict(kept.state_dict())
    return run


class Accepted(NamedTuple):
    """A model and what trains it, as they were when the model was kept."""

    model: dict[str, Tensor]
    trainer: dict[str, Tensor]

    @classmethod
    def of(cls, model: MultiTask, trainer: Trainer) -> Accepted:
        """A copy of both."""
        return cls(_copied(model.state_dict()), _copied(trainer.state()))

    def restored(self, model: MultiTask, trainer: Trainer) -> Accepted:
        """Go back to them."""
        model.load_state_dict(self.model)
        trainer.load(_copied(self.trainer))
        return self


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _save(
    run: Run, model: MultiTask, trainer: Trainer, keeper: Keeper, stage: int, baseline: Mapping[str, float] | None
) -> None:
    """Everything that training needs to go on, together."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"trainer.{name}": tensor for name, tensor in trainer.state().items()}
    state["random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state()
    facts = {
        "stage": stage,
        "step": trainer.step,
        "positions": {task: stream.position for task, stream in trainer.streams.items()},
        "keeper": keeper.facts(),
        "baseline": baseline,
        "log_size": run.log_size,
    }

    def write(folder: Path) -> None:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / STATE)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    run.replace(LAST, write)


def _saved(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and tensors to go on from; the beginning where nothing has been saved."""
    if not run.has(LAST):
        return {"stage": 0, "resumed": None, "log_size": 0, "kept": None, "baseline": None}, {}
    folder = run.part(LAST)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    facts |= {"resumed": facts["stage"], "kept": facts["keeper"]["kept"] or None}
    return facts, load_file(folder / STATE)


def _restore(
    model: MultiTask, trainer: Trainer, keeper: Keeper, facts: dict[str, Any], state: dict[str, Tensor]
) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "trainer": {}}
    for key, tensor in state.items():
        part, _, name = key.partition(".")
        if name:
            parts[part][name] = tensor
    model.load_state_dict(parts["model"])
    trainer.load(parts["trainer"])
    trainer.step = facts["step"]
    for task, position in facts["positions"].items():
        trainer.streams[task].position = position
    keeper.load(facts["keeper"])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and "random_cuda" in state:
        torch.cuda.set_rng_state(state["random_cuda"])
