"""Several runs as one, whose model says what theirs say on average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.model.devices import best_device
from mtbert.model.ensemble import Ensemble, differences, save_ensemble
from mtbert.model.files import OUTPUTS, write_json
from mtbert.model.multitask import MultiTask
from mtbert.model.tensors import save_tensors
from mtbert.recipe.schema import Recipe
from mtbert.runs.build import examples_of
from mtbert.runs.data import read_splits
from mtbert.runs.folder import BEST, ENVIRONMENT, SCORES, Run
from mtbert.scoring.evaluation import constant_scores, evaluate


def ensemble(runs: Sequence[str | Path], out: str | Path, data: str | Path | None = None) -> Run:
    """Make a run of several: its model averages what the kept models of these say, and is scored on their dev rows.

    Of classes the mean of the probabilities is said, of scores the mean of the scores. Tasks and data are the first
    run's. The folder `out` needs nothing of the runs afterwards. Raises Mistake where it is not empty, and for runs
    that do not have the same tasks, classes, ranges, texts and tokenizer; nothing is written then.
    """
    opened = [Run.open(folder) for folder in runs]
    if len({run.folder.resolve() for run in opened}) < max(2, len(opened)):
        raise Mistake("an ensemble is of two runs or more, each named once")
    new = Run(out)
    if new.exists or new.strangers:
        raise Mistake(f"{new.folder} is not empty; name another folder with --out")
    recipe = opened[0].recipe(data)
    members = [load_model(run.part(BEST)) for run in opened]
    _check(opened, members)
    model = Ensemble([member for member, _ in members]).eval().to(best_device())
    content, outputs = _scored(recipe, model, members[0][1])

    def write(folder: Path) -> None:
        write_json(content, folder / SCORES)
        save_tensors(outputs, folder / OUTPUTS)
        save_ensemble(members, folder)

    new.folder.mkdir(parents=True, exist_ok=True)
    new.replace(BEST, write)
    new.write_json(ENVIRONMENT, opened[0].environment)
    new.write_json(SCORES, content)
    new.begin(recipe.as_yaml())  # last, as a run is known by its recipe
    return new


def _check(runs: Sequence[Run], members: Sequence[tuple[MultiTask, Tokenizer]]) -> None:
    (first, tokenizer), tasks = members[0], list(members[0][0].tasks.values())
    for run, (model, own) in zip(runs[1:], members[1:], strict=True):
        found = differences(str(runs[0].folder), tasks, str(run.folder), list(model.tasks.values()))
        if own.definition != tokenizer.definition:
            found.append(f"{run.folder} has another tokenizer than {runs[0].folder}")
        shared = model.tasks.keys() & first.tasks.keys()
        if any(bool(model.beside[task]) != bool(first.beside[task]) for task in shared):
            found.append(
                f"the heads of {run.folder} read other features beside the vector than those of {runs[0].folder}"
            )
        if found:
            raise Mistake(f"these runs make no ensemble: {'; '.join(found)}")


def _scored(recipe: Recipe, model: Ensemble, tokenizer: Tokenizer) -> tuple[dict[str, object], dict[str, Tensor]]:
    rows = read_splits(recipe, recipe.learned, ["train", "dev"])
    sets = examples_of(model, rows, tokenizer)
    scores = evaluate(model, sets["dev"])
    constant = constant_scores(model.tasks, sets["train"], sets["dev"])
    content = {"stage": 0, "step": 0, "keep": recipe.keep, "dev": scores.as_dict(), "constant": constant.as_dict()}
    return content, dict(scores.outputs)
