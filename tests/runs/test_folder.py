"""The run folder: replacements that neither a kill nor a full disk can tear."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from mtbert.errors import Mistake
from mtbert.runs.folder import BEST, ENVIRONMENT, LAST, LOG, MARK, RECIPE, SCORES, Run
from mtbert.runs.log import Note
from mtbert.runs.writing import write_whole


def writer(content: str) -> Callable[[Path], None]:
    """Writes a folder of two files, one of them nested."""

    def write(folder: Path) -> None:
        (folder / "encoder").mkdir()
        (folder / "encoder" / "weights").write_text(content)
        (folder / "model.json").write_text(content)

    return write


def content(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file()}


def half_then(error: BaseException) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.json").write_text("half")
        raise error

    return write


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.folder.iterdir())


def test_a_replacement_leaves_the_new_folder_and_nothing_else(run: Run) -> None:
    for text in ("one", "two", "three"):
        run.replace(BEST, writer(text))
        assert content(run.part(BEST)) == {text}
        assert names(run) == ["best"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyboardInterrupt(),
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_writer_that_fails_leaves_the_old_folder_whole(run: Run, error: BaseException) -> None:
    run.replace(BEST, writer("old"))
    with pytest.raises((type(error), Mistake)):
        run.replace(BEST, half_then(error))
    assert content(run.part(BEST)) == {"old"}
    assert names(run) == ["best"]
    run.replace(BEST, writer("new"))
    assert content(run.part(BEST)) == {"new"}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        SafetensorError(f"Error while serializing: I/O error: Disk quota exceeded (os error {errno.EDQUOT})"),
    ],
)
def test_a_full_disk_is_said_as_one_with_the_remedy(run: Run, error: Exception) -> None:
    run.replace(LAST, writer("old"))
    with pytest.raises(Mistake, match=r"run could not be written: the disk is full;.*intact.*--resume"):
        run.replace(LAST, half_then(error))
    assert content(run.part(LAST)) == {"old"}


def test_a_disk_that_fails_otherwise_is_said_as_it_is(run: Run) -> None:
    with pytest.raises(Mistake, match="Input/output error"):
        run.replace(LAST, half_then(OSError(errno.EIO, "Input/output error")))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_on_a_truly_full_disk_is_a_mistake(run: Run) -> None:
    run.folder.mkdir()
    (run.folder / LOG).symlink_to("/dev/full")
    with pytest.raises(Mistake, match="the disk is full"):
        run.log_line(Note(0, 1, "why"))


def test_a_full_disk_leaves_the_old_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write(SCORES, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Mistake, match="the disk is full"):
        run.write(SCORES, "new")
    assert (run.folder / SCORES).read_text() == "old"
    assert names(run) == [SCORES]


def snapshots(run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[Path]:
    """Copies of the run folder, one before each thing done to it."""
    taken: list[Path] = []

    def before(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            taken.append(shutil.copytree(run.folder, folder / str(len(taken))))
            return act(*arguments, **options)

        return acted

    for owner, name in ((Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (shutil, "rmtree"), (os, "fsync")):
        monkeypatch.setattr(owner, name, before(getattr(owner, name)))
    return taken


def test_at_any_instant_of_a_replacement_the_old_or_the_new_is_there_whole(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.replace(LAST, writer("old"))
    with monkeypatch.context() as patch:
        taken = snapshots(run, patch, tmp_path / "taken")
        run.replace(LAST, writer("new"))
    assert len(taken) >= 7
    found = []
    for folder in taken:
        torn = Run(folder)
        assert torn.has(LAST)
        found.append(content(torn.part(LAST)))
        torn.replace(LAST, writer("later"))  # and the next replacement clears up
        assert content(torn.part(LAST)) == {"later"}
        assert names(torn) == ["last"]
    assert found == sorted(found, key=lambda texts: texts == {"new"})  # old, old, ..., new, new
    assert [{"old"}, {"new"}] == [found[0], found[-1]]


def test_a_replacement_cut_off_between_its_two_renames_is_finished_on_reading(run: Run) -> None:
    run.folder.mkdir()
    for name, text in ((".best.old", "old"), (".best.new", "new")):
        (run.folder / name).mkdir()
        writer(text)(run.folder / name)
    assert run.has(BEST)
    assert content(run.part(BEST)) == {"new"}


def test_another_process_may_read_while_a_replacement_is_under_way(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.replace(BEST, writer("old"))
    found: list[set[str]] = []
    rename, reading = Path.rename, [False]

    def read() -> None:
        if not reading[0]:
            reading[0] = True
            found.append(content(Run(run.folder).part(BEST)))
            reading[0] = False

    def write(folder: Path) -> None:
        read()
        writer("new")(folder)
        read()

    def spy(self: Path, target: Path) -> Path:
        read()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", spy)
    run.replace(BEST, write)
    read()
    assert found[:3] == [{"old"}] * 3
    assert set().union(*found[3:]) <= {"old", "new"}
    assert found[-1] == {"new"}


def test_a_half_written_folder_of_a_killed_run_is_never_read(run: Run) -> None:
    (run.folder / ".best.new").mkdir(parents=True)
    (run.folder / ".best.new" / "model.json").write_text("half")
    assert not run.has(BEST)
    with pytest.raises(Mistake, match="no best/: its training came to no evaluation"):
        run.part(BEST)
    run.replace(BEST, writer("whole"))
    assert names(run) == ["best"]


def test_no_one_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "scores.json"
    write_whole(path, "old")
    seen = []
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        seen.append((path.read_bytes(), self.read_bytes()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    write_whole(path, "new\r\nlines\n")
    assert seen == [(b"old", b"new\r\nlines\n")]
    assert path.read_bytes() == b"new\r\nlines\n"
    assert [one.name for one in path.parent.iterdir()] == ["scores.json"]


def test_clear_removes_what_a_run_left_and_nothing_else(run: Run) -> None:
    run.replace(BEST, writer("best"))
    run.write(RECIPE, "tasks: {}")
    run.write_json(SCORES, {"overall": 1})
    (run.folder / ".last.old").mkdir()
    (run.folder / "notes.txt").write_text("mine")
    run.clear()
    assert names(run) == ["notes.txt"]


def test_the_runs_near_a_folder_that_holds_none_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "runs/first", "other/second"):
        Path(name).mkdir(parents=True)
        Run(name).begin("tasks: {}\n")
    Path("mine/best").mkdir()
    Path("file").write_text("x")
    Path("runs/compare").mkdir()
    Path("runs/compare/report.html").write_text("x")
    near = {
        "mien": "there is no such folder (runs near it: mine, runs/first); `mtbert train recipe.yaml --out mien`",
        "other": "there is no recipe.yaml with run.json of mtbert in it (runs near it: mine, other/second, runs/first)",
        "mine/best": "there is no recipe.yaml with run.json of mtbert in it (runs near it: mine, runs/first)",
        "runs/fist": "there is no such folder (runs near it: runs/first, mine)",
        "runs/compare": "there is no recipe.yaml with run.json of mtbert in it; the page of what it holds is "
        "runs/compare/report.html (runs near it: runs/first, mine)",
        "file": "it is a file (runs near it: mine, runs/first); `mtbert train recipe.yaml --out RUN` makes one",
    }
    for name, said in near.items():
        with pytest.raises(Mistake) as caught:
            Run.open(name)
        assert f"{name} holds no run: {said}" in str(caught.value)


def test_a_folder_that_may_not_be_looked_into_is_no_run_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "mine"):
        Run(tmp_path / name).begin("tasks: {}\n")
    there = Path.exists

    def refused(path: Path) -> bool:
        if "closed" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return there(path)

    monkeypatch.setattr(Path, "exists", refused)  # modes do not hold back a root user, who may run this
    with pytest.raises(Mistake, match=r"\(runs near it: \S+/mine\)"):
        Run.open(tmp_path / "mien")


def test_a_folder_without_a_recipe_is_no_run(run: Run) -> None:
    with pytest.raises(Mistake, match="holds no run: there is no such folder"):
        Run.open(run.folder)
    run.write_json(SCORES, {"ä": 1})
    assert json.loads((run.folder / SCORES).read_text(encoding="utf-8")) == {"ä": 1}
    with pytest.raises(Mistake, match=r"scores\.json: stage is .*: field required"):
        _ = run.scores
    assert not run.exists


# ---- the format


def test_a_run_of_a_newer_version_is_refused_with_the_remedy(run: Run) -> None:
    run.begin("tasks: {}")
    run.write_json(MARK, {"format": 3, "mtbert": "9.1.0"})
    with pytest.raises(Mistake, match=r"written by mtbert 9\.1\.0 in format 3; .*: install mtbert 9\.1\.0 or newer"):
        Run.open(run.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "two", "mtbert": "0.1"}', '{"format": 2}', "\x00"])
def test_a_damaged_mark_is_said(run: Run, content: str) -> None:
    run.begin("tasks: {}")
    run.write(MARK, content)
    with pytest.raises(Mistake, match=r"run\.json is damaged"):
        Run.open(run.folder)


def test_a_run_of_format_1_has_no_mark_and_opens(run: Run) -> None:
    run.write_json(ENVIRONMENT, {"versions": {"mtbert": "0.1.0"}})
    run.write(RECIPE, "tasks: {}")
    assert Run.open(run.folder).exists


@pytest.mark.parametrize("beside", [{}, {ENVIRONMENT: {}}, {ENVIRONMENT: {"versions": {"cooker": "2.0"}}}])
def test_a_folder_that_holds_somebodys_recipe_is_no_run(run: Run, beside: dict[str, Any]) -> None:
    run.write(RECIPE, "tasks: {}")
    for name, content in beside.items():
        run.write_json(name, content)
    assert not run.exists
    assert run.strangers == [RECIPE]
