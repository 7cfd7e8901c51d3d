"""What a process is set to, before its libraries begin or after, and what it hears from and tells a launcher."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from mtbert.app import cli
from mtbert.errors import Mistake
from mtbert.model.world import ALONE, world
from mtbert.runs.folder import Run
from tests.support.small import recipe_over, write_small_data


def test_one_process_where_accelerate_was_asked_for_several_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert world() is ALONE  # one was asked for
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(Mistake, match="--multi_gpu"):
        world()


def test_torchrun_reads_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    monkeypatch.setattr(sys, "argv", ["mtbert", "train", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        cli.main()
    failure: Any = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=str(file))
    assert f"error: {failure.message}\n" == capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc-per-node", "2"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
    ],
)
def test_launchers_start_several_processes_for_one_run(tmp_path: Path, launcher: list[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_over(write_small_data(tmp_path / "data"))))
    train = ["-m", "mtbert", "train", "recipe.yaml", "--out", "run"]
    subprocess.run([sys.executable, "-m", *launcher, *train], cwd=tmp_path, check=True, timeout=300)
    assert Run(tmp_path / "run").environment["processes"] == 2


HOLES = """
import resource, sys
from mtbert.process import return_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

bytearray(20 << 20)  # freed at once: the library learns that such blocks come and go
before = resident()
large, small = [], []
for _ in range(20):
    large.append(bytearray(5 << 20))
    small.append(bytearray(64 << 10))  # stays, between large ones
del large
if sys.argv[1] == "returns":
    return_freed_memory()
print((resident() - before) >> 20)
"""


def grown(how: str) -> int:
    """Mebibytes that a process has kept after it freed a hundred of them, with small blocks in between."""
    return int(subprocess.run([sys.executable, "-c", HOLES, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="glibc alone does so"
)
def test_large_blocks_go_back_to_the_system_although_small_ones_between_them_stay() -> None:
    assert grown("keeps") > 80
    assert grown("returns") < 10
