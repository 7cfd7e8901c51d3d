"""Result files, written where a person said, and never over something that is not theirs to lose."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mtbert.errors import Mistake
from mtbert.runs.folder import WRITTEN, Run
from mtbert.runs.lock import LOCK
from mtbert.runs.writing import disk, whole_file, write_whole

STANDARD_OUTPUT = Path("-")


class Output:
    """A place for a text: a file, or a device, a pipe or `-` (standard output), which is written to as it is.

    Raises Mistake, before there is anything to write, for a folder, for one of the `inputs`, and for a file of a run.
    """

    def __init__(self, path: Path, inputs: Iterable[Any] = ()) -> None:
        self.path = path
        if self.streams:
            return
        if path.is_dir():
            raise Mistake(f"{path} is a folder; name a file in it")
        for read in inputs:
            if isinstance(read, (str, Path)) and _same(path, Path(read)):
                raise Mistake(f"{path} is what is read here, and would be lost; name another file to write")
        refuse_run(path)

    @property
    def streams(self) -> bool:
        """Whether what is written goes somewhere else than into a file of its own."""
        if self.path == STANDARD_OUTPUT or str(self.path).startswith(("/dev/", "/proc/")):
            return True
        with disk(self.path):
            return self.path.exists() and not (stat.S_ISREG(self.path.stat().st_mode) or self.path.is_dir())

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """A file to write to piece by piece, which appears once it is whole; raises Mistake as `write`."""
        if self.path == STANDARD_OUTPUT:
            with disk(Path("standard output")):
                yield sys.stdout.buffer
                sys.stdout.buffer.flush()
        elif self.streams:
            with disk(self.path), self.path.open("wb") as stream:
                yield stream
        else:
            with whole_file(self.path.resolve()) as file:  # through a link, which stays one
                yield file

    def write(self, content: str) -> None:
        """Write it all, a file whole or not at all; raises Mistake where that fails."""
        if self.path == STANDARD_OUTPUT:
            with disk(Path("standard output")):
                sys.stdout.write(content)
                sys.stdout.flush()
        elif self.streams:
            with disk(self.path), self.path.open("w", encoding="utf-8", newline="") as stream:
                stream.write(content)
        else:
            write_whole(self.path.resolve(), content)  # through a link, which stays one


def refuse_run(path: Path) -> None:
    """Raise Mistake for a path that is among what a run wrote."""
    whole = Path(os.path.abspath(path.resolve()))
    for folder in whole.parents:
        name = whole.relative_to(folder).parts[0]
        if name.removeprefix(".").removesuffix(".new").removesuffix(".old") in _OURS and Run(folder).exists:
            raise Mistake(f"{path} is among what the run in {folder} wrote; name another place to write to")


_OURS = {*WRITTEN, LOCK.removeprefix(".")}


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of the two is not there
        return False
