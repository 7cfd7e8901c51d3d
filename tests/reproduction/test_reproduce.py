"""mtbert reproduce: rows, what they print, what is run, and the table that comes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mtbert.comparison.budget import Budget, lengths
from mtbert.comparison.measured import Measured, read_measured
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.reproduction.outlook import Listing, Outlook, Prospect
from mtbert.reproduction.reproduce import Asked, reproduce
from mtbert.reproduction.rows import Row, chosen, rows, shipped
from mtbert.reproduction.table import Reproduction
from mtbert.runs.listener import Listener
from mtbert.scoring.evaluation import Scores
from tests.support.course_data import write_course_data

RECIPES = Path(__file__).parents[2] / "recipes" / "reports"
TASKS: dict[str, Task] = {
    "sst": Classification(name="sst", text="a", label="y", classes=5),
    "quora": Classification(name="quora", text=("a", "b"), label="y", classes=2),
    "sts": Regression(name="sts", text=("a", "b"), label="y", range=(0, 5)),
}


# ---- what is printed


def test_every_row_has_its_recipes_and_every_recipe_its_row() -> None:
    named = {path for row in rows() for path in row.files(RECIPES).values()}
    bases = {RECIPES / "R2" / f"{name}.yaml" for name in ("base", "smart", "smart_milestone")}
    assert named | bases == set(RECIPES.glob("R*/*.yaml"))
    assert len(rows()) == len({row.name for row in rows()})


def test_the_recipes_together_are_short() -> None:
    lines = [line for path in RECIPES.rglob("*.yaml") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) <= 400
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in RECIPES.rglob("*.yaml"))


def test_printed_overall_scores_are_those_of_the_printed_parts() -> None:
    """R4 prints `overall` beside its parts; the two differ by more than rounding only where it contradicts itself."""
    differing = {}
    for row in rows():
        for split, cells in (("dev", row.dev), ("test", row.test)):
            if {"overall", *TASKS} <= set(cells):
                parts = {name: {TASKS[name].main: cells[name]} for name in TASKS}
                by_formula = Scores.of(TASKS, parts).overall
                if abs(by_formula - cells["overall"]) > 0.0011:
                    differing[row.name, split] = round(by_formula, 4)
    assert differing == {("R4/pals_parallel_weighted", "dev"): 0.5422, ("R4/top_parallel_same", "test"): 0.6128}


def test_no_printed_number_is_impossible() -> None:
    for row in rows():
        for cells in (row.dev, row.test):
            assert all((-1 if name == "sts" else 0) < value < 1 for name, value in cells.items()), row.name


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["R3/finetune"], ["R3/finetune"]),
        (["R0"], ["R0/plain", "R0/baseline", "R0/smart", "R0/adaptbefore", "R0/adaptafter"]),
        (["R4/embert", "R1/best_model"], ["R1/best_model", "R4/embert"]),
        ([], [row.name for row in rows()]),
    ],
)
def test_rows_are_chosen_by_name_or_by_report(asked: list[str], found: list[str]) -> None:
    assert [row.name for row in chosen(asked)] == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("R1/split1", "unknown row 'R1/split1'; did you mean 'R1/"),
        ("R7", r"unknown row 'R7'.*\(valid: R0, R1, R2, R3, R4\)"),
        ("rrobin", r"valid: R0, R1"),
    ],
)
def test_a_row_that_there_is_not_is_answered_with_the_nearest(asked: str, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        chosen([asked])


def test_the_recipes_that_are_shipped_are_those_of_the_repository() -> None:
    assert shipped() == RECIPES


def test_a_folder_without_recipes_is_said() -> None:
    with pytest.raises(Mistake, match=r"there is no recipe nowhere/R0/plain\.yaml; --recipes names"):
        chosen(["R0/plain"])[0].files(Path("nowhere"))


# ---- what is run


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_course_data(tmp_path_factory.mktemp("course") / "data")


def asked(course: Path, **changes: Any) -> Asked:
    """On a tiny random encoder, 30 steps a run."""
    given = {"recipes": RECIPES, "data": course, "encoder": "random", "budget": Budget("steps", 30), "seeds": 2}
    return Asked(**{**given, **changes})


@pytest.fixture(scope="module")
def folder(course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of two seeds each, one of two models and one of three tasks."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    plan = asked(course)
    told: list[Measured] = []
    assert reproduce(plan, [plan.plan(row) for row in two_rows()], out, Listener(), told.append) is None
    assert [one.seed for one in told] == [11711] * 3 + [11811] * 3  # seed after seed
    return out


def two_rows() -> list[Row]:
    return chosen(["R4/single_task", "R1/baseline_10ep"])


def test_every_run_has_the_budget_and_its_own_seed(course: Path, folder: Path) -> None:
    for row in two_rows():
        for run in asked(course).plan(row).runs:
            found = read_measured(folder, run.name)
            assert found is not None
            assert found.steps == 30
            assert found.reported == {}  # nothing but dev is read
            assert found.selected.keys() == set(run.content["tasks"])


def test_what_is_done_is_not_done_again(course: Path, folder: Path) -> None:
    told: list[Measured] = []
    plan = asked(course)
    reproduce(plan, [plan.plan(row) for row in two_rows()], folder, Listener(), told.append)
    assert told == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": Budget("steps", 31)}, "rows of another budget: 30 steps a run, not 31 steps a run"),
        ({"encoder": "minilm"}, "rows of another encoder: random, not minilm"),
        ({"data": None}, "rows of another data"),
    ],
)
def test_a_folder_holds_rows_of_one_kind(course: Path, folder: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(Mistake, match=said):
        asked(course, **change).declare(folder)


def test_a_folder_with_something_else_is_left_alone(course: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(Mistake, match="is not empty and holds no rows of reports"):
        asked(course).declare(tmp_path)


def test_what_cannot_be_asked_for(course: Path) -> None:
    with pytest.raises(Mistake, match="--seeds 0"):
        asked(course, seeds=0)
    with pytest.raises(Mistake, match="give full, quick, examples=M or steps=M"):
        asked(course, budget=Budget.parse("seconds=5"))


def test_a_budget_of_less_than_an_epoch_is_an_epoch_over_fewer_rows(course: Path) -> None:
    planned = asked(course).plan(chosen(["R1/baseline_10ep"])[0])  # an epoch is 9 + 17 + 17 batches of 8
    assert planned.share == pytest.approx(30 / 43)
    content = planned.runs[0].content
    limits = {name: task["limit"]["train"] for name, task in content["tasks"].items()}
    assert limits == {"sst": int(72 * 30 / 43), "quora": int(136 * 30 / 43), "sts": int(136 * 30 / 43)}
    (stage,) = lengths(read_recipe(content), {"sst": 72, "quora": 136, "sts": 136})
    assert stage.steps == 30
    assert stage.steps >= stage.epoch - 1  # rows are whole, and so are batches
    assert asked(course).plan(chosen(["R1/split1_10ep"])[0]).share == 1.0  # 9 + 1 + 17


@pytest.mark.parametrize("steps", [3, 4, 5, 8])
def test_a_budget_of_a_few_batches_is_an_epoch_over_fewer_rows_too(course: Path, steps: int) -> None:
    planned = asked(course, budget=Budget("steps", steps)).plan(chosen(["R1/baseline_10ep"])[0])
    (stage,) = lengths(read_recipe(planned.runs[0].content), {"sst": 72, "quora": 136, "sts": 136})
    assert stage.steps == steps
    assert min(stage.shares.values()) > 0


# ---- the table


def test_the_table_sets_our_means_beside_what_is_printed(course: Path, folder: Path, tmp_path: Path) -> None:
    planned = [asked(course).plan(row) for row in two_rows()]
    table = Reproduction.of("30 steps a run", ["mtbert reproduce"], planned, folder)
    cells = {(cell.row, cell.split, cell.measure): cell for cell in table.cells}
    single = cells["R4/single_task", "dev", "sst"]
    ours = [read_measured(folder, f"r4-single_task-seed-{seed}-single_task_sst") for seed in (1, 2)]
    scores = [one.selected["sst"]["accuracy"] for one in ours]
    assert single.report == 0.522
    assert single.ours == pytest.approx(sum(scores) / 2)
    assert single.difference == pytest.approx(sum(scores) / 2 - 0.522)
    assert single.interval.high - single.ours == pytest.approx(12.706 * abs(scores[0] - scores[1]) / 2, rel=1e-3)
    film = cells["R4/single_task", "dev", "cfimdb"]
    assert (film.report, film.difference, film.n) == (None, None, 2)  # the report's cell is empty
    assert cells["R4/single_task", "dev", "overall"].ours == pytest.approx(single.ours)  # CFIMDB does not count

    lone, several = (next(cost for cost in table.costs if cost.row == row.name) for row in two_rows())
    assert (lone.row, several.row) == ("R1/baseline_10ep", "R4/single_task")
    assert (lone.done, lone.planned, several.done, several.planned) == (2, 2, 4, 4)
    assert (lone.steps, several.steps) == (30, 60)  # a seed of two models
    assert lone.report_seconds == 1200

    files = {path.name: path for path in table.write(tmp_path)}
    with files["table.csv"].open(encoding="utf-8") as file:
        read = {(line["row"], line["measure"]): line for line in csv.DictReader(file)}
    assert read["R1/baseline_10ep", "sst"]["report"] == "0.465"
    assert read["R4/single_task", "cfimdb"]["report"] == read["R4/single_task", "cfimdb"]["difference"] == ""
    assert "| R1/baseline_10ep | dev | quora | 0.883 |" in files["table.md"].read_text(encoding="utf-8")
    assert json.loads(files["result.json"].read_text(encoding="utf-8"))["budget"] == "30 steps a run"


def test_what_has_not_been_run_is_empty(course: Path, tmp_path: Path) -> None:
    planned = [asked(course).plan(row) for row in chosen(["R1/best_model"])]
    table = Reproduction.of("", [], planned, tmp_path)
    assert {(cell.split, cell.measure, cell.report, cell.ours) for cell in table.cells} == {
        *(("dev", measure, None, None) for measure in ("sst", "quora", "sts", "overall")),
        ("test", "overall", 0.771, None),
    }
    assert table.costs[0].seconds is None


def test_the_list_and_the_plan_say_what_is_done(course: Path, folder: Path) -> None:
    listed = {one.row: one for one in Listing.of(chosen(["R4", "R1"]), RECIPES, folder).rows}
    assert {name: one.done for name, one in listed.items() if one.done} == {"R4/single_task": 4, "R1/baseline_10ep": 2}
    assert listed["R4/single_task"].recipes == ["R4/single_task_sst.yaml", "R4/single_task_cfimdb.yaml"]
    told: list[Prospect] = []
    outlook = Outlook.of(asked(course), [*two_rows(), *chosen(["R0/plain"])], folder, told.append)
    assert told == outlook.prospects
    assert [(one.row, one.done, one.runs, one.steps, one.measured) for one in outlook.prospects] == [
        ("R1/baseline_10ep", 2, 2, 30, "its runs"),
        ("R4/single_task", 4, 4, 60, "its runs"),
        ("R0/plain", 0, 2, 30, "a few steps"),
    ]
    assert outlook.hours == pytest.approx(outlook.prospects[-1].minutes * 2 / 60)
