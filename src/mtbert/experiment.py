"""The only place where a recipe becomes objects; and the run that comes of them."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtbert.data.batches import Examples, ExampleSet, Stream
from mtbert.data.samplers import SAMPLERS
from mtbert.data.tables import Rows, forget, read_rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.devices import PRECISIONS, best_device
from mtbert.model.encoder import compute, compute_again
from mtbert.model.encoders import make_encoder
from mtbert.model.frozen import AnyModel, FrozenExamples, FrozenModel
from mtbert.model.multitask import MultiTask
from mtbert.recipe import Recipe, read_recipe
from mtbert.results.environment import environment
from mtbert.results.evaluation import Scores, constant_scores, evaluate
from mtbert.results.runs import BEST, ENVIRONMENT, LAST, RECIPE, SCORES, Run
from mtbert.schedules import SCHEDULES
from mtbert.training.gradients import COMBINERS
from mtbert.training.objective import Objective
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers import REGULARIZERS
from mtbert.training.selection import only_heads, select
from mtbert.training.stages import Keeper
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


@dataclass(frozen=True)
class Experiment:
    """A recipe's objects: what is trained, and on what."""

    recipe: Recipe
    model: MultiTask
    tokenizer: Tokenizer
    rows: dict[str, dict[str, Rows]]  # split -> task -> rows as read
    sets: dict[str, dict[str, Examples]]  # split -> task -> examples

    def stage(self, index: int) -> PreparedStage:
        """One stage at its first step."""
        stage, seed = self.recipe.stages[index], self.recipe.seed + index
        learning = select(self.model, stage.train)
        if not learning:
            raise Mistake(f"stages.{index}.train: {', '.join(stage.train)} leaves nothing to train in this model")
        model: AnyModel = self.model
        sets: Mapping[str, Mapping[str, ExampleSet]] = self.sets
        if stage.cache_features and only_heads(learning) and not stage.regularizers:
            model = FrozenModel(self.model)
            sets = {
                split: {task: FrozenExamples(examples, self.model) for task, examples in by_task.items()}
                for split, by_task in self.sets.items()
            }
        chosen = {task: sets["train"][task] for task in stage.tasks or self.recipe.tasks}
        sampler = SAMPLERS[stage.sampler.name](
            {task: len(examples) for task, examples in chosen.items()},
            stage.batch_size,
            seed,
            **stage.sampler.options,
        )
        streams = {
            task: Stream(examples, sampler.batch_sizes[task], (seed, number))
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
            COMBINERS[stage.combiner.name](**stage.combiner.options),
            stage.steps or max(1, round((stage.epochs or 0) * epoch)),
            stage.clip,
            stage.accumulate,
            PRECISIONS[self.recipe.precision],
        )
        return PreparedStage(trainer, sets["dev"], stage.evaluate_every or epoch)

    def _last_shared(self) -> list[nn.Parameter]:
        """The learning parameters of the encoder's last layer."""
        return [p for p in self.model.encoder.layers[-1].parameters() if p.requires_grad]


