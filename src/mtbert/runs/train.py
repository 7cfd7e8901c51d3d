"""Train a recipe into its run folder, stage after stage, so that it can go on wherever it was cut off."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert.data.tables import forget
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device, settled
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import Experiment, build
from mtbert.runs.checkpoint import Checkpoint
from mtbert.runs.data import mistakes_of_data_too
from mtbert.runs.environment import environment
from mtbert.runs.folder import BEST, ENVIRONMENT, RECIPE, Run
from mtbert.runs.listener import Listener
from mtbert.runs.stage import StageUnderWay


def train(
    recipe: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train the recipe (a file or a dict) into the run folder `out`, and keep the best model by its rule.

    With `resume` a run that was cut off goes on from its last checkpoint to the weights that the uninterrupted run
    would have had, bit for bit. Where a listener ends training early, `stopped` of the returned run says why.
    Raises Mistake for anything the caller can put right, before anything is written.
    """
    with mistakes_of_data_too():
        read = read_recipe(recipe, overrides, data)
    return train_recipe(read, run_for(recipe, out), resume=resume, overwrite=overwrite, listener=listener)


def run_for(recipe: str | Path | Mapping[str, Any], out: str | Path | None) -> Run:
    """The run folder asked for, or else runs/ and the name of the recipe's file."""
    return Run(out or Path("runs") / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"))


def train_recipe(
    recipe: Recipe, run: Run, *, resume: bool = False, overwrite: bool = False, listener: Listener | None = None
) -> Run:
    """Train a recipe that has been read; as `train` otherwise."""
    recipe = recipe.model_copy(update={"precision": settled(recipe.precision, best_device())})
    _check_folder(run, recipe, resume, overwrite)
    experiment = build(recipe)
    recipe = experiment.recipe
    if resume and run.exists:
        _check_same(run, recipe)
    for index in range(len(recipe.unrolled())):
        experiment.stage(index)  # what is wrong with a later stage is said before the first one runs

    if not (resume and run.exists):
        run.clear()
        run.write_json(ENVIRONMENT, environment(experiment.model, experiment.rows))
        run.begin(recipe.as_yaml())
    forget(experiment.rows)  # the sets hold their tokens: nobody reads the texts again
    _train_stages(run, experiment, listener or Listener())
    return run


def _check_folder(run: Run, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    if recipe.base is not None and run.folder.resolve() == Path(recipe.base.run).resolve():
        raise Mistake(f"{run.folder} is the run that tasks are added to; name another folder with --out")
    if run.exists and not overwrite:
        run.check_format()
    if run.exists and not (resume or overwrite):
        raise Mistake(
            f"{run.folder} already holds a run; --resume goes on with it, --overwrite begins anew, --out names another"
        )
    if not run.exists and run.strangers:
        raise Mistake(
            f"{run.folder} is not empty and holds no run (it holds {', '.join(run.strangers[:3])}); "
            "name another folder with --out"
        )


def _check_same(run: Run, recipe: Recipe) -> None:
    """Raise Mistake where a run was begun with another recipe than the one that is to go on."""
    before, now = (run.folder / RECIPE).read_text(encoding="utf-8"), recipe.as_yaml()
    changes = [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "+-"]
    if changes:
        said = "; ".join(f"{'now' if line[0] == '+' else 'then'}: `{line[2:].strip()}`" for line in changes[:2])
        raise Mistake(f"{run.folder} was begun with another recipe ({said}); --overwrite begins anew")


def _train_stages(run: Run, experiment: Experiment, listener: Listener) -> None:
    saved = Checkpoint.read(run)
    run.log.cut(saved.facts.log_size if saved else 0)
    kept = (saved.facts.keeper["kept"] or None) if saved else None
    baseline = saved.facts.baseline if saved else None
    entries = [entry for entry, _ in experiment.recipe.unrolled()]
    for index in range(saved.facts.stage if saved else 0, len(entries)):
        going_on = saved if saved and index == saved.facts.stage else None
        if going_on is None and (index == 0 or entries[index] != entries[index - 1]):
            baseline = kept
        stage = StageUnderWay(run, experiment, index, kept=kept, baseline=baseline)
        if going_on is not None:
            stage.restore(going_on)
        elif index > 0:
            stage.save()  # so that a resumed stage begins from what this one began from
        if stage.go(listener) is not None:
            return
        kept = stage.keeper.rule.kept
        if index + 1 < len(entries):
            model, _ = load_model(run.part(BEST))
            experiment.model.load_state_dict(model.state_dict())
