"""One process at a time in a run folder: whoever comes second is told who was first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

import mtbert
import mtbert.runs.train
from mtbert.app.cli import main
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.lock import LOCK, holder, in_turn, locked
from tests.support.cut_off import Kill, assert_same_run
from tests.support.small import recipe_over, write_small_data

# reads lines "folder option", trains into the folder, and says whether it began; one that began waits to be let go on
WORKER = """
import sys, torch
import mtbert
import mtbert.runs.train
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
torch.set_num_threads(1)

class Begun(Listener):
    def begin(self, stage, steps, done):
        print("begun", flush=True)
        sys.stdin.readline()

print("ready", flush=True)
while line := sys.stdin.readline().split():
    folder, *options = line
    try:
        mtbert.train(sys.argv[1], out=folder, listener=Begun(), **dict.fromkeys(options, True))
        print("done", flush=True)
    except Mistake as mistake:
        print("refused", str(mistake), flush=True)
"""


class Worker:
    """A process that trains when it is told to."""

    def __init__(self, recipe: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(recipe)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 2, "evaluate_every": 2}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def workers(recipe_file: Path) -> Iterator[list[Worker]]:
    both = [Worker(recipe_file) for _ in range(2)]
    with ExitStack() as ending:
        for worker in both:
            ending.callback(worker.end)
        assert [worker.hear() for worker in both] == ["ready", "ready"]
        yield both


def race(workers: list[Worker], recipe_file: Path, tmp_path: Path, rounds: int) -> None:
    """Two that start, resume or overwrite at once: exactly one goes on, and comes to its end."""
    whole = mtbert.train(recipe_file, out=tmp_path / "whole")
    for number in range(rounds):
        folder, options = tmp_path / f"run-{number}", [[], ["resume"], ["overwrite"]][number % 3]
        if options:
            mtbert.train(recipe_file, out=folder)
            (folder / LOCK).write_text(
                '{"process": 1, "machine": "gone", "since": "long ago"}'
            )  # of one that was killed
        for worker in workers:
            worker.tell(folder, *options)
        with ThreadPoolExecutor() as ears:
            heard = list(ears.map(Worker.hear, workers))
        first = heard.index("begun")
        assert heard[1 - first].startswith("refused"), heard
        assert f"under way: process {workers[first].process.pid} on " in heard[1 - first]
        workers[first].tell()
        assert workers[first].hear() == "done"
        assert_same_run(mtbert.train(recipe_file, out=folder, resume=True), whole)
        assert not (folder / LOCK).exists()


def test_of_two_that_start_resume_or_overwrite_at_once_exactly_one_goes_on(
    workers: list[Worker], recipe_file: Path, tmp_path: Path
) -> None:
    race(workers, recipe_file, tmp_path, rounds=3)


@pytest.mark.long
def test_of_two_that_begin_at_once_exactly_one_goes_on_in_each_of_twenty_rounds(
    workers: list[Worker], recipe_file: Path, tmp_path: Path
) -> None:
    race(workers, recipe_file, tmp_path, rounds=20)


def test_a_lock_whose_holder_was_killed_is_taken_over(workers: list[Worker], recipe_file: Path, tmp_path: Path) -> None:
    workers[0].tell(tmp_path / "run")
    assert workers[0].hear() == "begun"
    assert f"process {workers[0].process.pid} " in str(holder(tmp_path / "run"))
    workers[0].process.send_signal(signal.SIGKILL)
    workers[0].process.wait()
    assert (tmp_path / "run" / LOCK).exists()
    assert holder(tmp_path / "run") is None
    mtbert.train(recipe_file, out=tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("option", [None, "resume", "overwrite"])
def test_a_run_under_way_is_left_as_it_is(small_recipe: dict[str, Any], tmp_path: Path, option: str | None) -> None:
    class Intrude(Listener):
        def begin(self, stage: int, steps: int, done: int) -> None:
            before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
            with pytest.raises(Mistake, match=rf"is under way: process {os.getpid()} on .*, since 20.*--out"):
                mtbert.train(
                    small_recipe, out=tmp_path / "run", resume=option == "resume", overwrite=option == "overwrite"
                )
            assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before

    whole = mtbert.train(small_recipe, out=tmp_path / "whole")
    assert_same_run(mtbert.train(small_recipe, out=tmp_path / "run", listener=Intrude()), whole)


def test_the_command_is_refused_with_exit_code_2(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mtbert.train(recipe_file, out=tmp_path / "run")
    for option in ("--resume", "--overwrite"):
        monkeypatch.setattr(sys, "argv", ["mtbert", "train", str(recipe_file), "--out", str(tmp_path / "run"), option])
        with locked(tmp_path / "run"), pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'run'} is under way: process {os.getpid()} on ")


def test_a_lock_is_given_back_whatever_happens_and_says_who_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with pytest.raises(KeyError, match="gone"), locked(folder):
        raise KeyError(json.loads((folder / LOCK).read_text())["machine"] and "gone")
    assert holder(folder) is None
    assert list(folder.iterdir()) == []
    with locked(folder):
        assert holder(folder) is not None


def test_a_lock_that_says_nothing_still_holds(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("")
        with pytest.raises(Mistake, match="another process works in it"), locked(tmp_path):
            pass


def test_who_is_beaten_by_the_removal_of_the_file_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it, its holder may remove it: a lock on it would be worth nothing."""
    opened = os.open
    taken: list[Any] = []

    def removed(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = opened(path, *arguments, **options)
        if str(path).endswith(LOCK) and not taken:
            taken.append(path)
            os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", removed)
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(Mistake, match="under way"), locked(tmp_path):
            pass
    assert taken


def test_who_prepares_while_another_begins_and_ends_finds_a_run_there(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was there when the second one looked, and a whole run when it had prepared its own."""
    prepare = mtbert.runs.train.prepare
    for option in ("resume", "none"):
        folder = tmp_path / option
        first: list[Run] = []

        def after_another(*arguments: Any, folder: Path = folder, first: list[Run] = first, **options: Any) -> Any:
            if not first:
                first.append(Run(folder))
                mtbert.train(small_recipe, out=folder)
            return prepare(*arguments, **options)

        monkeypatch.setattr(mtbert.runs.train, "prepare", after_another)
        if option == "resume":
            mtbert.train(small_recipe, out=folder, resume=True, listener=Kill(steps=1))  # which takes no step
        else:
            with pytest.raises(Mistake, match="already holds a run"):
                mtbert.train(small_recipe, out=folder)
        monkeypatch.setattr(mtbert.runs.train, "prepare", prepare)
        assert Run(folder).scores["step"] > 0


def test_who_waits_for_a_turn_gets_it_when_the_holder_lets_go_and_is_told_who_has_it_where_not(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with in_turn(tmp_path):
            order.append("second")

    with locked(tmp_path):
        with pytest.raises(Mistake, match=f"process {os.getpid()} on"), in_turn(tmp_path, patience=0):
            pass
        waiting = Thread(target=wait)
        waiting.start()
        time.sleep(0.3)  # longer than `locked` tries
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert not any(tmp_path.iterdir())
