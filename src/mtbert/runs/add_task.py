"""Add tasks to a trained run: what is there is frozen, so that nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert.data.formats.hub import HubSplit
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.grown import plan_for
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Base, Recipe
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.train import run_for, train_recipe


def add_task(
    run: str | Path,
    recipe: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train the recipe's tasks, all of them new, on top of a run's kept model into the run folder `out`.

    Encoder, modules and heads of `run` are frozen, and its data is not read: the new run predicts every earlier task as
    `run` does, bit for bit. Raises Mistake for anything the caller can put right, before anything is written.
    """
    joined, new = join(run, recipe, data, overrides), run_for(recipe, out)
    return train_recipe(joined, new, resume=resume, overwrite=overwrite, force=force, listener=listener)


def join(
    run: str | Path,
    recipe: str | Path | Mapping[str, Any],
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe of the model that results: a run's tasks and modules, frozen, and behind them the new ones.

    Raises Mistake where the new recipe names an encoder, or a task that the run has.
    """
    base = Run.open(run)
    before, added = base.recipe(), read_recipe(recipe, overrides, data)
    _check(base, before, added)
    modules = [*(plan_for(plan, before.tasks) for plan in before.modules)]
    modules += [plan_for(plan, added.tasks) for plan in added.modules]
    joined = added.model_copy(
        update={
            "base": Base(run=str(base.folder.resolve()), tasks=tuple(before.tasks)),
            "encoder": before.encoder,
            "tasks": {name: _placed(task, before, added) for name, task in before.tasks.items()} | added.tasks,
            "modules": tuple(modules),
            "stages": tuple(
                stage.model_copy(update={"tasks": stage.tasks or tuple(added.tasks)}) for stage in added.stages
            ),
        }
    )
    return joined.without_lines()  # its entries stand elsewhere than in the file


def _check(base: Run, before: Recipe, added: Recipe) -> None:
    problems = []
    if added.base is not None:
        said = "this recipe belongs to a run that added tasks; `mtbert train` repeats it"
        problems.append(added.say(("base",), said))
    elif "encoder" in added.model_fields_set:
        problems.append(added.say(("encoder",), f"it comes from {base.folder} and is frozen; leave this out"))
    problems += [
        added.say(
            ("tasks", name),
            f"{base.folder} already has a task '{name}' (its tasks: {', '.join(before.tasks)}); name new tasks only",
        )
        for name in added.tasks
        if name in before.tasks
    ]
    if problems:
        raise Mistake("\n".join(problems))


def _placed(task: Task, before: Recipe, added: Recipe) -> Task:
    """The task with its files found from the new recipe's data folder, but for those that only training reads."""
    task = task.model_copy(update={"unlabelled": None})
    if before.data == added.data:
        return task
    sources = {split: before.source(task.name, split) for split in ("train", "dev", "test")}
    hub = None if task.hub is None else task.hub.model_copy(update={"name": _hub_name(task.hub.name, sources.values())})
    return task.model_copy(update={"hub": hub} | {split: _written(source) for split, source in sources.items()})


def _written(source: Any) -> Any:
    """A source as a recipe says it from any data folder."""
    if isinstance(source, (list, tuple)):
        return [str(path) for path in source]
    if isinstance(source, HubSplit):
        return source.split
    return None if source is None else str(source)


def _hub_name(name: str, sources: Iterable[Any]) -> str:
    """The full path of a folder that is laid out as a data set of the hub, and any other name as it is."""
    return next((source.name for source in sources if isinstance(source, HubSplit)), name)
