"""Compare methods: every row of a grid, with every seed, scored on dev; results are written as they come.

    python experiments/run.py experiments/modules.yaml --data ../shared/data --out runs/modules

A grid names a recipe, overrides common to all rows, seeds, and rows: a name and its overrides (`seeds: N` in a row
takes the first N seeds only; `apart: true` trains one model a task, each with its share of the steps by training rows).
What a grid does not say it takes from the one it is `like`, by the rule of recipes.
What is done already is not done again, so a run that was cut off goes on; several processes may share one folder, each
takes what no other has begun (remove `*.claim` files after a kill). At the end, and with `--table`, prints the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mtbert
from mtbert.data.tables import read_rows
from mtbert.data.tasks import Task
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.text import merged, read_written, with_those_it_is_like
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.runs.log import Look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, run nothing")
    given = parser.parse_args()
    grid = _read(given.grid)
    tasks = read_recipe(given.grid.parent / grid["recipe"], [], given.data).tasks
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.table:
        for name, row, seed in _runs(grid):
            _run(grid, given, tasks, name, row, seed)
    _print_table(grid, given.out, tasks)


def _read(path: Path) -> dict[str, Any]:
    return merged([written.content for written in with_those_it_is_like(read_written(path))])


def _runs(grid: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """Seed by seed, so that a run that is cut off has every row at least once."""
    for number, seed in enumerate(grid["seeds"]):
        for name, given in grid["rows"].items():
            row: dict[str, Any] = {"set": given} if isinstance(given, list) else given
            if number < row.get("seeds", len(grid["seeds"])):
                yield name, row, seed


def _run(
    grid: Mapping[str, Any],
    given: argparse.Namespace,
    tasks: Mapping[str, Task],
    name: str,
    row: Mapping[str, Any],
    seed: int,
) -> None:
    place = given.out / f"{name.replace(' ', '-').replace('/', '-')}-{seed}"
    result, claim = place.with_suffix(".json"), place.with_suffix(".claim")
    if result.exists():
        return
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return
    recipe = given.grid.parent / grid["recipe"]
    overrides = [*grid.get("common", []), *row.get("set", []), f"seed={seed}"]
    started = time.perf_counter()
    parts = _apart(recipe, overrides, given.data) if row.get("apart") else {"all": overrides}
    scores: dict[str, Any] = {}
    perturbed: dict[str, Any] = {}
    shares: list[float] = []
    for part, chosen in parts.items():
        folder = place.with_name(f"{place.name}-{part}")
        run = mtbert.train(recipe, given.data, folder, chosen, overwrite=True)
        found = run.scores["dev"]["tasks"]
        scores |= found if part == "all" else {part: found[part]}
        shares += _penalties(run)
        if "perturbed" in grid:
            found = evaluate_run(folder, given.data, perturbed_by=grid["perturbed"]).tasks
            perturbed |= found if part == "all" else {part: found[part]}
        for weights in ("best", "last"):
            shutil.rmtree(folder / weights)
    seconds = time.perf_counter() - started
    content = {"row": name, "seed": seed, "overrides": overrides, "seconds": seconds, "dev": scores}
    content |= {"perturbed": perturbed} if perturbed else {}
    content |= {"penalties": statistics.mean(shares)} if shares else {}
    result.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    claim.unlink()
    print(f"{name}, seed {seed}: {seconds:.0f} s, overall {_overall(scores, tasks):.4f}", flush=True)


def _penalties(run: Run) -> list[float]:
    """The share of the gradient that came of penalties, whenever a task was looked at."""
    looks = [look.seen.values() for look in run.log.only(Look) if look.observer == "penalties"]
    return [1 - share["loss"] for tasks in looks for share in tasks]


def _apart(recipe: Path, overrides: list[str], data: Path) -> dict[str, list[str]]:
    """One model a task: its overrides, with the task's share of the steps."""
    read = read_recipe(recipe, overrides, data)
    steps = read.stages[0].steps
    assert steps is not None, "models apart share a number of steps: set stages.0.steps"
    sizes = {task: len(read_rows(read.tasks[task], read.source(task, "train"))) for task in read.tasks}
    total = sum(sizes.values())
    return {
        task: [*overrides, f"stages.0.tasks=[{task}]", f"keep={task}", f"stages.0.steps={round(steps * size / total)}"]
        for task, size in sizes.items()
    }


def _overall(scores: Mapping[str, dict[str, float]], tasks: Mapping[str, Task]) -> float:
    return statistics.mean(tasks[name].normalised(metrics) for name, metrics in scores.items())


def _print_table(grid: Mapping[str, Any], out: Path, tasks: Mapping[str, Task]) -> None:
    """Means over seeds, with the half range between them, as Markdown; rows in the grid's order."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*.json"))]
    robust, regularised = "perturbed" in grid, any("penalties" in one for one in results)
    head = ["row", "seeds", "overall", *(["perturbed", "drop"] if robust else []), *tasks]
    head += [*(["of the gradient"] if regularised else []), "seconds a run"]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name in grid["rows"]:
        mine = [result for result in results if result["row"] == name]
        if not mine:
            continue
        cells = [_spread([_overall(one["dev"], tasks) for one in mine])]
        if robust:
            cells += [_spread([_overall(one["perturbed"], tasks) for one in mine])]
            cells += [_spread([_overall(one["dev"], tasks) - _overall(one["perturbed"], tasks) for one in mine])]
        # a task's first metric is the one it is judged by
        cells += [f"{statistics.mean(next(iter(one['dev'][task].values())) for one in mine):.4f}" for task in tasks]
        if regularised:
            cells.append(f"{statistics.mean(one.get('penalties', 0.0) for one in mine):.2g}")
        seconds = statistics.mean(one["seconds"] for one in mine)
        print("| " + " | ".join([name, str(len(mine)), *cells, f"{seconds:.0f}"]) + " |")


def _spread(values: list[float]) -> str:
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.4f}" + (f" ± {half:.4f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
