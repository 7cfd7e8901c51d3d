"""The run folder: what is in it, and writes that a kill or a full disk cannot tear."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.log import Line, Log, Note
from mtbert.runs.notebook import html_table

RECIPE, LOG, SCORES, ENVIRONMENT, MARK, BEST, LAST = (
    "recipe.yaml",
    "log.jsonl",
    "scores.json",
    "environment.json",
    "run.json",
    "best",
    "last",
)
FORMAT = 2  # 1 had no mark, and lines of the log without `type`
GO_ON = "; what was saved before is intact, --resume goes on from there"


class Run:
    """A run folder: what was asked for, how training went, and the models that came of it.

    recipe.yaml as it was run, run.json (the mark: format and version of mtbert), environment.json, log.jsonl,
    scores.json, best/ (the kept model and its scores) and last/ (the checkpoint that --resume goes on from).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run that is there; raises Mistake where the folder holds none, or one of a newer format."""
        run = cls(folder)
        if not run.exists:
            raise Mistake(f"{folder} holds no run: there is no {RECIPE} with {MARK} or {ENVIRONMENT} in it")
        run.check_format()
        return run

    def __repr__(self) -> str:
        return f"{self._title}\n" + "\n".join(f"  {name}: {said}" for name, said in self._facts)

    def _repr_html_(self) -> str:
        return html_table(self._title, ["task", "dev scores of the kept model"], self._facts)

    @property
    def _title(self) -> str:
        if not self.exists:
            return f"{self.folder}: no run yet"
        return f"run in {self.folder}" + ("" if self.has(BEST) else ": nothing is kept yet")

    @property
    def _facts(self) -> list[tuple[str, str]]:
        """Each task and its scores."""
        if not self.exists or not self.has(BEST):
            return []
        return [
            (task, ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))
            for task, metrics in self.scores["dev"]["tasks"].items()
        ]

    @property
    def exists(self) -> bool:
        """Whether a run was begun here; a recipe alone does not make a folder a run's."""
        return (self.folder / RECIPE).exists() and any((self.folder / name).exists() for name in (MARK, ENVIRONMENT))

    def check_format(self) -> None:
        """Raises Mistake where a newer version of mtbert wrote the folder, or its mark is damaged."""
        mark = self.folder / MARK
        if not mark.exists():
            return  # format 1
        try:
            content = json.loads(mark.read_text(encoding="utf-8"))
            number, version = content["format"], content["mtbert"]
            newer = number > FORMAT
        except (ValueError, TypeError, KeyError):
            raise Mistake(f"{mark} is damaged: it holds no format and version of mtbert") from None
        if newer:
            raise Mistake(
                f"{self.folder} was written by mtbert {version} in format {number}; this is mtbert {_version()}, which "
                f"reads formats up to {FORMAT}: install mtbert {version} or newer"
            )

    def begin(self, recipe: str) -> None:
        """Mark the folder as a run's and write its recipe, by which a run is known to have begun."""
        self.write_json(MARK, {"format": FORMAT, "mtbert": _version()})
        self.write(RECIPE, recipe)

    @property
    def strangers(self) -> list[str]:
        """What is in the folder that a run does not leave before its recipe is written."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise Mistake(f"{self.folder} is a file, not a folder")
        ours = {name for begun in (ENVIRONMENT, MARK) for name in (begun, f".{begun}.new")} | {f".{RECIPE}.new"}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in ours)

    def recipe(self, data: str | Path | None = None) -> Recipe:
        """The recipe as it was run; `data` is a folder to read its files from instead of the one it names."""
        return read_recipe(self.folder / RECIPE, data=data)

    @property
    def log(self) -> Log:
        """How training went, line by line."""
        return Log(self.folder / LOG)

    def log_line(self, line: Line) -> None:
        """Add a line to the log; raises Mistake where the disk refuses it."""
        with _disk(self.folder, GO_ON):
            self.log.write(line)

    @property
    def stopped(self) -> str | None:
        """Why training ended before its time: the reason that a listener gave, or None."""
        line = None
        for line in self.log:  # noqa: B007
            pass
        return line.text if isinstance(line, Note) else None

    @property
    def scores(self) -> dict[str, Any]:
        """The kept model's dev scores, beside those of a constant predictor."""
        # a kill may come after a new model was kept and before the scores at the top of the folder were written anew
        kept = self.part(BEST) / SCORES if self.has(BEST) else None
        path = kept if kept is not None and kept.exists() else self.folder / SCORES
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
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
            for name in (LOG, SCORES, ENVIRONMENT, MARK, RECIPE):
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

    def _finish(self, name: str) -> Path:
        """Put a whole new folder in its place; another process, reading, may come first."""
        folder, new, old = self._generations(name)
        if not folder.exists() and old.exists():
            with suppress(FileNotFoundError):
                new.rename(folder)
        return folder

    def _generations(self, name: str) -> tuple[Path, Path, Path]:
        return self.folder / name, self.folder / f".{name}.new", self.folder / f".{name}.old"


def _version() -> str:
    return importlib.metadata.version("mtbert")


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
