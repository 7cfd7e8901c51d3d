"""recipes/reports/: every row of the five reports is a recipe that passes the dry run and trains to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtbert
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.runs.build import build
from tests.support.course_data import TINY, write_course_data

FOLDER = Path(__file__).parents[2] / "recipes" / "reports"
REPORTS = ["R0", "R1", "R2", "R3", "R4"]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_course_data(tmp_path_factory.mktemp("course") / "data")


@pytest.mark.parametrize("report", REPORTS)
def test_every_recipe_passes_the_dry_run_and_trains_to_the_end(
    report: str, course: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    recipes = sorted((FOLDER / report).glob("*.yaml"))
    assert recipes
    for path in recipes:
        with subtests.test(recipe=path.stem):
            overrides = [*TINY, "stages.*.steps=2"]
            assert check(build(read_recipe(path, overrides, course))).stages
            run = mtbert.train(path, course, tmp_path / path.stem, overrides)
            assert run.scores["dev"]["tasks"].keys() == run.recipe().tasks.keys()
