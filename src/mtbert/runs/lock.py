"""One process at a time works in a run folder."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mtbert.errors import Mistake
from mtbert.runs.writing import disk

LOCK = ".lock"
TRIES, PAUSE = 5, 0.02  # someone who only looks holds the lock for a moment
BEYOND = 1 << 30  # the byte that Windows locks lies behind the text, so that others may read the text


class UnderWay(Mistake):
    """Somebody else has the lock, or had it a moment ago."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is not there; raises UnderWay saying who else holds it.

    The system keeps the lock for as long as the process lives: one whose holder was killed is free. The file says who
    holds it, on which machine and since when.
    """
    path = folder / LOCK
    with disk(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(path)
    try:
        with disk(path):
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(_holder()).encode())
        yield
    finally:
        if sys.platform == "win32":  # where an open file cannot be removed
            os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        if sys.platform != "win32":
            os.close(descriptor)


@contextmanager
def in_turn(folder: Path, patience: float = 60.0) -> Iterator[None]:
    """Hold the lock of a folder as soon as whoever has it lets go of it: for what takes moments.

    Raises UnderWay where somebody still has it after `patience` seconds.
    """
    last = time.monotonic() + patience
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(folder))
                break
            except UnderWay:
                if time.monotonic() > last:
                    raise
        yield


def holder(folder: Path) -> str | None:
    """Who works in a folder, as a person reads it; None where nobody does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        return None if _lock(descriptor) else _said(folder / LOCK)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """The lock file, locked; raises UnderWay where another process has it."""
    for _ in range(TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor):
            os.close(descriptor)
            time.sleep(PAUSE)
        elif _is(path, descriptor):
            return descriptor
        else:  # its last holder removed it after it was opened here: this one is nobody's
            os.close(descriptor)
    raise UnderWay(
        f"{path.parent} is under way: {_said(path)} works in it; wait for it or end it, or name another with --out"
    )


def _lock(descriptor: int) -> bool:
    """Lock an open file for this process; False where another one has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, BEYOND, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _is(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _holder() -> dict[str, object]:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"process": os.getpid(), "machine": platform.node(), "since": since}


def _said(path: Path) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return f"process {content['process']} on {content['machine']}, since {content['since']},"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"  # which has only just begun, and not yet written who it is
