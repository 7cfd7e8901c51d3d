"""Writes that neither a kill, nor a full disk, nor a power cut can tear."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from mtbert.errors import Mistake


def write_whole(path: Path, content: str) -> None:
    """Write a text file so that no one ever sees half of it; raises Mistake where it cannot be written."""
    with whole_file(path) as file:
        file.write(content.encode())


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that no one ever sees half of; raises Mistake where it cannot be written."""
    unfinished = path.with_name(f".{path.name}.new")
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                yield file
            flush(unfinished)
            unfinished.replace(path)
            flush(path.parent)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that is absent or empty, whole or not at all; raises Mistake where it holds something."""
    with disk(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Mistake(f"{folder} is not an empty folder; name another with --out")
        new = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        write_beside(new, write)
        new.replace(folder)
        flush(folder.parent)


def write_beside(new: Path, write: Callable[[Path], None]) -> None:
    """Write a new folder down to the disk; nothing of it is left where that fails."""
    new.mkdir(parents=True)
    try:
        write(new)
        for path in [*new.rglob("*"), new]:
            flush(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt":
        if path.is_dir():
            return  # Windows flushes files only
        flags = os.O_RDWR
    else:
        flags = os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot flush folders says so
            raise
    finally:
        os.close(descriptor)


@contextmanager
def disk(place: Path, remedy: str = "") -> Iterator[None]:
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
