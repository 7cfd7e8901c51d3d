"""Comparisons from end to end on tiny recipes: what is declared, run, cut off, taken up again, and found."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mtbert.comparison import execution, measured
from mtbert.comparison.baselines import APART
from mtbert.comparison.budget import Budget
from mtbert.comparison.compare import chosen, compare, findings, report
from mtbert.comparison.contrasts import OVERALL
from mtbert.comparison.declare import Asked, declare, first_recipe, training_rows
from mtbert.comparison.execution import claimed, run_folder, run_missing
from mtbert.comparison.measured import Measured, read_measured, read_predictions, readings
from mtbert.comparison.methods import read_methods
from mtbert.comparison.outlook import outlook
from mtbert.comparison.pictures import pareto_front
from mtbert.comparison.plan import Plan
from mtbert.comparison.result import Comparison
from mtbert.data.tables import read_table
from mtbert.errors import Mistake
from mtbert.runs import lock
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Step
from mtbert.training.trainer import Record
from tests.support.cut_off import Kill, Killed
from tests.support.small import recipe_over, write_small_data

Written = Callable[..., Path]


def write(folder: Path, name: str, **changes: Any) -> Path:
    """A tiny recipe in a file beside its data."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe_over(folder / "data") | {"data": "data"} | changes, sort_keys=False))
    return path


def planned(folder: Path, *arguments: Path | str, blocks: int = 2, out: str = "out", **asked: Any) -> Plan:
    methods = read_methods([str(argument) for argument in arguments], None)
    return declare(Asked(methods, blocks, asked.pop("budget", Budget("steps", 6)), **asked), folder / out)


def run(plan: Plan, folder: Path, listener: Listener | None = None, out: str = "out") -> str | None:
    return compare(plan, folder / out, "mtbert compare", listener or Listener(), lambda one: None)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_small_data(tmp_path / "data")
    return tmp_path


