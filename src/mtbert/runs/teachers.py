"""What the teachers of a stage say of the rows that it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtbert.data.batches import Examples, ExampleSet
from mtbert.data.kinds.base import Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import tasks_in
from mtbert.model.devices import autocast, best_device
from mtbert.model.ensemble import load_answering
from mtbert.model.original import Original
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.evaluation import outputs_of


def check_teachers(runs: Sequence[str], tasks: Mapping[str, Task]) -> None:
    """Raise Mistake where a run is not there, or says something else of these tasks, or of one of them nobody does."""
    untaught = set(tasks)
    for name in runs:
        there = tasks_in(_kept(name))
        if not there.keys() & tasks.keys():
            raise Mistake(f"teacher {name} has none of the tasks {', '.join(tasks)} (its tasks: {', '.join(there)})")
        untaught -= there.keys()
        for task in (tasks[shared] for shared in there if shared in tasks):
            said = there[task.name]
            if (said.kind, said.meaning, said.ends) != (task.kind, task.meaning, task.ends):
                raise Mistake(
                    f"teacher {name} says {said.meaning} of task '{task.name}', which is to say {task.meaning}: "
                    "classes or ranges differ"
                )
    if untaught:
        raise Mistake(f"no teacher has the task {', '.join(sorted(untaught))}: name one that does, or limit the stage")


def check_own_teachers(tasks: Mapping[str, Task]) -> None:
    """Raise Mistake where teachers with other seeds would learn from rows that the student does not have."""
    for task in tasks.values():
        if task.at_most("train") is not None:
            raise Mistake(
                f"tasks.{task.name}.limit draws the training rows by the seed, and teachers that are trained first "
                "have other seeds, and so would learn from other rows: train them as runs of their own, and name these"
            )


def taught(
    runs: Sequence[str],
    sets: Mapping[str, ExampleSet],
    tokenizer: Tokenizer,
    original: Original | None,
    precision: torch.dtype,
) -> dict[str, Tensor]:
    """Task -> what those teachers that have it say on average of each row of its set: (N, outputs).

    What the student's original encoder has read for the sets, teachers that began with the same need not read again.
    Raises Mistake where a teacher has another tokenizer than the sets.
    """
    said: dict[str, list[Tensor]] = {task: [] for task in sets}
    for name in runs:
        with (
            torch.random.fork_rng()
        ):  # a model is drawn before its weights are read: the student's dropout stays as it is
            model, own = load_answering(_kept(name))
        if own.definition != tokenizer.definition:
            raise Mistake(f"teacher {name} has another tokenizer than the model that is to learn from it")
        device = best_device()
        model.to(device)
        alike = original is not None and model.original is not None and original.same_as(model.original)
        for task, examples in ((task, examples) for task, examples in sets.items() if task in model.tasks):
            positions, apart = model.encoder.shape.positions, model.apart([task])
            asked = Examples(model.tasks[task], examples.tokens, tokenizer, positions, apart=apart)
            if alike and apart is not None and examples.vectors():
                asked.vectors = examples.vectors
            with autocast(device, precision):
                said[task].append(outputs_of(model, asked).float())
    return {task: sets[task].task.mean_of(outputs) for task, outputs in said.items()}


def _kept(run: str) -> Path:
    return Run.open(Path(run).expanduser()).part(BEST)
