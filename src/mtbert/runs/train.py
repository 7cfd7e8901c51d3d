"""A recipe run into its folder: stage after stage, logged, judged, kept, and saved so that it can go on."""

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
from torch import Tensor

from mtbert.data.tables import forget, read_rows
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.devices import best_device, settled
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import Experiment, PreparedStage, build
from mtbert.runs.environment import environment
from mtbert.runs.folder import BEST, ENVIRONMENT, LAST, RECIPE, SCORES, Run
from mtbert.scoring.evaluation import NotNumbers, Scores, constant_scores, evaluate
from mtbert.training.keeping import Keeper
from mtbert.training.trainer import Diverged, Record, Trainer

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
    recipe = recipe.model_copy(update={"precision": settled(recipe.precision, best_device())})
    _check_folder(run, recipe, resume, overwrite)
    experiment = build(recipe)
    for index in range(len(recipe.unrolled())):
        experiment.stage(index)  # what is wrong with a later stage is said before the first one runs

    if not (resume and run.exists):
        _begin(run, experiment)
    forget(experiment.rows)  # the sets hold their tokens: nobody reads the texts again
    return _go(run, experiment, listener or Silence())


def _check_folder(run: Run, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    if recipe.base is not None and run.folder.resolve() == Path(recipe.base.run).resolve():
        raise Mistake(f"{run.folder} is the run that tasks are added to; name another folder with --out")
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
    facts, state = _saved(run)
    run.cut_log(facts["log_size"])
    unrolled = experiment.recipe.unrolled()
    for index in range(facts["stage"], len(unrolled)):
        entry, stage = unrolled[index]
        if index != facts["resumed"] and (index == 0 or unrolled[index - 1][0] != entry):
            facts["baseline"] = facts["kept"]  # a resumed stage has it among its facts
        prepared = experiment.stage(index)
        rule = stage.keep.make(facts["kept"], facts["baseline"], list(prepared.trainer.streams), experiment.recipe.keep)
        progress = Progress(run, experiment, prepared, Keeper(rule, stage.patience), index, facts["baseline"])
        if index == facts["resumed"]:
            progress.restore(facts, state)
        elif index > 0:
            progress.save()  # so that a resumed stage begins from what this one began from
        progress.go(listener)
        facts["kept"] = rule.kept
        if index + 1 < len(unrolled):
            kept, _ = load_model(run.part(BEST))
            experiment.model.load_state_dict(kept.state_dict())
    return run


@dataclass(frozen=True)
class Progress:
    """One stage under way: what it logs, keeps and saves."""

    run: Run
    experiment: Experiment
    prepared: PreparedStage
    keeper: Keeper
    stage: int
    baseline: Mapping[str, float] | None

    def go(self, listener: Listener) -> None:
        """Train to the end of the stage, or until its keeper has had enough."""
        trainer, model = self.prepared.trainer, self.experiment.model
        accepted = Accepted.of(model, trainer) if self.keeper.rule.reverts else None
        listener.begin(self.stage, trainer.steps, trainer.step)
        for record in () if self.keeper.satisfied else self._steps():
            self.run.log({"stage": self.stage, **asdict(record)})
            listener.step(record)
            for name, observer in self.prepared.observers.items():
                if record.step % observer.every == 0:
                    self.run.log({"stage": self.stage, "step": record.step, name: observer.look()})
            if record.step % self.prepared.evaluate_every and not trainer.finished:
                continue
            scores = self._scores()
            kept = self.keeper.take(scores.measures)
            self.run.log({"stage": self.stage, "step": record.step, "kept": kept, "scores": scores.as_dict()})
            if kept:
                self.keep(scores)
            if accepted is not None:
                accepted = Accepted.of(model, trainer) if kept else accepted.restored(model, trainer)
            self.save()
            listener.scores(scores, kept)
            if self.keeper.satisfied:
                break

    def _steps(self) -> Iterator[Record]:
        with self._ids():
            yield from self.prepared.trainer

    def _scores(self) -> Scores:
        trainer = self.prepared.trainer
        with self._ids():
            if not trainer.finite:
                raise trainer.diverged("weights that are nan or inf after it")
            try:
                return evaluate(trainer.objective.scored, self.prepared.dev)
            except NotNumbers as found:
                raise trainer.diverged(f"{found} after it") from None

    @contextmanager
    def _ids(self) -> Iterator[None]:
        """Where training diverges, the rows are read once more to say which they were."""
        try:
            yield
        except Diverged as diverged:
            recipe = self.experiment.recipe
            tasks = {task for task, _ in diverged.batches}
            ids = {task: read_rows(recipe.tasks[task], recipe.source(task, "train")).ids for task in tasks}
            raise diverged.said(ids) from None

    def keep(self, scores: Scores) -> None:
        """Write the model that was scored as the best one."""
        recipe, scored = self.experiment.recipe, self.prepared.trainer.objective.scored
        model = scored if isinstance(scored, MultiTask) else self.experiment.model
        self.run.replace(BEST, lambda folder: save_model(model, self.experiment.tokenizer, folder))
        constant = constant_scores(recipe.tasks, self.experiment.sets["train"], self.experiment.sets["dev"])
        self.run.write_json(
            SCORES,
            {"stage": self.stage, "step": self.prepared.trainer.step, "keep": recipe.keep}
            | {"dev": scores.as_dict(), "constant": constant.as_dict()},
        )

    def save(self) -> None:
        """Write everything that training needs to go on, together."""
        trainer = self.prepared.trainer
        state = {f"model.{name}": tensor for name, tensor in self.experiment.model.state_dict().items()}
        state |= {f"trainer.{name}": tensor for name, tensor in trainer.state().items()}
        state["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            state["random_cuda"] = torch.cuda.get_rng_state()
        facts = {
            "stage": self.stage,
            "step": trainer.step,
            "positions": {task: stream.position for task, stream in trainer.streams.items()},
            "keeper": self.keeper.facts(),
            "baseline": self.baseline,
            "log_size": self.run.log_size,
        }

        def write(folder: Path) -> None:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, folder / STATE)
            (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

        self.run.replace(LAST, write)

    def restore(self, facts: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        """Go on from what was saved."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "trainer": {}}
        for key, tensor in state.items():
            part, _, name = key.partition(".")
            if name:
                parts[part][name] = tensor
        trainer = self.prepared.trainer
        self.experiment.model.load_state_dict(parts["model"])
        trainer.load(parts["trainer"])
        trainer.step = facts["step"]
        for task, position in facts["positions"].items():
            trainer.streams[task].position = position
        self.keeper.load(facts["keeper"])
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available() and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"])


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


def _saved(run: Run) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and tensors to go on from; the beginning where nothing has been saved."""
    if not run.has(LAST):
        return {"stage": 0, "resumed": None, "log_size": 0, "kept": None, "baseline": None}, {}
    folder = run.part(LAST)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    facts |= {"resumed": facts["stage"], "kept": facts["keeper"]["kept"] or None}
    return facts, load_file(folder / STATE)
