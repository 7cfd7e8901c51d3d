"""The grids that come with the project: every row of each is a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtbert.comparison.methods import read_methods

GRIDS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_row_of_every_grid_is_a_recipe(path: Path, tmp_path: Path) -> None:
    methods = read_methods([str(path)], tmp_path)
    assert len(methods) > 1
    contents = [str(method.candidates) for method in methods]
    assert len(set(contents)) == len(contents)