def build(recipe: Recipe) -> Experiment:
    """Read the data and make the model; nothing is written. Raises Mistake for whatever the data or encoder lack."""
    torch.manual_seed(recipe.seed)
    rows = _read(recipe, ["train", "dev"])
    encoder, tokenizer = make_encoder(recipe.encoder.name, recipe.encoder.options)
    encoder.run = compute_again if recipe.recompute else compute
    model = MultiTask(encoder, list(recipe.tasks.values()), recipe.modules).to(best_device())
    return Experiment(recipe, model, tokenizer, rows, _examples(recipe, rows, tokenizer, encoder.shape.positions))


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
    read = read_recipe(recipe, overrides, data)
    run = Run(out or Path("runs") / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"))
    _check_folder(run, read, resume, overwrite)
    experiment = build(read)
    for index in range(len(read.stages)):
        experiment.stage(index)  # what is wrong with a later stage is said before the first one runs

    if not (resume and run.exists):
        _begin(run, experiment)
    forget(experiment.rows)  # the sets hold their tokens: nobody reads the texts again
    return _go(run, experiment, listener or Silence())


def evaluate_run(folder: str | Path, data: str | Path | None = None) -> Scores:
    """Score a run's kept model on the dev sets its recipe names."""
    recipe = _recipe_of(Run.open(folder), data)
    model, tokenizer = load_model(Run(folder).part(BEST))
    rows = _read(recipe, ["dev"])
    return evaluate(model.to(best_device()), _examples(recipe, rows, tokenizer, model.encoder.shape.positions)["dev"])


def course_sources(folder: str | Path, data: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Task -> split -> where its rows are, as a run's recipe says."""
    recipe = _recipe_of(Run.open(folder), data)
    return {task: {split: recipe.source(task, split) for split in ("dev", "test")} for task in recipe.tasks}


def _recipe_of(run: Run, data: str | Path | None) -> Recipe:
    return read_recipe(run.folder / RECIPE, data=data)


def _read(recipe: Recipe, splits: Sequence[str]) -> dict[str, dict[str, Rows]]:
    rows: dict[str, dict[str, Rows]] = {split: {} for split in splits}
    for name, task in recipe.tasks.items():
        for split in splits:
            source = recipe.source(name, split)
            if source is None:
                raise Mistake(f"task '{name}' names no `{split}` rows: a file, or a table")
            rows[split][name] = read_rows(task, source)
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
    facts, state = _saved(run)
    run.cut_log(facts["log_size"])

    best = -math.inf
    for index in range(facts["stage"], len(recipe.stages)):
        trainer, dev, every = experiment.stage(index)
        keeper = Keeper(recipe.stages[index].patience, best)
        trainer.objective.start()
        if index == facts["resumed"]:
            _restore(model, trainer, keeper, facts, state)
        elif index > 0:
            _save(run, model, trainer, keeper, index)  # so that a resumed stage begins from what this one began from
        listener.begin(index, trainer.steps, trainer.step)

        for record in () if keeper.satisfied else trainer:
            run.log({"stage": index, **asdict(record)})
            listener.step(record)
            if record.step % every and not trainer.finished:
                continue
            scores = evaluate(trainer.objective.model, dev)
            kept_now = keeper.take(scores.by(recipe.keep))
            run.log({"stage": index, "step": record.step, "kept": kept_now, "scores": scores.as_dict()})
            if kept_now:
                run.replace(BEST, lambda folder: save_model(model, experiment.tokenizer, folder))
                constant = constant_scores(recipe.tasks, experiment.sets["train"], experiment.sets["dev"])
                run.write_json(
                    SCORES,
                    {"stage": index, "step": record.step, "keep": recipe.keep}
                    | {"dev": scores.as_dict(), "constant": constant.as_dict()},
                )
            _save(run, model, trainer, keeper, index)
            listener.scores(scores, kept_now)
            if keeper.satisfied:
                break
        best = keeper.best
        if index + 1 < len(recipe.stages):
            kept, _ = load_model(run.part(BEST))
            model.load_state_dict(kept.state_dict())
    return run


def _save(run: Run, model: MultiTask, trainer: Trainer, keeper: Keeper, stage: int) -> None:
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
        "best": keeper.best,
        "waited": keeper.waited,
        "log_size": run.log_size,
    }

    def write(folder: Path) -> None:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / STATE)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    run.replace(LAST, write)


def _saved(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and tensors to go on from; the beginning where nothing has been saved."""
    if not run.has(LAST):
        return {"stage": 0, "resumed": None, "log_size": 0}, {}
    folder = run.part(LAST)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return facts | {"resumed": facts["stage"]}, load_file(folder / STATE)


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
    keeper.best, keeper.waited = facts["best"], facts["waited"]
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available() and "random_cuda" in state:
        torch.cuda.set_rng_state(state["random_cuda"])
