"""The terminal: five and twenty tasks in 80 and 100 columns, piped and live; no number is cut and nothing wraps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.app.progress import fitted
from tests.support.screen import assert_fits
from tests.support.small import recipe_over, write_small_data

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
TASKS = [5, 20]
TRAINED_ON = 80  # columns, the first of the widths
KINDS, WIDTHS = ["piped", "live"], [80, 100]
SCREENS = [(kind, width) for kind in KINDS for width in WIDTHS]
ROOT = Path(__file__).parents[2]


def many(data: Path, tasks: int) -> dict[str, Any]:
    """The small recipe with so many tasks, whose names are long."""
    recipe = recipe_over(data)
    kinds = list(recipe["tasks"].values())
    recipe["tasks"] = {f"a_task_with_a_long_name_{n}": kinds[n % 3] | {"limit": 6} for n in range(tasks)}
    recipe["stages"][0] |= {"steps": 6, "evaluate_every": 3, "observe": [{"name": "conflict", "every": 3}]}
    return recipe


def commands_on(kind: str, width: int) -> list[str]:
    """Training of 5 and of 20 tasks on the usual width, and on every width the looks at these runs and recipes."""
    commands = ["train {1}.yaml --out {0}"] if width == TRAINED_ON else []
    commands += ["evaluate {0}", "conflict {0}", "check {1}.yaml", "info {0}"]
    return [command.format(f"{kind}-{tasks}", tasks) for tasks in TASKS for command in commands]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """What each screen is sent by all commands on runs of 5 and of 20 tasks."""
    folder = tmp_path_factory.mktemp("many")
    data = write_small_data(folder / "data")
    for tasks in TASKS:
        (folder / f"{tasks}.yaml").write_text(yaml.safe_dump(many(data, tasks), sort_keys=False))
    asked = [[kind, [[width, commands_on(kind, width)] for width in WIDTHS]] for kind in KINDS]
    said = subprocess.run(
        [sys.executable, "-m", "tests.support.terminal", json.dumps(asked)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return dict(zip(SCREENS, [text for kind in json.loads(said.stdout) for text in kind], strict=True))


@pytest.fixture(params=SCREENS, ids=str)
def screen(request: pytest.FixtureRequest, sent: dict[tuple[str, int], str]) -> tuple[str, int, dict[str, list[str]]]:
    """How commands are seen, the width, and the lines of each."""
    kind, width = request.param
    text, commands = sent[kind, width], commands_on(kind, width)
    assert (kind == "live") == bool(CONTROL.search(text))
    lines = re.split(r"[\r\n]+", CONTROL.sub("", text))
    starts = [lines.index(f"$ {command}") for command in commands]
    ends = [*starts[1:], len(lines)]
    shown = {command: lines[start + 1 : end] for command, start, end in zip(commands, starts, ends, strict=True)}
    return kind, width, shown


def test_nothing_is_cut_or_wraps(screen: tuple[str, int, dict[str, list[str]]]) -> None:
    _, width, shown = screen
    for lines in shown.values():
        assert len(lines) > 3
        assert_fits(lines, width)


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("screen", [one for one in SCREENS if one[1] == TRAINED_ON], ids=str, indirect=True)
def test_training_shows_every_task_the_time_left_and_what_comes_next(
    screen: tuple[str, int, dict[str, list[str]]], tasks: int
) -> None:
    kind, _, shown = screen
    lines = shown[f"train {tasks}.yaml --out {kind}-{tasks}"]
    steps = [line for line in lines if line.startswith("step ")]
    assert bool(steps) == (kind == "live")  # in a pipe a line comes every so many seconds
    assert all(re.search(r"\d (?:s|min|h) left", line) for line in steps)
    assert sum("a_task_with_a_long_name_" in line and "accuracy" in line for line in lines) >= 2 * (tasks - tasks // 3)
    assert any(line.startswith("took ") for line in lines)
    assert f"next: mtbert evaluate {kind}-{tasks}" in " ".join(lines)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("tasks", [1, 5, 20])
def test_the_line_of_losses_fits_and_says_how_many_it_leaves_out(width: int, tasks: int) -> None:
    losses = {f"a_task_with_a_long_name_{n}": n + 0.125 for n in range(tasks)}
    line = fitted("step 1,200/40,000  12.3 min left", losses, width)
    assert_fits([line], width)
    shown = len(re.findall(r"\d\.\d{3}\b", line.split("left")[1]))
    more = re.search(r"and (\d+) more", line)
    assert shown + (int(more[1]) if more else 0) == tasks or shown == 0
