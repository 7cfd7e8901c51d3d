"""Compare recipes honestly: run what the plan lacks, and say what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from mtbert.comparison.baselines import APART
from mtbert.comparison.cautions import about_folds, cautions, differing_machines, environments
from mtbert.comparison.contrasts import OVERALL, Samples, contrasts
from mtbert.comparison.declare import experiment_of, first_recipe
from mtbert.comparison.execution import Told, run_missing, tidy
from mtbert.comparison.leakage import leaks
from mtbert.comparison.measured import constant_predictions, labels_of, metrics_of, readings
from mtbert.comparison.methods import content_of
from mtbert.comparison.outcomes import Outcome, choose, outcome, overall
from mtbert.comparison.plan import Plan, read_plan
from mtbert.comparison.result import Comparison, Row
from mtbert.comparison.splits import reporting_rows, with_splits, write_folds, write_splits
from mtbert.comparison.written import write
from mtbert.data.tables import Rows
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.data import read_splits
from mtbert.runs.listener import Listener
from mtbert.runs.lock import in_turn
from mtbert.runs.writing import write_whole

COMMANDS = "commands.json"


def compare(plan: Plan, folder: Path, command: str, listener: Listener, told: Told) -> str | None:
    """Run what the plan lacks in its folder; the reason where the listener asked to stop before all was done."""
    recipe = first_recipe(plan.methods)
    _check(plan, folder)
    with in_turn(folder):  # several processes may begin at once
        plan.declare(folder)
        _remember(folder, command)
        if plan.folds:
            write_folds(recipe, folder / "dev", len(plan.folds))
        else:
            write_splits(recipe, plan.splits)
    reason = run_missing(plan.trials(), folder, listener, told)
    if reason is None:
        runs = plan.runs(chosen(plan, recipe, folder))
        reason = run_missing(runs, folder, listener, told)
        tidy([*plan.trials(), *runs], folder)
    return reason


def _check(plan: Plan, folder: Path) -> None:
    """Say what is wrong with any recipe before the first one runs, and before a plan is declared that it is part of."""
    if read_plan(folder) is not None:
        return
    for method in plan.methods:
        if not method.baseline:
            experiment_of(method.name, next(iter(next(iter(method.candidates.values())).values())), len(plan.folds))


def chosen(plan: Plan, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Method -> the candidate that runs: the best of its trials, the only one, or, in an A/A check, the first's."""
    best = {method.name: next(iter(method.candidates)) for method in plan.methods}
    for name, scores in choose(plan.trials(), recipe.tasks, folder).items():
        best[name] = max(scores, key=scores.__getitem__)
    first = plan.methods[0].name
    return best | {method.name: best[first] for method in plan.methods if method.other_seeds}


def findings(plan: Plan, folder: Path) -> Comparison | None:
    """What the blocks that are whole say; None before the first of them is."""
    reporting = _reporting(plan)
    recipe, by_fold = reporting[0], [_rows(one) for one in reporting]
    samples = _samples(plan, recipe, by_fold, folder)
    if samples is None:
        return None
    outcomes, blocks = samples.outcomes, samples.blocks
    first, *others = [method.name for method in plan.methods]
    checks = [method.name for method in plan.methods if method.other_seeds]
    against_apart = [name for name in (first, *others) if name != APART and name not in checks]
    trials = choose(plan.trials(), recipe.tasks, folder)
    picked = chosen(plan, recipe, folder)
    constant = [metrics_of(rows, constant_predictions(one, rows)) for one, rows in zip(reporting, by_fold, strict=True)]
    runs = [run.run for some in outcomes.values() for one in some for run in one.runs]
    return Comparison(
        commands=_commands(folder),
        facts={
            "mtbert": version("mtbert"),
            "budget": plan.asked["budget"],
            "blocks": blocks,
            "margin": plan.margin,
            "rows": _said_of_rows(plan, by_fold),
            "readings": readings(folder),
            "folds": len(plan.folds),
        },
        rows=[
            Row.of(
                method.name,
                outcomes[method.name],
                recipe.tasks,
                baseline=method.baseline,
                candidate=picked[method.name] if len(method.candidates) > 1 else None,
            )
            for method in plan.methods
        ],
        constant={OVERALL: fmean(overall(recipe.tasks, one) for one in constant)}
        | {name: fmean(task.score(one[name]) for one in constant) for name, task in recipe.tasks.items()},
        contrasts=contrasts(samples, others, first, plan.margin, plan.blocks, checks),
        against_apart=contrasts(samples, against_apart, APART, plan.margin, plan.blocks) if APART in outcomes else [],
        trials=trials,
        leaks=[
            leak
            for one, rows in zip(reporting, by_fold, strict=True)
            for leak in leaks(rows, read_splits(one, list(rows), ["train"])["train"])
        ],
        cautions=[
            *cautions(plan.methods, plan.tuned),
            *(about_folds(bool(plan.trials())) if plan.folds else []),
            *differing_machines(folder, runs),
        ],
        unfinished=None if blocks == plan.blocks else f"{blocks} of {plan.blocks} blocks are whole",
        environments=environments(folder, runs),
    )


