"""`mtbert compare` as a person types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

import mtbert.app.cli
from tests.support.small import recipe_over, write_small_data


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`mtbert compare ARGUMENTS`; its exit code."""
    monkeypatch.setattr(sys, "argv", ["mtbert", "compare", *map(str, arguments)])
    try:
        mtbert.app.cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recipes over the same data."""
    monkeypatch.chdir(tmp_path)
    recipe = recipe_over(write_small_data(tmp_path / "data")) | {"data": "data"}
    for name, modules in (("plain", []), ("adapter", ["adapter"])):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(recipe | {"modules": modules}, sort_keys=False))
    return tmp_path


def test_two_recipes_and_three_seeds_give_a_table_and_pictures(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "plain.yaml", "adapter.yaml", "stages.0.steps=4", "--seeds", 3, "--out", "out"
    assert command(monkeypatch, *given) == 0
    said = capsys.readouterr()
    assert "with 3 seeds this design sees differences" in said.err
    assert "below 6 seeds every verdict is 'cannot be told'" in said.err
    assert "adapter-block-3" in said.err
    lines = said.out.splitlines()
    assert lines[0].split()[:5] == ["method", "overall", "mood", "same", "near"]
    assert any(line.startswith("adapter, overall: cannot be told (3 pairs") for line in lines)
    # prose is broken where the terminal ends
    made = "made by: mtbert compare plain.yaml adapter.yaml stages.0.steps=4 --seeds 3 --out out"
    assert made in " ".join(said.out.split())
    assert all(
        (here / path).exists() for path in ("out/table.md", "out/forest.svg", "out/pareto.png", "out/report.html")
    )

    assert command(monkeypatch, *given, "--json") == 0
    said = capsys.readouterr()
    assert "block" not in said.err.replace("blocks", "")  # nothing ran again
    assert [row["method"] for row in json.loads(said.out)["rows"]] == ["plain", "adapter"]


def test_a_plan_is_printed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "plain.yaml", "adapter.yaml", "--plan") == 0
    said = capsys.readouterr().out
    assert "hours of one process" in said
    assert "with 6 seeds this design sees differences of overall from 0.006" in said
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plain.yaml"], "at least two recipes"),
        (["plain.yaml", "missing.yaml"], "there is no recipe missing.yaml"),
        (["plain.yaml", "adapter.yaml", "--budget", "much"], "--budget much"),
        (["plain.yaml", "adapter.yaml", "--rates", "fast"], "--rates fast"),
        (["plain.yaml", "adapter.yaml", "--rates", "0"], "a learning rate is above 0"),
        (["plain.yaml", "adapter.yaml", "--seeds", "0"], "--seeds 0"),
        (["plain.yaml", "adapter.yaml", "--out", "data"], "holds no comparison"),
        (["plain.yaml", "plain.yaml"], "would share the folder"),
        (
            ["plain.yaml", "adapter.yaml", "stages.0.sampler=sequential", "--budget", "steps=3"],
            "too few for one epoch of sampler 'sequential'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_message(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    before = sorted(here.rglob("*"))
    assert command(monkeypatch, *arguments, "--quiet") == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.startswith("error: ")
    assert printed.out == ""
    assert sorted(here.rglob("*")) == before
