"""Train a recipe into its run folder, stage after stage, so that it can go on wherever it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from mtbert.cost import seconds
from mtbert.data.tables import forget
from mtbert.errors import Mistake
from mtbert.model.checkpoints import ENSEMBLE, load_model
from mtbert.model.devices import best_device, settled
from mtbert.model.files import REMEDY
from mtbert.model.world import World, world
from mtbert.recipe.minutes import in_minutes
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import Experiment, build
from mtbert.runs.checkpoint import FACTS, Checkpoint, Facts
from mtbert.runs.data import mistakes_of_data_too
from mtbert.runs.environment import environment
from mtbert.runs.folder import BEST, ENVIRONMENT, LAST, RUNS, Run, Watched
from mtbert.runs.listener import Listener, Listeners, OfTeacher
from mtbert.runs.lock import locked
from mtbert.runs.log import Note
from mtbert.runs.logging import Logging, check_loggers
from mtbert.runs.resume import check_environment, check_recipe, commit_then
from mtbert.runs.stage import StageUnderWay


def train(
    recipe: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    minutes: float | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train the recipe (a file or a dict) into the run folder `out`, and keep the best model by its rule.

    With `resume` a run that was cut off goes on from its last checkpoint to the weights that the uninterrupted run
    would have had, bit for bit; where its data has changed since, it does so only with `force`. With `overwrite` a run
    that is there is removed. With `minutes` the stages last for so long together, whatever the recipe says. Where a
    listener ends training early, `stopped` of the returned run says why.
    Raises Mistake for anything the caller can put right, before anything is written.
    """
    with mistakes_of_data_too():
        read = in_minutes(read_recipe(recipe, overrides, data), minutes)
    return train_recipe(read, run_for(recipe, out), resume=resume, overwrite=overwrite, force=force, listener=listener)


