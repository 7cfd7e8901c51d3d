"""`mtbert compare` as a process of its own, killed at random instants."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.comparison.measured import readings
from tests.comparison.test_compare import results
from tests.support.small import recipe_over, write_small_data

PROGRAM = "from mtbert.app.cli import main; main()"


@pytest.mark.long
def test_a_process_killed_at_ten_random_instants_goes_on_with_nothing_lost_and_nothing_run_twice(
    tmp_path: Path,
) -> None:
    recipe = recipe_over(write_small_data(tmp_path / "data")) | {"data": "data"}
    stages = [{"steps": 60, "batch_size": 8, "evaluate_every": 10, "optimizer": {"lr": 1e-3}}]
    for name, modules in (("plain", []), ("adapter", ["adapter"])):
        changed: dict[str, Any] = recipe | {"modules": modules, "stages": stages}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))

    def begin(out: str) -> subprocess.Popen[bytes]:
        arguments = ["compare", "plain.yaml", "adapter.yaml", "--seeds", "2", "--quiet", "--out", out]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
        )

    started = time.monotonic()
    assert begin("whole").wait() == 0
    seconds = time.monotonic() - started

    chance, kills = random.Random(13), 0
    while kills < 10:
        process = begin("killed")
        time.sleep(chance.uniform(0.1, 0.6) * seconds)
        if process.poll() is None:
            kills += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert begin("killed").wait() == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    # a kill between the note of a reading and its result makes the next process read again, and say so
    assert 4 <= readings(tmp_path / "killed") <= 4 + kills
    assert not list((tmp_path / "killed").rglob("*.safetensors"))
