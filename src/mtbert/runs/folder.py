"""The run folder: what is in it, and writes that a kill or a full disk cannot tear."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mtbert.errors import Mistake

RECIPE, LOG, SCORES, ENVIRONMENT, BEST, LAST = (
    "recipe.yaml",
    "log.jsonl",
    "scores.json",
    "environment.json",
    "best",
    "last",
)
GO_ON = "; what was saved before is intact, --resume goes on from there"


class Run:
    """recipe.yaml as run, log.jsonl, scores.json, environment.json, best/ (the kept model), last/ (to go on from)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run that is there; raises Mistake where the folder holds none."""
        run = cls(folder)
        if not run.exists:
            raise Mistake(f"{folder} holds no run: there is no {RECIPE} in it")
        return run

    @property
    def exists(self) -> bool:
        return (self.folder / RECIPE).exists()

    @property
    def strangers(self) -> list[str]:
        """What is in the folder that a run does not leave before its recipe is written."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise Mistake(f"{self.folder} is a file, not a folder")
        ours = {ENVIRONMENT, f".{ENVIRONMENT}.new", f".{RECIPE}.new"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in ours)

    @property
    def scores(self) -> dict[str, Any]:
        """The kept model's dev scores, beside those of a constant predictor."""
        scores: dict[str, Any] = json.loads((self.folder / SCORES).read_text(encoding="utf-8"))
        return scores

    def has(self, name: str) -> bool:
        """Whether `best` or `last` has been written."""
        folder, _, old = self._generations(name)
        return folder.exists() or old.exists()

    def clear(self) -> None:
        """Remove what an earlier run left; its recipe last, by which the folder is known as a run's."""
        with _disk(self.folder):
            for name in (BEST, LAST):
                for folder in self._generations(name):
                    shutil.rmtree(folder, ignore_errors=True)
            for name in (LOG, SCORES, ENVIRONMENT, RECIPE):
                (self.folder / name).unlink(missing_ok=True)

    def part(self, name: str) -> Path:
        """The folder `best` or `last`; finishes a replacement that was cut off; raises Mistake where it never was."""
        folder = self._finish(name)
        if not folder.exists():
            raise Mistake(f"{self.folder} has no {name}/ yet: its training ended before the first evaluation")
        return folder

    def replace(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a folder anew; at any instant either the old or the new one is there, whole."""
        folder = self._finish(name)
        _, new, old = self._generations(name)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        with _disk(self.folder, GO_ON):
            _write_beside(new, write)
            if folder.exists():
                folder.rename(old)
                self._finish(name)
            else:
                new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def write(self, name: str, content: str) -> None:
        """Write one file anew, whole or not at all."""
        write_whole(self.folder / name, content)

    def write_json(self, name: str, content: Any) -> None:
        self.write(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def log(self, record: Mapping[str, Any]) -> None:
        """Add one line to the log."""
        with _disk(self.folder, GO_ON), (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record, ensure_ascii=False) + "\n")

    @property
    def log_size(self) -> int:
        log = self.folder / LOG
        return log.stat().st_size if log.exists() else 0

    def cut_log(self, size: int) -> None:
        """Drop what was logged after a checkpoint that training goes back to."""
        if self.log_size > size:
            os.truncate(self.folder / LOG, size)

    def records(self) -> Iterator[dict[str, Any]]:
        """The log, line by line."""
        with (self.folder / LOG).open(encoding="utf-8") as log:
            for line in log:
                yield json.loads(line)

    def _finish(self, name: str) -> Path:
        """Put a whole new folder in its place; another process, reading, may come first."""
        folder, new, old = self._generations(name)
        if not folder.exists() and old.exists():
            with suppress(FileNotFoundError):
                new.rename(folder)
        return folder

    def _generations(self, name: str) -> tuple[Path, Path, Path]:
        return self.folder / name, self.folder / f".{name}.new", self.folder / f".{name}.old"


def write_whole(path: Path, content: str) -> None:
    """Write a text file so that no one ever sees half of it; raises Mistake where it cannot be written."""
    unfinished = path.with_name(f".{path.name}.new")
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(content, encoding="utf-8", newline="")
            _flush(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that is absent or empty, whole or not at all; raises Mistake where it holds something."""
    with _disk(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Mistake(f"{folder} is not an empty folder; name another with --out")
        new = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        _write_beside(new, write)
        new.replace(folder)


def _write_beside(new: Path, write: Callable[[Path], None]) -> None:
    new.mkdir(parents=True)
    try:
        write(new)
        for path in new.rglob("*"):
            _flush(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _flush(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _disk(place: Path, remedy: str = "") -> Iterator[None]:
    """What the disk refuses is said in one line."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or str(error)
        raise Mistake(f"{place} could not be written: {why}{remedy}") from error
    except SafetensorError as error:
        # the library wraps the system's error in its own
        full = any(f"os error {code}" in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
        why = "the disk is full" if full else str(error)
        raise Mistake(f"{place} could not be written: {why}{remedy}") from error
