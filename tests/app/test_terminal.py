"""The terminal: five and twenty tasks in 80 and 100 columns, piped and live; no number is cut and nothing wraps."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml

import mtbert
from mtbert.app.progress import fitted
from mtbert.runs.folder import Run
from tests.support.screen import assert_fits
from tests.support.small import recipe_over, write_small_data

PROGRAM = "import sys, torch; torch.set_num_threads(1); sys.argv[0] = 'mtbert'; from mtbert.app import cli; cli.main()"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def many(data: Path, tasks: int) -> dict[str, Any]:
    """The small recipe with so many tasks, whose names are long."""
    recipe = recipe_over(data)
    kinds = list(recipe["tasks"].values())
    recipe["tasks"] = {f"a_task_with_a_long_name_{n}": kinds[n % 3] for n in range(tasks)}
    recipe["stages"][0] |= {"steps": 20, "evaluate_every": 10, "observe": [{"name": "conflict", "every": 5}]}
    return recipe


@pytest.fixture(scope="module", params=[5, 20])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe of 5 or of 20 tasks, and a run of it."""
    folder = tmp_path_factory.mktemp("many")
    recipe = many(write_small_data(folder / "data"), request.param)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    mtbert.train(recipe, out=folder / "RUN")
    return folder


def piped(folder: Path, width: int, *words: str) -> list[str]:
    """The lines of a command whose output nobody draws."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        env=os.environ | {"COLUMNS": str(width)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert not CONTROL.search(said.stdout + said.stderr)
    return (said.stderr + said.stdout).splitlines()


def live(folder: Path, width: int, *words: str) -> list[str]:
    """The lines that a terminal of this width is sent, those that are drawn anew each time included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        env=environment | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    sent = b""
    while True:
        try:
            some = os.read(ours, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        sent += some
    os.close(ours)
    assert process.wait() == 0, sent.decode()
    return re.split(r"[\r\n]+", CONTROL.sub("", sent.decode()))


@pytest.mark.parametrize("width", [80, 100])
def test_a_run_is_read_in_a_pipe(place: Path, width: int) -> None:
    for command in (["evaluate", "RUN"], ["conflict", "RUN"], ["check", "recipe.yaml"]):
        assert_fits(piped(place, width, *command), width)


def test_training_and_looking_fit_a_live_terminal(place: Path) -> None:
    shown = live(place, 80, "train", "recipe.yaml", "--out", "LIVE")
    assert_fits(shown, 80)
    steps = [line for line in shown if line.startswith("step ")]
    assert steps
    assert all(re.search(r"\d (?:s|min|h) left", line) for line in steps)
    tasks = len(Run(place / "RUN").scores["dev"]["tasks"])
    assert sum("a_task_with_a_long_name_" in line and "accuracy" in line for line in shown) >= 2 * (tasks - tasks // 3)
    assert any(line.startswith("took ") and "next: mtbert evaluate LIVE" in line for line in shown)
    assert_fits(live(place, 80, "evaluate", "RUN"), 80)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("tasks", [1, 5, 20])
def test_the_line_of_losses_fits_and_says_how_many_it_leaves_out(width: int, tasks: int) -> None:
    losses = {f"a_task_with_a_long_name_{n}": n + 0.125 for n in range(tasks)}
    line = fitted("step 1,200/40,000  12.3 min left", losses, width)
    assert_fits([line], width)
    shown = len(re.findall(r"\d\.\d{3}\b", line.split("left")[1]))
    more = re.search(r"and (\d+) more", line)
    assert shown + (int(more[1]) if more else 0) == tasks or shown == 0