def run_for(recipe: str | Path | Mapping[str, Any], out: str | Path | None) -> Run:
    """The run folder asked for, or else runs/ and the name of the recipe's file."""
    return Run(out or Path(RUNS) / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"))


def train_recipe(
    recipe: Recipe,
    run: Run,
    *,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    listener: Listener | None = None,
    beside: Experiment | None = None,
) -> Run:
    """Train a recipe that has been read; as `train` otherwise.

    Where the original encoder reads texts too, it need not where the experiment `beside`, on the same rows, has had it
    read them.
    """
    listener, together = listener or Listener(), world()
    check_loggers(recipe.log)
    if together.size > 1 and any(stage.minutes is not None for stage in recipe.stages):
        raise Mistake(
            "a stage of so many `minutes` is as long as one process's clock says, and several train here; give `steps` "
            "or `epochs`"
        )
    recipe = recipe.model_copy(update={"precision": settled(recipe.precision, best_device())})
    with ExitStack() as until_the_end:
        if together.first:
            with together.alike():
                experiment = _begin(run, recipe, resume, overwrite, force, listener, until_the_end)
        else:
            with together.alike():  # the first process is in the folder, or says why it is not
                pass
            run = Watched(run.folder)
            experiment = prepare(recipe, commit=commit_then(run))
            forget(experiment.rows)
        _read_apart(experiment, listener, beside)
        stopped = _train_teachers(run, experiment, force, listener)
        if stopped is not None:
            run.log_line(Note(0, 0, stopped))
        else:
            _train_stages(run, experiment.taught_in(run), listener, together)
        together.wait()  # for what the first one still writes
    return run


def _begin(
    run: Run, recipe: Recipe, resume: bool, overwrite: bool, force: bool, listener: Listener, until_the_end: ExitStack
) -> Experiment:
    """Take the folder for as long as training lasts, and go on with the run in it, or begin one."""
    there = run.exists
    if there:  # two that begin at once find nothing here, and are told apart below
        until_the_end.enter_context(locked(run.folder))
    _check_folder(run, recipe, resume, overwrite)
    experiment = prepare(recipe, commit=commit_then(run) if there and resume else None)
    if not there:
        until_the_end.enter_context(locked(run.folder))
        _check_folder(run, recipe, resume, overwrite)
    _enter(run, experiment, resume, force, listener)
    return experiment


def prepare(recipe: Recipe, commit: str | None = None) -> Experiment:
    """What a recipe trains, whatever is wrong with a later stage said before the first one runs.

    An encoder from the hub is read at `commit`, where that is given.
    """
    experiment = build(recipe, commit)
    for index in range(len(recipe.unrolled())):
        experiment.stage(index)
    return experiment


def _enter(run: Run, experiment: Experiment, resume: bool, force: bool, listener: Listener) -> None:
    """Go on with the run in the folder, or begin one."""
    now = environment(experiment.model, experiment.rows, experiment.tokenizer, experiment.commit)
    if resume and run.exists:
        check_recipe(run, experiment.recipe)
        check_environment(run, now, force, listener)
    else:
        run.clear()
        run.write_json(ENVIRONMENT, now)
        run.begin(experiment.recipe.as_yaml())
    forget(experiment.rows)  # the sets hold their tokens: nobody reads the texts again


def _train_teachers(run: Run, experiment: Experiment, force: bool, listener: Listener) -> str | None:
    """Train the teachers that the recipe asks for, into the run's own folder; why that ended before its time, or None.

    They draw random numbers of their own: those of the student are as if they had been there all along.
    """
    if run.has(LAST):
        return None  # the student has begun
    recipe = experiment.recipe
    with torch.random.fork_rng():
        for number in range(1, recipe.own_teachers + 1):
            teacher = Run(run.teacher(number))
            listener.note(f"teacher {number} of {recipe.own_teachers}, which stays in {teacher.folder}")
            asked, resume, told = recipe.for_teacher(number), teacher.exists, OfTeacher(listener, number)
            train_recipe(asked, teacher, resume=resume, force=force, listener=told, beside=experiment)
            if teacher.stopped is not None:
                return teacher.stopped
    return None


def _read_apart(experiment: Experiment, listener: Listener, beside: Experiment | None) -> None:
    """Have the original encoder read its texts before the first step, where heads read features beside the vector."""
    if beside is not None:
        for place, own in experiment.read_apart.items():
            own.vectors = beside.read_apart[place].vectors
    elif experiment.read_apart:
        sets = list(experiment.read_apart.values())
        texts, done = sum(len(examples) * len(examples.tokens) for examples in sets), 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            listener.reading(done, texts)

        took = seconds(lambda: [examples.vectors(tell) for examples in sets])
        listener.note(f"features beside the vector: the original encoder has read its texts in {took:.1f} seconds")


def _check_folder(run: Run, recipe: Recipe, resume: bool, overwrite: bool) -> None:
    if recipe.base is not None and run.folder.resolve() == Path(recipe.base.run).resolve():
        raise Mistake(f"{run.folder} is the run that tasks are added to; name another folder with --out")
    if not run.exists:
        if run.strangers:
            raise Mistake(
                f"{run.folder} is not empty and holds no run (it holds {', '.join(run.strangers[:3])}); "
                "name another folder with --out"
            )
        return
    run.check_format()
    if resume and (run.folder / BEST / ENSEMBLE).exists():
        raise Mistake(f"{run.folder} holds an ensemble, which was not trained: there is nothing to go on with")
    if not resume and not overwrite:
        raise Mistake(
            f"{run.folder} already holds a run; --resume goes on with it, --overwrite begins anew, --out names another"
        )
    if not resume and run.strangers:
        raise Mistake(
            f"{run.folder} holds something that no run wrote ({', '.join(run.strangers[:3])}); move it away, "
            "so that --overwrite cannot destroy it, or name another folder with --out"
        )


def _train_stages(run: Run, experiment: Experiment, listener: Listener, together: World) -> None:
    saved = Checkpoint.read(run)
    together.wait()  # until all have read it
    if saved is not None:
        _check_saved(run, saved.facts, len(experiment.recipe.unrolled()))
    run.cut_log(saved.facts.log_size if saved else 0)
    loggers = experiment.recipe.log if together.first else ()
    with closing(Logging(run, loggers, listener.note)) as logging:
        _go(run, experiment, saved, Listeners([listener, logging]), together)


def _go(run: Run, experiment: Experiment, saved: Checkpoint | None, listener: Listener, together: World) -> None:
    entries = [entry for entry, _ in experiment.recipe.unrolled()]
    kept = (saved.facts.keeper["kept"] or None) if saved else None
    baseline = saved.facts.baseline if saved else None
    for index in range(saved.facts.stage if saved else 0, len(entries)):
        going_on = saved if saved and index == saved.facts.stage else None
        if going_on is None and (index == 0 or entries[index] != entries[index - 1]):
            baseline = kept
        stage = StageUnderWay(run, experiment, index, kept=kept, baseline=baseline, world=together)
        if going_on is not None:
            stage.restore(going_on)
        else:
            if index > 0:
                stage.save()  # so that a resumed stage begins from what this one began from
            stage.begin()
        if stage.go(listener) is not None:
            return
        kept = stage.keeper.rule.kept
        if index + 1 < len(entries):
            together.wait()  # until it is written
            model, _ = load_model(run.part(BEST))
            experiment.model.load_state_dict(model.state_dict())


def _check_saved(run: Run, facts: Facts, stages: int) -> None:
    if facts.stage >= stages:
        raise Mistake(f"{run.folder / LAST / FACTS}: stage is {facts.stage}, and the recipe has {stages}; {REMEDY}")
    if run.log.size < facts.log_size:
        raise Mistake(
            f"{run.log.path} has lost lines: it holds {run.log.size:,} bytes of the {facts.log_size:,} that the "
            f"checkpoint in {LAST}/ counts on; {REMEDY}"
        )
