"""Compare recipes honestly: run what the plan lacks, and say what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtbert.comparison.baselines import APART
from mtbert.comparison.cautions import cautions, differing_machines, environments
from mtbert.comparison.contrasts import OVERALL, Samples, contrasts
from mtbert.comparison.declare import first_recipe
from mtbert.comparison.execution import Told, run_missing, tidy
from mtbert.comparison.leakage import leaks
from mtbert.comparison.measured import constant_predictions, labels_of, metrics_of, readings
from mtbert.comparison.methods import content_of
from mtbert.comparison.outcomes import Outcome, choose, outcome, overall
from mtbert.comparison.plan import Plan
from mtbert.comparison.result import Comparison, Row
from mtbert.comparison.splits import reporting_rows, with_splits, write_splits
from mtbert.comparison.written import write
from mtbert.data.tables import Rows
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.data import read_splits
from mtbert.runs.listener import Listener
from mtbert.runs.writing import write_whole

COMMANDS = "commands.json"


def compare(plan: Plan, folder: Path, command: str, listener: Listener, told: Told) -> str | None:
    """Run what the plan lacks in its folder; the reason where the listener asked to stop before all was done."""
    plan.declare(folder)
    _remember(folder, command)
    recipe = first_recipe(plan.methods)
    write_splits(recipe, plan.splits)
    reason = run_missing(plan.trials(), folder, listener, told)
    if reason is None:
        runs = plan.runs(chosen(plan, recipe, folder))
        reason = run_missing(runs, folder, listener, told)
        tidy([*plan.trials(), *runs], folder)
    return reason


def chosen(plan: Plan, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Method -> the candidate that runs: the best of its trials, the only one, or, in an A/A check, the first's."""
    best = {method.name: next(iter(method.candidates)) for method in plan.methods}
    for name, scores in choose(plan.trials(), recipe.tasks, folder).items():
        best[name] = max(scores, key=scores.__getitem__)
    first = plan.methods[0].name
    return best | {method.name: best[first] for method in plan.methods if method.other_seeds}


def findings(plan: Plan, folder: Path) -> Comparison | None:
    """What the blocks that are whole say; None before the first of them is."""
    recipe = _reporting(plan)
    rows = {task: reporting_rows(recipe, task) for task in recipe.tasks}
    samples = _samples(plan, recipe, rows, folder)
    if samples is None:
        return None
    outcomes, blocks = samples.outcomes, samples.blocks
    first, *others = [method.name for method in plan.methods]
    checks = [method.name for method in plan.methods if method.other_seeds]
    against_apart = [name for name in (first, *others) if name != APART and name not in checks]
    trials = choose(plan.trials(), recipe.tasks, folder)
    picked = chosen(plan, recipe, folder)
    constant = metrics_of(recipe, rows, constant_predictions(recipe, rows))
    runs = [run.run for some in outcomes.values() for one in some for run in one.runs]
    return Comparison(
        commands=_commands(folder),
        facts={
            "mtbert": version("mtbert"),
            "budget": plan.asked["budget"],
            "blocks": blocks,
            "margin": plan.margin,
            "rows": _said_of_rows(plan, rows),
            "readings": readings(folder),
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
        constant={OVERALL: overall(recipe.tasks, constant)}
        | {task: recipe.tasks[task].score(constant[task]) for task in rows},
        contrasts=contrasts(samples, others, first, plan.margin, plan.blocks, checks),
        against_apart=contrasts(samples, against_apart, APART, plan.margin, plan.blocks) if APART in outcomes else [],
        trials=trials,
        leaks=leaks(rows, read_splits(recipe, list(rows), ["train"])["train"]),
        cautions=[*cautions(plan.methods, bool(plan.asked["rates"])), *differing_machines(folder, runs)],
        unfinished=None if blocks == plan.blocks else f"{blocks} of {plan.blocks} blocks are whole",
        environments=environments(folder, runs),
    )


def sampled(plan: Plan, folder: Path) -> Samples | None:
    """The scores of every method in the blocks that are whole; None before the first of them is."""
    recipe = _reporting(plan)
    return _samples(plan, recipe, {task: reporting_rows(recipe, task) for task in recipe.tasks}, folder)


def report(plan: Plan, folder: Path) -> tuple[Comparison, list[Path]] | None:
    """The findings and the files that hold them, tables and pictures; None before the first block is whole."""
    found = findings(plan, folder)
    return None if found is None else (found, [*write(found, folder), *found.draw(folder)])


def _reporting(plan: Plan) -> Recipe:
    """The recipe of the first method, its tasks with the rows that report."""
    return read_recipe(with_splits(content_of(first_recipe(plan.methods)), plan.splits))


def _samples(plan: Plan, recipe: Recipe, rows: Mapping[str, Rows], folder: Path) -> Samples | None:
    outcomes = _outcomes(plan, recipe, folder)
    blocks = min(len(some) for some in outcomes.values())
    if blocks == 0:
        return None
    labels = {task: labels_of(some) for task, some in rows.items()}
    return Samples(recipe.tasks, labels, {name: some[:blocks] for name, some in outcomes.items()})


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


def _said_of_rows(plan: Plan, rows: Mapping[str, Rows]) -> dict[str, str]:
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
