"""Score the kept model of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtbert.data.perturbation import perturbed
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device
from mtbert.runs.build import examples_of
from mtbert.runs.data import read_splits
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.evaluation import Scores, evaluate


def evaluate_run(
    folder: str | Path,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    perturbed_by: int | None = None,
) -> Scores:
    """Score a run's kept model on the dev sets of these tasks, or of all that the run has trained.

    With the seed `perturbed_by`, on texts with typos and changed case instead. Raises Mistake for a task that the run
    does not have.
    """
    run = Run.open(folder)
    recipe = run.recipe(data)
    for name in tasks or ():
        if name not in recipe.tasks:
            raise Mistake(unknown("task", name, recipe.tasks))
    model, tokenizer = load_model(run.part(BEST))
    rows = read_splits(recipe, tasks or recipe.learned, ["dev"])
    if perturbed_by is not None:
        rows = {"dev": {name: perturbed(read, perturbed_by) for name, read in rows["dev"].items()}}
    sets = examples_of(recipe, rows, tokenizer, model.encoder.shape.positions)
    return evaluate(model.to(best_device()), sets["dev"])
