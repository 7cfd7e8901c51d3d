"""A disk that refuses something: one message, no folder that cannot be loaded, and the run goes on from there."""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.app.cli import main
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from tests.support.cut_off import assert_same_run
from tests.support.faults import Operations
from tests.support.small import recipe_over, write_small_data

COURSE = [word for pair in ("sst=mood", "para=same", "sts=near") for word in ("--course-task", pair)]
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)


@dataclass(frozen=True)
class Done:
    recipe: dict[str, Any]
    run: Run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run to the end, which also fills the token cache: it is no part of this."""
    folder = tmp_path_factory.mktemp("done")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 2, "evaluate_every": 1}
    return Done(recipe, mtbert.train(recipe, out=folder / "run"))


def failing(code: int) -> Callable[[str], None]:
    def strike(name: str) -> None:
        raise OSError(code, os.strerror(code))

    return strike


def mistake_of(act: Callable[[], Any], operations: Operations) -> str | None:
    """What is said when this is done on a disk that fails; None where it succeeds all the same."""
    try:
        with operations.watched():
            act()
    except Mistake as mistake:
        return str(mistake)
    return None


def train_on_failing_disks(done: Done, folder: Path, codes: Sequence[int], stride: int) -> int:
    """Train once for every operation that can fail; how many failed."""
    faults = 0
    for number in itertools.count(1, stride):
        for code in codes:
            run = Run(folder / f"{number}-{code}")
            operations = Operations(folder, number, failing(code))
            said = mistake_of(partial(mtbert.train, done.recipe, out=run.folder), operations)
            assert said is None or "could not be written" in said, (number, code, said)
            if operations.done < number:
                return faults
            faults += 1
            if run.has("best"):
                mtbert.load(run.part("best")).predict("mood", ["good film"])
            assert_same_run(mtbert.train(done.recipe, out=run.folder, resume=True), done.run)
    raise AssertionError


def test_training_on_a_disk_that_fails_says_so_and_goes_on_later_to_the_same_bits(done: Done, tmp_path: Path) -> None:
    assert train_on_failing_disks(done, tmp_path, ERRORS[:1], stride=13) >= 5


@pytest.mark.long
def test_training_on_a_disk_that_fails_at_any_operation_in_any_way(done: Done, tmp_path: Path) -> None:
    assert train_on_failing_disks(done, tmp_path, ERRORS, stride=1) >= 150


@pytest.mark.parametrize("words", ["predict", "course", "export"])
def test_results_on_a_disk_that_fails_are_a_message_and_leave_what_was_there(
    done: Done, tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = Path(done.recipe["data"]), tmp_path / ("out.csv" if words == "predict" else "out")
    arguments = {
        "predict": ["predict", done.run.folder, "--task", "mood", "--input", data / "mood-dev.tsv", "--output", out],
        "course": ["predict", done.run.folder, "--course", out, *COURSE],
        "export": ["export", done.run.folder, "--task", "mood", "--out", out],
    }[words]
    for number in itertools.count(1):
        code = ERRORS[number % 3]
        if words == "predict":
            out.write_text("earlier")
        monkeypatch.setattr(sys, "argv", ["mtbert", *map(str, arguments)])
        operations = Operations(tmp_path, number, failing(code))
        ended = 0
        with operations.watched():
            try:
                main()
            except SystemExit as end:
                ended = int(end.code or 0)
        said = capsys.readouterr().err
        if operations.done < number:
            assert number > 4
            return
        assert (ended == 2 and said.startswith("error: ") and "could not be written" in said) or ended == 0, said
        if words == "predict":
            assert out.read_text() == "earlier" or (out.read_text().startswith("id,") and len(out.read_text()) > 200)
        if words == "export" and out.exists():
            assert {"manifest.json", "config.json", "model.safetensors"} <= {path.name for path in out.iterdir()}
            out.rename(tmp_path / f"{number}-{code}")


def test_a_disk_that_fails_while_a_resumed_run_is_recorded_leaves_the_record(done: Done, tmp_path: Path) -> None:
    run = mtbert.train(done.recipe, out=tmp_path / "run")
    before = run.environment | {"threads": 77}
    run.write_json("environment.json", before)
    for number in itertools.count(1):
        operations = Operations(tmp_path, number, failing(errno.EIO))
        said = mistake_of(lambda: mtbert.train(done.recipe, out=run.folder, resume=True), operations)
        if said is None:
            break
        assert "could not be written" in said
        assert {key: value for key, value in run.environment.items() if key != "changes"} == before
    assert number > 5
