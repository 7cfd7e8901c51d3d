"""The runner of grids: which runs a grid is, what it writes, and its table against means taken by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import mtbert.demo
from mtbert.recipe.reading import read_recipe

RUNNER = Path(__file__).parents[1] / "experiments" / "run.py"
GRIDS = sorted(RUNNER.parent.glob("*.yaml"))
TINY = ["encoder={name: random, layers: 1, width: 16, heads: 2, inner: 16}", "stages.0.epochs=null", "stages.0.steps=6"]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder: Path, **grid: Any) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"recipe": str(mtbert.demo.RECIPE), "common": TINY} | grid))
    return path


def run(runner: ModuleType, monkeypatch: pytest.MonkeyPatch, grid: Path, out: Path, *more: str) -> None:
    given = ["run.py", str(grid), "--data", str(mtbert.demo.RECIPE.parent), "--out", str(out), *more]
    monkeypatch.setattr(sys, "argv", given)
    runner.main()


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_row_of_every_grid_is_a_recipe(runner: ModuleType, path: Path, tmp_path: Path) -> None:
    grid = runner._read(path)
    recipe = path.parent / grid["recipe"]
    runs = list(runner._runs(grid))
    assert {name for name, _, _ in runs} == set(grid["rows"])
    for _, row, seed in runs:
        read_recipe(recipe, [*grid["common"], *row.get("set", []), f"seed={seed}"], tmp_path)


def test_seeds_go_round_all_rows_before_the_next(runner: ModuleType) -> None:
    grid: dict[str, Any] = {"seeds": [5, 7], "rows": {"a": [], "b": {"seeds": 1, "set": ["x=1"]}}}
    assert list(runner._runs(grid)) == [("a", {"set": []}, 5), ("b", grid["rows"]["b"], 5), ("a", {"set": []}, 7)]


def test_a_grid_takes_from_another_what_it_does_not_say(runner: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("seeds: [1, 2]\ncommon: [a=1]\n")
    (tmp_path / "second.yaml").write_text("like: first.yaml\ncommon: [b=2]\n")
    found = runner._read(tmp_path / "second.yaml")
    assert (found["seeds"], found["common"]) == ([1, 2], ["b=2"])


def test_a_grid_is_run_once_and_what_is_done_is_not_done_again(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = {"plain": [], "apart": {"apart": True}, "noisy": ["stages.0.regularizers=[gaussian]"]}
    watched = ["stages.0.observe=[{name: penalties, every: 3}]"]
    grid = written(tmp_path, seeds=[1], rows=rows, common=[*TINY, *watched], perturbed=1)
    run(runner, monkeypatch, grid, tmp_path / "out")
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert set(results) == {"plain-1", "apart-1", "noisy-1"}
    assert all(set(one["dev"]) == {"sentiment", "paraphrase", "similarity"} for one in results.values())
    assert results["plain-1"]["perturbed"] != results["plain-1"]["dev"]
    assert results["plain-1"]["penalties"] == 0 < results["noisy-1"]["penalties"] < 1
    assert not list((tmp_path / "out").glob("*.claim"))

    monkeypatch.setattr(mtbert, "train", lambda *_, **__: pytest.fail("trained again"))
    run(runner, monkeypatch, grid, tmp_path / "out")


def test_the_table_holds_means_over_seeds_and_half_their_range(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, accuracy, r in ((1, 0.5, 0.2), (2, 0.7, 0.4)):
        dev = {task: {"accuracy": accuracy} for task in ("sentiment", "paraphrase")} | {"similarity": {"pearson": r}}
        one = {"row": "plain", "seed": seed, "seconds": 10.0 * seed, "dev": dev}
        (tmp_path / f"plain-{seed}.json").write_text(json.dumps(one))
    grid = written(tmp_path, seeds=[1, 2], rows={"plain": [], "not yet run": []})
    run(runner, monkeypatch, grid, tmp_path, "--table")
    # overall: (0.5 + 0.5 + 0.6) / 3 and (0.7 + 0.7 + 0.7) / 3
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| plain | 2 | 0.6167 ± 0.0833 | 0.6000 | 0.6000 | 0.3000 | 15 |"
    ]
