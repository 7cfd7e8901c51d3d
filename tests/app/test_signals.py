"""A signal to end saves the state; what is left goes on to the same run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import mtbert
from mtbert.app.signals import Signals
from tests.support.small import recipe_over, write_small_data

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from mtbert.app import cli, progress
told = progress.TrainingProgress.step
def step(self, record):
    told(self, record)
    print("step", record.step, flush=True)
progress.TrainingProgress.step = step
sys.argv[0] = "mtbert"
cli.main()
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of which a process that has said "step 3" has a second or more to go."""
    folder = tmp_path_factory.mktemp("signals")
    small = recipe_over(write_small_data(folder / "data"))
    small["stages"][0] |= {"steps": 200, "evaluate_every": 150}
    path = folder / "a recipe.yaml"
    path.write_text(yaml.safe_dump(small), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    """The folder of the run that nothing interrupted."""
    return mtbert.train(recipe, out=recipe.with_name("whole")).folder


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_the_state_and_says_how_to_go_on(
    recipe: Path, whole: Path, tmp_path: Path, name: str, code: int
) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-c", PROGRAM, "train", str(recipe), "--out", str(run)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while process.stdout.readline() != "step 3\n":
            pass
        process.send_signal(getattr(signal, name))
        process.stdout.read()
        said = process.stderr.read()
    assert process.returncode == code
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith(f"stopped by {name}; the state is saved in {run}; go on with: mtbert train ")
    assert last.endswith(f"'{recipe}' --out {run} --resume")
    mtbert.train(recipe, out=run, resume=True)
    ours, theirs = (load_file(folder / "last" / "state.safetensors") for folder in (run, whole))
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        assert signals.reason_to_stop() is None
        signal.raise_signal(signal.SIGTERM)
        assert (signals.reason_to_stop(), signals.exit_code) == ("SIGTERM", 143)
        assert signal.getsignal(signal.SIGTERM) == before  # a second one ends the process at once
    assert signal.getsignal(signal.SIGTERM) == before