def sampled(plan: Plan, folder: Path) -> Samples | None:
    """The scores of every method in the blocks that are whole; None before the first of them is."""
    if read_plan(folder) is None:
        return None
    reporting = _reporting(plan)
    return _samples(plan, reporting[0], [_rows(one) for one in reporting], folder)


def report(plan: Plan, folder: Path) -> tuple[Comparison, list[Path]] | None:
    """The findings and the files that hold them, tables and pictures; None before the first block is whole."""
    found = findings(plan, folder)
    return None if found is None else (found, [*write(found, folder), *found.draw(folder)])


def _reporting(plan: Plan) -> list[Recipe]:
    """The recipe of the first method, its tasks with the rows that report; one for each fold."""
    content = content_of(first_recipe(plan.methods))
    return [read_recipe(with_splits(content, splits)) for splits in plan.by_fold]


def _rows(recipe: Recipe) -> dict[str, Rows]:
    return {task: reporting_rows(recipe, task) for task in recipe.tasks}


def _samples(plan: Plan, recipe: Recipe, by_fold: Sequence[Mapping[str, Rows]], folder: Path) -> Samples | None:
    outcomes = _outcomes(plan, recipe, folder)
    blocks = min(len(some) for some in outcomes.values())
    if blocks == 0:
        return None
    labels = [{task: labels_of(some) for task, some in rows.items()} for rows in by_fold]
    folds = [plan.fold(block) for block in range(1, blocks + 1)]
    tasks = {name: rows.task for name, rows in by_fold[0].items()}  # with classes that the recipe leaves to the data
    return Samples(tasks, labels, {name: some[:blocks] for name, some in outcomes.items()}, folds)


def _outcomes(plan: Plan, recipe: Recipe, folder: Path) -> dict[str, list[Outcome]]:
    """Method -> its outcomes in the blocks from the first on that have one."""
    runs = plan.runs(chosen(plan, recipe, folder))
    found: dict[str, list[Outcome]] = {}
    for method in plan.methods:
        some = found.setdefault(method.name, [])
        for block in range(1, plan.blocks + 1):
            one = outcome([run for run in runs if run.method is method and run.block == block], folder)
            if one is None:
                break
            some.append(one)
    return found


def _said_of_rows(plan: Plan, by_fold: Sequence[Mapping[str, Rows]]) -> dict[str, str]:
    if plan.folds:
        said = f"in {len(plan.folds)} folds of the training file: each reports once a seed, the next one selects"
        return {task: f"{sum(len(rows[task]) for rows in by_fold):,} {said}" for task in by_fold[0]}
    [rows] = by_fold
    cut = "half of dev, by a hash of the text; the other half selects checkpoints (test has no labels)"
    return {
        task: f"{len(some):,}, {cut if plan.splits[task].cut else 'test; dev selects'}" for task, some in rows.items()
    }


def _commands(folder: Path) -> list[str]:
    path = folder / COMMANDS
    found: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def _remember(folder: Path, command: str) -> None:
    known: Sequence[Any] = _commands(folder)
    if command not in known:
        write_whole(folder / COMMANDS, json.dumps([*known, command], indent=2, ensure_ascii=False) + "\n")
