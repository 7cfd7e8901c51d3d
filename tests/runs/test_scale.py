"""Long runs and many tasks: memory stays flat, and a start stays quick."""

from __future__ import annotations

import copy
import gc
import time
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.runs.listener import Listener
from mtbert.training.trainer import Record

pytestmark = pytest.mark.long

STATM = Path("/proc/self/statm")


class Memory(Listener):
    """The resident memory of this process after some steps, in MiB."""

    def __init__(self, *steps: int) -> None:
        self.after = dict.fromkeys(steps, 0.0)

    def step(self, record: Record) -> None:
        if record.step in self.after:
            gc.collect()
            self.after[record.step] = int(STATM.read_text().split()[1]) * 4096 / 2**20


class FirstStep(Listener):
    def __init__(self) -> None:
        self.began = time.monotonic()
        self.seconds: float | None = None

    def step(self, record: Record) -> None:
        self.seconds = self.seconds or time.monotonic() - self.began

    def reason_to_stop(self) -> str | None:
        return "enough seen"


@pytest.mark.skipif(not STATM.exists(), reason="reads /proc")
def test_memory_is_flat_over_twenty_thousand_steps(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    small_recipe["stages"][0] |= {"steps": 20_000, "evaluate_every": 500, "batch_size": 4}
    memory = Memory(2_000, 20_000)
    mtbert.train(small_recipe | {"save_every": 1}, out=tmp_path / "run", listener=memory)
    print(f"resident memory by steps, MiB: {memory.after}")
    assert memory.after[20_000] - memory.after[2_000] < 10


def test_two_hundred_tasks_take_their_first_step_within_a_minute(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    kinds = list(small_recipe["tasks"].values())
    small_recipe["tasks"] = {f"task{number}": copy.deepcopy(kinds[number % 3]) for number in range(200)}
    small_recipe["modules"] = ["lhuc"]
    first = FirstStep()
    run = mtbert.train(small_recipe, out=tmp_path / "run", listener=first)
    print(f"200 tasks: first step after {first.seconds:.1f} s")
    assert first.seconds is not None
    assert first.seconds < 60
    assert run.stopped == "enough seen"