@pytest.fixture
def two(here: Path) -> tuple[Path, Path]:
    """A recipe, and the same with adapters."""
    return write(here, "plain"), write(here, "adapter", modules=["adapter"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """A comparison with all baselines, run to its end."""
    folder = tmp_path_factory.mktemp("whole")
    write_small_data(folder / "data")
    plan = planned(folder, write(folder, "plain"), write(folder, "adapter", modules=["adapter"]), baselines=True)
    assert run(plan, folder) is None
    return folder / "out", plan


@pytest.fixture(scope="module")
def found(whole: tuple[Path, Plan]) -> Comparison:
    comparison = findings(whole[1], whole[0])
    assert comparison is not None
    return comparison


# ---- what is found


def test_every_method_stands_in_the_table_with_its_runs_and_costs(whole: tuple[Path, Plan], found: Comparison) -> None:
    names = ["plain", "adapter", APART, "uniform sum", "fixed weights", "A/A: plain again"]
    assert [row.method for row in found.rows] == names
    assert [row.seeds for row in found.rows] == [[100, 200]] * 5 + [[150, 250]]
    for row in found.rows:
        assert all(Run.open(run_folder(whole[0], name)) for block in row.runs for name in block)
        assert len(row.runs[0]) == (3 if row.method == APART else 1)
        assert row.costs["examples"] > 0
        assert set(row.scores) == {OVERALL, "mood", "same", "near"}
    assert set(found.environments) == {name for row in found.rows for block in row.runs for name in block}


def test_costs_are_those_of_the_log(whole: tuple[Path, Plan], found: Comparison) -> None:
    [row] = [row for row in found.rows if row.method == "adapter"]
    logs = [list(Run(run_folder(whole[0], name)).log.only(Step)) for [name] in row.runs]
    assert row.costs["steps"] == np.mean([len(log) for log in logs]) == 6
    assert row.costs["examples"] == np.mean([sum(step.examples for step in log) for log in logs])
    assert row.costs["wall_seconds"] >= np.mean([sum(step.seconds for step in log) for log in logs])


def test_scores_are_those_of_the_predictions_on_the_reporting_rows(whole: tuple[Path, Plan], found: Comparison) -> None:
    tasks = first_recipe(whole[1].methods).tasks
    for block in (1, 2):
        predictions = read_predictions(whole[0], f"plain-block-{block}")
        for name, task in tasks.items():
            rows = read_table(whole[1].splits[name].reporting).columns
            labels = np.array([task.read_label(cell) for cell in rows.column(task.label).to_pylist()])
            score = task.metrics(predictions[name], labels)[task.main]
            assert found.rows[0].blocks[block - 1][name] == pytest.approx(score)


def test_differences_are_paired_by_block(found: Comparison) -> None:
    rows = {row.method: row for row in found.rows}
    assert {(one.method, one.measure) for one in found.contrasts} == {
        (method, measure) for method in list(rows)[1:] for measure in found.measures
    }
    for one in found.contrasts:
        ours, theirs = rows[one.method].blocks, rows["plain"].blocks
        expected = [mine[one.measure] - other[one.measure] for mine, other in zip(ours, theirs, strict=True)]
        assert one.differences == pytest.approx(expected)
        assert one.interval.low <= one.mean <= one.interval.high
        assert str(one.verdict) == "cannot be told"
    assert {one.method for one in found.against_apart} == {"plain", "adapter", "uniform sum", "fixed weights"}


def test_trials_never_read_a_reporting_row_and_choose_by_dev(whole: tuple[Path, Plan], found: Comparison) -> None:
    folder, plan = whole
    assert {one.candidate for one in plan.trials()} == set(found.trials["fixed weights"])
    for one in plan.trials():
        result = read_measured(folder, one.name)
        assert result is not None
        assert result.reported == {}
        assert read_predictions(folder, one.name) == {}
    best = max(found.trials["fixed weights"], key=found.trials["fixed weights"].__getitem__)
    assert chosen(plan, first_recipe(plan.methods), folder)["fixed weights"] == best


def test_the_reporting_rows_are_read_once_a_run(whole: tuple[Path, Plan], found: Comparison) -> None:
    runs = [name for row in found.rows for block in row.runs for name in block]
    assert found.facts["readings"] == readings(whole[0]) == len(runs) == len(set(runs))


def test_weights_are_removed_once_a_run_is_measured(whole: tuple[Path, Plan]) -> None:
    assert not list(whole[0].rglob("*.safetensors"))


def test_the_files_say_what_the_terminal_says(whole: tuple[Path, Plan], found: Comparison) -> None:
    written = report(whole[1], whole[0])
    assert written is not None
    names = {path.name for path in written[1]}
    tables = {"table.md", "scores.csv", "costs.csv", "differences.csv", "result.json"}
    assert names == tables | {"forest.png", "forest.svg", "pareto.png", "pareto.svg"}
    scores = list(csv.DictReader((whole[0] / "scores.csv").read_text().splitlines()))
    assert [row["method"] for row in scores][-1] == "constant predictor"
    assert float(scores[0]["overall"]) == pytest.approx(found.rows[0].scores[OVERALL], abs=1e-4)
    content = json.loads((whole[0] / "result.json").read_text())
    assert content["contrasts"] == [one.as_dict() for one in found.contrasts]
    markdown = (whole[0] / "table.md").read_text()
    assert "- made by: mtbert compare" in markdown
    assert "caution: learning rates were not tuned" in markdown
    for row in found.rows:
        assert f"| {row.named} |" in markdown


def test_a_pareto_front_holds_what_nothing_beats_in_both() -> None:
    assert pareto_front([(3.0, 0.5), (1.0, 0.4), (2.0, 0.3), (3.0, 0.7), (4.0, 0.7)]) == [(1.0, 0.4), (3.0, 0.7)]


# ---- which rows select and which report


@pytest.mark.parametrize("test", ["20%", None])
def test_shares_of_a_training_file_are_learned_from_by_nobody(here: Path, test: str | None) -> None:
    tasks = recipe_over(here / "data")["tasks"]
    tasks = {"mood": tasks["mood"] | {"dev": "20%", "test": test}}
    first, second = write(here, "plain", tasks=tasks), write(here, "lora", tasks=tasks, modules=["lora"])
    plan = planned(here, first, second, blocks=1)
    run(plan, here)
    split = plan.splits["mood"]
    assert split.learning is not None
    files = [str(path) for path in (split.learning, split.selecting, split.reporting)]
    ids = [read_table(path).columns.column("id").to_pylist() for path in files]
    whole = read_table(here / "data" / "mood-train.tsv").columns
    assert sorted(chain.from_iterable(ids)) == sorted(whole.column("id").to_pylist())  # each row in one of the three
    texts = [set(read_table(path).columns.column("text").to_pylist()) for path in files]
    assert not texts[0] & (texts[1] | texts[2])
    assert len(ids[0]) == training_rows(first_recipe(plan.methods))["mood"] < whole.num_rows
    trained = Run.open(run_folder(here / "out", "plain-block-1")).recipe()
    assert Path(trained.source("mood", "train")) == Path(files[0])
    assert len(read_predictions(here / "out", "plain-block-1")["mood"]) == len(ids[2])


@pytest.mark.parametrize(
    "rows",
    ["id\ttext\n1\tgood film\n", "id\ttext\tmood\n1\tgood film\t-1\n2\tbad plot\t-1\n"],
    ids=["absent", "kept back"],
)
def test_dev_is_cut_in_two_where_test_has_no_labels(here: Path, rows: str) -> None:
    (here / "data" / "mood-test.tsv").write_text(rows)
    first, second = write(here, "plain"), write(here, "lora", modules=["lora"])
    plan = planned(here, first, second)
    assert {task: split.cut for task, split in plan.splits.items()} == {"mood": True, "same": False, "near": False}
    run(plan, here)
    halves = [
        read_table(path).columns.column("text").to_pylist()
        for path in (plan.splits["mood"].selecting, plan.splits["mood"].reporting)
    ]
    dev = read_table(here / "data" / "mood-dev.tsv").columns.column("text").to_pylist()
    assert sorted(halves[0] + halves[1]) == sorted(dev)
    assert not set(halves[0]) & set(halves[1])  # rows of the same text stand in the same half
    assert len(read_predictions(here / "out", "plain-block-1")["mood"]) == len(halves[1])
    assert len(read_predictions(here / "out", "plain-block-1")["same"]) == 5  # the test set


def test_texts_that_training_saw_are_counted(here: Path) -> None:
    rows = [*(here / "data" / "mood-train.tsv").read_text().splitlines()[:3], "9\tnever seen before\tlow"]
    (here / "data" / "mood-test.tsv").write_text("\n".join(rows) + "\n")
    plan = planned(here, write(here, "plain"), write(here, "lora", modules=["lora"]), blocks=1)
    run(plan, here)
    comparison = findings(plan, here / "out")
    assert comparison is not None
    leaks = {(leak.task, leak.learned): (leak.rows, leak.of) for leak in comparison.leaks}
    assert leaks["mood", "mood"] == (2, 3)


# ---- cut off and taken up again


class StopAfter(Listener):
    """Asks to stop after so many steps, once."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, record: Record) -> None:
        self.left -= 1

    def reason_to_stop(self) -> str | None:
        return "SIGTERM" if self.left == 0 else None


def results(folder: Path) -> dict[str, tuple[Any, Any]]:
    """What every run came to, without its seconds."""
    found = {}
    for path in sorted((folder / "measured").glob("*.json")):
        one = json.loads(path.read_text())
        predictions = {task: values.tolist() for task, values in read_predictions(folder, path.stem).items()}
        found[path.stem] = ({key: value for key, value in one.items() if "seconds" not in key}, predictions)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[Any, Any]]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_small_data(folder / "data")
    plan = planned(folder, write(folder, "plain"), write(folder, "adapter", modules=["adapter"]))
    run(plan, folder)
    return folder, results(folder / "out")


def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each run is measured from now on."""
    counted: Counter[str] = Counter()

    def count(one: Any, *rest: Any) -> Measured:
        counted[one.name] += 1
        return measured.measure(one, *rest)

    monkeypatch.setattr(execution, "measure", count)
    return counted


def test_a_comparison_killed_at_random_goes_on_with_nothing_lost_and_nothing_run_twice(
    undisturbed: tuple[Path, dict[str, tuple[Any, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = undisturbed
    counted = taken(monkeypatch)
    plan = planned(folder, folder / "plain.yaml", folder / "adapter.yaml", out="killed")
    generator = np.random.default_rng(5)
    for _ in range(10):
        try:
            run(plan, folder, Kill(steps=int(generator.integers(1, 8))), out="killed")
        except Killed:
            continue
    assert run(plan, folder, out="killed") is None
    assert results(folder / "killed") == expected
    assert set(counted.values()) == {1}
    assert readings(folder / "killed") == 4


def test_a_stopped_comparison_says_why_and_goes_on_from_the_step(
    undisturbed: tuple[Path, dict[str, tuple[Any, Any]]],
) -> None:
    folder, expected = undisturbed
    plan = planned(folder, folder / "plain.yaml", folder / "adapter.yaml", out="stopped")
    assert run(plan, folder, StopAfter(8), out="stopped") == "SIGTERM"
    assert list(results(folder / "stopped")) == ["plain-block-1"]
    begun = Run(run_folder(folder / "stopped", "adapter-block-1"))
    assert begun.stopped == "SIGTERM"
    assert run(plan, folder, out="stopped") is None
    assert results(folder / "stopped") == expected


def test_what_is_finished_says_that_it_is_unfinished_and_judges_nothing(
    undisturbed: tuple[Path, dict[str, tuple[Any, Any]]],
) -> None:
    folder, _ = undisturbed
    plan = planned(folder, folder / "plain.yaml", folder / "adapter.yaml", out="half")
    run(plan, folder, StopAfter(8), out="half")
    assert findings(plan, folder / "half") is None  # no block is whole
    run(plan, folder, StopAfter(8), out="half")
    comparison = findings(plan, folder / "half")
    assert comparison is not None
    assert comparison.unfinished == "1 of 2 blocks are whole"
    assert all("1 of 2 blocks" in one.verdict.why or "pairs" in one.verdict.why for one in comparison.contrasts)


def test_two_at_work_share_the_runs(
    undisturbed: tuple[Path, dict[str, tuple[Any, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = undisturbed
    monkeypatch.setattr(execution, "WAIT", 0.05)
    counted = taken(monkeypatch)
    plan = planned(folder, folder / "plain.yaml", folder / "adapter.yaml", out="shared")
    plan.declare(folder / "shared")
    # the other one has claimed a run, and gives it back when it is gone
    with claimed(folder / "shared", "plain-block-1") as ours:
        assert ours
        gone = threading.Timer(1.0, lambda: None)
        runs = plan.runs({method.name: "all" for method in plan.methods})
        done: list[str] = []
        worker = threading.Thread(
            target=lambda: run_missing(runs, folder / "shared", Listener(), lambda one: done.append(one.run))
        )
        worker.start()
        gone.start()
        gone.join()
    worker.join()
    assert done[-1] == "plain-block-1"
    assert sorted(done) == sorted(expected)
    assert set(counted.values()) == {1}


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from mtbert.comparison.execution import claimed\n"
        "with claimed(Path(sys.argv[1]), 'run') as ours:\n"
        "    print(ours, flush=True); os._exit(9)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (9, "True\n")
    with claimed(tmp_path, "run") as ours, claimed(tmp_path, "run") as again:
        assert (ours, again) == (True, False)


def test_a_run_that_diverges_counts_as_the_constant_predictor_and_is_shown(here: Path) -> None:
    stages = [{"steps": 12, "batch_size": 8, "clip": None, "optimizer": {"lr": 1e30}}]
    plan = planned(here, write(here, "plain"), write(here, "wild", stages=stages))
    run(plan, here)
    comparison = findings(plan, here / "out")
    assert comparison is not None
    wild = comparison.rows[1]
    assert wild.scores == pytest.approx(comparison.constant)
    assert len(wild.failures) == 2
    assert any("numerically unstable" in line for line in comparison.words())
    assert comparison.costs().cells[1][-1] == "2"


# ---- what is declared, and refused


def test_a_folder_that_holds_another_comparison_is_refused(undisturbed: tuple[Path, Any]) -> None:
    folder, _ = undisturbed
    files = folder / "plain.yaml", folder / "adapter.yaml"
    run(planned(folder, *files), folder)  # the same one goes on
    for other, said in (
        (planned(folder, *files, blocks=3), "blocks: then 2, now 3"),
        (planned(folder, *files, budget=Budget("steps", 7)), "budget"),
        (planned(folder, *files, margin=0.02), "margin"),
        (planned(folder, *files[::-1]), "compared_with"),
        (planned(folder, files[0], write(folder, "lora", modules=["lora"])), "methods, adapter: in one of them only"),
        (planned(folder, *files, "stages.0.batch_size=4"), "methods, plain, stages, 0, batch_size: then 8, now 4"),
    ):
        with pytest.raises(Mistake, match="holds another comparison") as refused:
            run(other, folder)
        assert said in str(refused.value)
    with pytest.raises(Mistake, match="not empty and holds no comparison"):
        run(planned(folder, *files, out="data"), folder, out="data")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modules": [{"name": "pals", "heads": 5}]}, "5"),
        ({"stages": [{"steps": 6, "combiner": "pcgrad"}]}, "'pcgrad' combines the gradients of several tasks"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_by_its_name_before_any_runs(
    two: tuple[Path, Path], here: Path, changes: dict[str, Any], said: str
) -> None:
    plan = planned(here, two[0], write(here, "wrong", **changes))
    for begun in (lambda: run(plan, here), lambda: outlook(plan, first_recipe(plan.methods).tasks, here / "out")):
        with pytest.raises(Mistake, match=f"^wrong: .*{said}"):
            begun()
    assert not (here / "out").exists()


def test_the_best_of_the_rates_on_dev_is_the_one_that_runs(two: tuple[Path, Path], here: Path) -> None:
    plan = planned(here, *two, blocks=1, rates=[1e-3, 2e-3])
    assert run(plan, here) is None
    found = findings(plan, here / "out")
    assert found is not None
    for row in found.rows:
        tried = found.trials[row.method]
        assert set(tried) == {"lr 0.001", "lr 0.002"}
        assert row.candidate == max(tried, key=tried.__getitem__)
        [[name]] = row.runs
        rate = Run(run_folder(here / "out", name)).recipe().stages[0].optimizer.options["lr"]
        assert f"lr {rate:g}" == row.candidate


def test_one_rate_for_all_is_no_tuning(two: tuple[Path, Path], here: Path) -> None:
    assert not planned(here, *two, rates=[1e-3]).tuned
    assert planned(here, *two, rates=[1e-3, 2e-3]).tuned
    with pytest.raises(Mistake, match=r"--rates: 0\.001 is there twice"):
        planned(here, *two, rates=[1e-3, 2e-3, 1e-3])


def test_recipes_over_other_tasks_are_refused(two: tuple[Path, Path], here: Path) -> None:
    def other(change: Callable[[dict[str, Any]], object]) -> Path:
        tasks = recipe_over(here / "data")["tasks"]
        change(tasks)
        return write(here, "other", tasks=tasks)

    cases: Mapping[str, Callable[[dict[str, Any]], object]] = {
        "near in one of them only": lambda tasks: tasks.pop("near"),
        "tasks.mood.classes differs": lambda tasks: tasks["mood"].update(classes=["mid", "low", "high"]),
        "tasks.same.dev differs": lambda tasks: tasks["same"].update(dev="same-test.csv"),
        "tasks.near.range differs": lambda tasks: tasks["near"].update(range=[0, 6]),
        "tasks.mood.metric differs: accuracy in plain, kappa in other": lambda tasks: tasks["mood"].update(
            metric="kappa"
        ),
        "tasks.near.counts differs": lambda tasks: tasks["near"].update(counts=2),
    }
    for said, change in cases.items():
        with pytest.raises(Mistake, match=said):
            read_methods([str(two[0]), str(other(change))], None)


def test_settings_that_make_it_unfair_are_said(here: Path) -> None:
    stages = [{"steps": 12, "batch_size": 8, "evaluate_every": 4, "optimizer": {"lr": 2e-3}, "patience": 2}]
    plan = planned(here, write(here, "plain"), write(here, "other", precision="bfloat16", keep="mood", stages=stages))
    run(plan, here)
    comparison = findings(plan, here / "out")
    assert comparison is not None
    said = "\n".join(comparison.cautions)
    for part in (
        "other trains in bfloat16, plain float32",
        "other keeps the best by mood",
        "patience 2",
        "plain: 0.001",
    ):
        assert part in said


def test_a_grid_is_a_recipe_with_rows_of_overrides(two: tuple[Path, Path], here: Path) -> None:
    grid = here / "grid.yaml"
    grid.write_text(
        yaml.safe_dump(
            {
                "recipe": "plain.yaml",
                "common": ["stages.0.steps=5"],
                "rows": {"as it is": [], "joint, sum": ["stages.0.sampler=joint"]},
            },
            sort_keys=False,
        )
    )
    methods = read_methods([str(grid), "stages.0.batch_size=2"], None)
    assert [method.name for method in methods] == ["as it is", "joint, sum"]
    stages = [method.candidates["all"]["all"]["stages"][0] for method in methods]
    assert [(stage["steps"], stage["batch_size"], stage["sampler"]["name"]) for stage in stages] == [
        (5, 2, "proportional"),
        (5, 2, "joint"),
    ]
    assert [method.folder for method in methods] == ["as-it-is", "joint-sum"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("rows: {a: []}", "a grid has a `recipe:`"),
        ("recipe: plain.yaml\nrows: {}", "a grid has a `recipe:`"),
        ("recipe: plain.yaml\nrow: 1\nrows: {a: []}", "did you mean 'rows'"),
        ("recipe: plain.yaml\nrows: {a: {seeds: 1}}", "not a list of overrides"),
        ("recipe: plain.yaml\nrows: {a b: [], a-b: []}", "would share the folder a-b"),
        ("recipe: none.yaml\nrows: {a: []}", "grid.yaml, line 1: recipe: there is no recipe .*none.yaml"),
        ("recipe: plain.yaml\ncommon: seed=1\nrows: {a: []}", "line 2: common: is 'seed=1', not a list of overrides"),
        ("recipe: plain.yaml\nrows:\n  a:\n  - seed=1\n  - modules", "line 5: rows.a.1: 'modules' is no override"),
        ("recipe: plain.yaml\nrows:\n  a: [{seed: 1}]", "line 3: rows.a.0: {'seed': 1} is no override"),
    ],
)
def test_grids_that_are_none(two: tuple[Path, Path], here: Path, content: str, said: str) -> None:
    (here / "grid.yaml").write_text(content)
    with pytest.raises(Mistake, match=said):
        read_methods([str(here / "grid.yaml")], None)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stages.0.stepz=5", "stages.0.stepz: unknown key"),
        ("modules=[{name: adapter, siez: 4}]", "modules.0.siez: unknown option"),
        ("stages.7.steps=5", "there is no entry 7"),
        ("seed=[", "is not a YAML value"),
    ],
)
@pytest.mark.parametrize("where", ["common", "row"])
def test_a_mistake_in_a_grid_is_told_by_its_line_there(
    two: tuple[Path, Path], here: Path, override: str, said: str, where: str
) -> None:
    common, row = (override, "seed=1") if where == "common" else ("seed=1", override)
    (here / "grid.yaml").write_text(
        f"recipe: plain.yaml\ncommon:\n- {json.dumps(common)}\nrows:\n  a b:\n  - {json.dumps(row)}\n"
    )
    line = "line 3, common" if where == "common" else "line 6, rows.a b"
    with pytest.raises(Mistake, match=rf"grid.yaml, {line}, {re.escape(override)}: .*{said}"):
        read_methods([str(here / "grid.yaml"), "precision=float32"], None)


def test_a_comparison_has_something_to_compare(two: tuple[Path, Path]) -> None:
    [one] = read_methods([str(two[0])], None)
    budget = Budget("examples")
    with pytest.raises(Mistake, match="at least two recipes"):
        Asked([one], 3, budget)
    with pytest.raises(Mistake, match="at least one"):
        Asked([one, replace(one, name="b")], 0, budget)
    with pytest.raises(Mistake, match="--margin"):
        Asked([one, replace(one, name="b")], 3, budget, margin=0.0)


def test_a_plan_is_shown_and_nothing_is_written(two: tuple[Path, Path], here: Path) -> None:
    before = sorted(here.rglob("*"))
    plan = planned(here, *two, blocks=6, baselines=True)
    shown = outlook(plan, first_recipe(plan.methods).tasks, here / "out")
    assert [(one.method, one.trials, one.runs, one.done) for one in shown.prospects] == [
        ("plain", 0, 6, 0),
        ("adapter", 0, 6, 0),
        (APART, 0, 18, 0),
        ("uniform sum", 0, 6, 0),
        ("fixed weights", 4, 6, 0),
        ("A/A: plain again", 0, 6, 0),
    ]
    assert shown.hours > 0
    assert "with 6 seeds this design sees differences of overall from 0.006" in shown.power[0]
    assert sorted(here.rglob("*")) == before


def test_a_plan_counts_what_is_done_and_takes_its_seconds(whole: tuple[Path, Plan]) -> None:
    shown = outlook(whole[1], first_recipe(whole[1].methods).tasks, whole[0])
    assert all(one.done == one.runs + one.trials for one in shown.prospects)
    assert {one.measured for one in shown.prospects} == {"runs that are there"}
    assert shown.hours == 0


def test_a_claim_given_back_while_one_looks_who_has_it_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_a_moment_ago(path: Path) -> int:
        raise lock.UnderWay("somebody had it, and nobody has it now")

    with monkeypatch.context() as patch:
        patch.setattr(lock, "_opened", taken_a_moment_ago)
        with claimed(tmp_path, "run") as ours:
            assert not ours
    with claimed(tmp_path, "run") as ours:
        assert ours
