"""The run folder: what is in it, whose it is, and replacements that a kill cannot tear."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.model.files import MANIFEST, checked, naming, read_json, sealed
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.environment import Environment
from mtbert.runs.lock import LOCK
from mtbert.runs.log import Line, Log, Note
from mtbert.runs.notebook import html_table
from mtbert.runs.writing import disk, flush, write_beside, write_whole
from mtbert.training.loggers.table import LOGGERS

RECIPE, LOG, SCORES, ENVIRONMENT, MARK, BEST, LAST = (
    "recipe.yaml",
    "log.jsonl",
    "scores.json",
    "environment.json",
    "run.json",
    "best",
    "last",
)
PAGE, BESIDE = "report.html", "side_by_side.html"
LOGS = "logs"  # what loggers leave here
TEACHERS = "teachers"  # the runs of teachers that the recipe has trained first: 1, 2, ...
DRAWN = ("conflict.png", "conflict.svg", PAGE, BESIDE)  # what a report leaves here
WRITTEN = (RECIPE, LOG, SCORES, ENVIRONMENT, MARK, BEST, LAST, LOGS, TEACHERS, *DRAWN)
RUNS = "runs"  # where training puts a run that has no other place
NEAR, LOOKED_AT = 8, 1_000  # runs that a message names, and entries of a folder that are looked at for them
FORMAT = 2  # 1 had no mark, and lines of the log without `type`
GO_ON = "; what was saved before is intact, --resume goes on from there"


@dataclass(frozen=True)
class SetScores:
    """The types of the scores on one split."""

    overall: float
    tasks: dict[str, dict[str, float]]


@dataclass(frozen=True)
class KeptScores:
    """The types of what others read in scores.json."""

    stage: int
    step: int
    dev: SetScores
    constant: SetScores


def no_run(folder: Path) -> Mistake:
    """What to say where a person names a folder that holds no run: those that are near, and how one is made."""
    why, out = f"there is no {RECIPE} with {MARK} of mtbert in it", "RUN"
    if not folder.exists():
        why, out = "there is no such folder", str(folder)
    elif not folder.is_dir():
        why = "it is a file"
    elif (folder / PAGE).is_file():
        why += f"; the page of what it holds is {folder / PAGE}"
    near = ", ".join(map(str, runs_near(folder))) or "none"
    return Mistake(
        f"{folder} holds no run: {why} (runs near it: {near}); `mtbert train recipe.yaml --out {out}` makes one"
    )


def runs_near(folder: Path) -> list[Path]:
    """The first few runs beside a folder, in it, where training puts them by default, and in the working folder."""
    around = [folder.parent] if folder.parent.name else []
    for place in dict.fromkeys((folder.parent, folder, Path(RUNS), Path())):
        with suppress(OSError):
            around += sorted(place.iterdir())[:LOOKED_AT]
    found: dict[Path, Path] = {}
    for one in around:
        with suppress(OSError):  # what may not be looked into is no run that could be meant
            if one != folder and Run(one).exists:
                found.setdefault(one.resolve(), one)
    return list(found.values())[:NEAR]


class Run:
    """A run folder: what was asked for, how training went, and the models that came of it.

    recipe.yaml as it was run, run.json (the mark: format and version of mtbert), environment.json, log.jsonl,
    scores.json, best/ (the kept model and its scores) and last/ (the checkpoint that --resume goes on from), and
    teachers/ where the recipe has some trained first. While a process works in it, .lock says which.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run that is there; raises Mistake where the folder holds none, or one of a newer format."""
        run = cls(folder)
        if not run.exists:
            raise no_run(run.folder)
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
            (task, ", ".join(f"{metric} {value:z.4f}" for metric, value in metrics.items()))
            for task, metrics in self.scores["dev"]["tasks"].items()
        ]

    @property
    def exists(self) -> bool:
        """Whether a run was begun here: a recipe beside a run's mark or, in format 1, beside an environment of ours."""
        if not (self.folder / RECIPE).exists():
            return False
        return (self.folder / MARK).exists() or self._is_of_format_1

    def check_format(self) -> None:
        """Raises Mistake where a newer version of mtbert wrote the folder, or its mark is damaged or not ours."""
        mark = self.folder / MARK
        if not mark.exists():
            return  # format 1
        try:
            content = read_json(mark)
            number, version = content["format"], content["mtbert"]
            newer = number > FORMAT
        except (Mistake, TypeError, KeyError):
            raise Mistake(f"{mark} is damaged: it holds no format and version of mtbert") from None
        if newer:
            raise Mistake(
                f"{self.folder} was written by mtbert {version} in format {number}; this is mtbert {_version()}, which "
                f"reads formats up to {FORMAT}: install mtbert {version} or newer"
            )

    @property
    def _is_of_format_1(self) -> bool:
        try:
            return "mtbert" in self.environment["versions"]
        except (Mistake, TypeError, KeyError):
            return False

    def begin(self, recipe: str) -> None:
        """Mark the folder as a run's and write its recipe, by which a run is known to have begun."""
        self.write_json(MARK, {"format": FORMAT, "mtbert": _version()})
        self.write(RECIPE, recipe)

    @property
    def strangers(self) -> list[str]:
        """What is in the folder that no run wrote; before its recipe is written, a run leaves little."""
        if not self.folder.exists():
            return []
        if not self.folder.is_dir():
            raise Mistake(f"{self.folder} is a file, not a folder")
        written = WRITTEN if self.exists else (MARK, ENVIRONMENT)
        ours = {LOCK, *written, f".{RECIPE}.new", *(f".{name}{end}" for name in written for end in (".new", ".old"))}
        found = [path.name for path in self.folder.iterdir() if path.name not in ours]
        if self.exists and (self.folder / LOGS).is_dir():
            found += [f"{LOGS}/{path.name}" for path in (self.folder / LOGS).iterdir() if path.name not in LOGGERS]
        found += [f"{name}/{file}" for name in (BEST, LAST) for file in self._strangers_in(name)]
        return sorted([*found, *self._strangers_among_teachers()])

    def teacher(self, number: int) -> Path:
        """The folder of a teacher that the recipe has trained first, counted from 1."""
        return self.folder / TEACHERS / str(number)

    @property
    def teachers(self) -> list[Run]:
        """The teachers' runs that are there, in their order."""
        found = sorted(int(path.name) for path in (self.folder / TEACHERS).glob("*") if path.name.isdecimal())
        return [run for number in found if (run := Run(self.teacher(number))).exists]

    def _strangers_among_teachers(self) -> Iterator[str]:
        folder = self.folder / TEACHERS
        for path in folder.iterdir() if self.exists and folder.is_dir() else ():
            if path.name.isdecimal() and path.is_dir():
                yield from (f"{TEACHERS}/{path.name}/{name}" for name in Run(path).strangers)
            else:
                yield f"{TEACHERS}/{path.name}"

    def _strangers_in(self, name: str) -> list[str]:
        """The files in `best` or `last` that its manifest does not name; none where it has no manifest."""
        folder = self.folder / name
        if not (self.exists and (folder / MANIFEST).exists()):
            return []
        with suppress(Mistake):  # a damaged manifest names nothing
            ours = {MANIFEST, *sealed(folder)}
            files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
            return sorted(files - ours)
        return []

    def recipe(self, data: str | Path | None = None) -> Recipe:
        """The recipe as it was run; `data` is a folder to read its files from instead of the one it names."""
        return read_recipe(self.folder / RECIPE, data=data)

    @property
    def environment(self) -> dict[str, Any]:
        """What the run depended on besides its recipe; raises Mistake where that cannot be read."""
        content = read_json(self.folder / ENVIRONMENT)
        with naming(self.folder / ENVIRONMENT):
            checked(Environment, content, "")
        return content

    @property
    def log(self) -> Log:
        """How training went, line by line."""
        return Log(self.folder / LOG)

    def log_line(self, line: Line) -> None:
        """Add a line to the log; raises Mistake where the disk refuses it."""
        with disk(self.folder, GO_ON):
            self.log.write(line)

    def cut_log(self, size: int) -> None:
        """Drop what was logged behind the first `size` bytes, which no checkpoint counts on."""
        with disk(self.folder):
            self.log.cut(size)

    def flush_log(self) -> None:
        """Wait until the log is on the disk, before a checkpoint is written that counts on it."""
        if self.log.path.exists():
            with disk(self.folder, GO_ON):
                flush(self.log.path)

    @property
    def stopped(self) -> str | None:
        """Why training ended before its time: the reason that a listener gave, or None."""
        line = None
        for line in self.log:  # noqa: B007
            pass
        return line.text if isinstance(line, Note) else None

    @property
    def scores(self) -> dict[str, Any]:
        """The kept model's dev scores, beside those of a constant predictor; raises Mistake where they are damaged."""
        # a kill may come after a new model was kept and before the scores at the top of the folder were written anew
        kept = self.part(BEST) / SCORES if self.has(BEST) else None
        path = kept if kept is not None and kept.exists() else self.folder / SCORES
        content = read_json(path)
        with naming(path):
            checked(KeptScores, content, "")
        return content

    def has(self, name: str) -> bool:
        """Whether `best` or `last` has been written."""
        folder, _, old = self._generations(name)
        return folder.exists() or old.exists()

    def clear(self) -> None:
        """Remove what an earlier run left; last of all what the folder is known by as a run's."""
        with disk(self.folder):
            for name in (BEST, LAST):
                for folder in self._generations(name):
                    shutil.rmtree(folder, ignore_errors=True)
            for name in (LOGS, TEACHERS):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in (*DRAWN, LOG, SCORES, RECIPE, ENVIRONMENT, MARK):
                (self.folder / name).unlink(missing_ok=True)

    def remove_weights(self) -> None:
        """Remove the models, of a run that nobody goes on with; its recipe, log, scores and environment stay."""
        for name in (BEST, LAST):
            if self.has(name):
                shutil.rmtree(self.part(name))
        shutil.rmtree(self.folder / TEACHERS, ignore_errors=True)

    def part(self, name: str) -> Path:
        """The folder `best` or `last`; finishes a replacement that was cut off; raises Mistake where it never was."""
        folder = self._finish(name)
        if not folder.exists():
            raise Mistake(f"{self.folder} has no {name}/: its training came to no evaluation, or it was removed")
        return folder

    def replace(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a folder anew; at any instant either the old or the new one is there, whole."""
        folder = self._finish(name)
        _, new, old = self._generations(name)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        with disk(self.folder, GO_ON):
            write_beside(new, write)
            if folder.exists():
                folder.rename(old)
                self._finish(name)
            else:
                new.rename(folder)
            flush(self.folder)
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


class Watched(Run):
    """A run folder in which another process works: it is read, and what would be written is left to that one."""

    def begin(self, recipe: str) -> None:
        pass

    def log_line(self, line: Line) -> None:
        pass

    def cut_log(self, size: int) -> None:
        pass

    def flush_log(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def replace(self, name: str, write: Callable[[Path], None]) -> None:
        pass

    def write(self, name: str, content: str) -> None:
        pass


def _version() -> str:
    return importlib.metadata.version("mtbert")
