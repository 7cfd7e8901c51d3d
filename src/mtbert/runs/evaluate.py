"""Score the kept model of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtbert.data.batches import Examples
from mtbert.data.formats.base import Quotes
from mtbert.data.perturbation import perturbed
from mtbert.data.streams import RowStream, stream_rows
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, Mistakes, unknown
from mtbert.model.devices import best_device
from mtbert.model.ensemble import Answering, load_answering
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import examples_of
from mtbert.runs.data import stream_splits
from mtbert.runs.decisions import read_decisions
from mtbert.runs.folder import BEST, Run
from mtbert.scoring.decisions import Decision
from mtbert.scoring.evaluation import Scores, evaluate

SPLITS = ("dev", "test", "train")


@dataclass(frozen=True)
class Scored:
    """A run's kept model, and what it is scored on."""

    recipe: Recipe
    model: Answering
    tokenizer: Tokenizer
    sets: dict[str, RowStream]  # task -> labelled rows
    decisions: dict[str, Decision] = field(default_factory=dict)  # task -> what `mtbert calibrate` fitted
    left_out: dict[str, str] = field(default_factory=dict)  # task -> why it has no labels there

    def whole(self) -> dict[str, Examples]:
        """All rows of every task at once, tokenised; raises Mistakes where a task was left out."""
        if self.left_out:
            raise Mistakes(self.left_out.values())
        rows = {name: stream.whole() for name, stream in self.sets.items()}
        return examples_of(self.model, {"whole": rows}, self.tokenizer)["whole"]


def evaluate_run(
    folder: str | Path,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    perturbed_by: int | None = None,
    split: str = "dev",
) -> Scores:
    """Score the likeliest classes that a run's kept model says on a split of these tasks, or of all that it trained.

    With the seed `perturbed_by`, on texts with typos and changed case instead. Raises Mistake for a task that the run
    does not have, and for one without rows of the split.
    """
    scored = to_be_scored(folder, data, tasks, perturbed_by, split)
    return evaluate(scored.model, scored.whole())


def to_be_scored(
    folder: str | Path,
    data: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    perturbed_by: int | None = None,
    split: str = "dev",
    source: Any = None,
    quotes: Quotes | None = None,
) -> Scored:
    """What `evaluate_run` scores, tasks without labels in the split left out unless none has any; with a `source`, a
    labelled file or table, its rows for the one task named (which a run with one task need not be told), its quotes
    meant as the task's recipe says unless they are given.
    """
    run = Run.open(folder)
    recipe = run.recipe(data)
    for name in tasks or ():
        if name not in recipe.tasks:
            raise Mistake(unknown("task", name, recipe.tasks))
    if split not in SPLITS:
        raise Mistake(unknown("split", split, SPLITS))
    chosen = list(tasks or recipe.learned)
    if source is not None and len(tasks or recipe.tasks) != 1:
        raise Mistake(f"a file is scored for one task: name it with --task (tasks: {', '.join(recipe.tasks)})")
    if source is None:
        sets, left_out = stream_splits(recipe, chosen, split)
    else:
        changed = {} if quotes is None else {"quotes": quotes}
        (name,) = chosen
        sets = {name: stream_rows(recipe.tasks[name].model_copy(update=changed), source, settled=True)}
        left_out = {}
    model, tokenizer = load_answering(run.part(BEST))
    if perturbed_by is not None:

        def change(rows: Rows) -> Rows:
            return perturbed(rows, perturbed_by)

        sets = {name: stream.mapped(change) for name, stream in sets.items()}
    decided = read_decisions(run.part(BEST), model.tasks)
    decisions = {name: one.decision for name, one in decided.items() if name in sets}
    return Scored(recipe, model.to(best_device()), tokenizer, sets, decisions, left_out)
