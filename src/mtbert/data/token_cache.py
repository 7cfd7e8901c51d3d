"""Tokens on disk, so that the same texts are tokenised once: a convenience, without which everything works.

An entry is a folder of two NumPy files and their checksums. Nothing here raises: where the disk refuses, a note goes to
the logger `mtbert` and the tokens are kept in memory; what is damaged is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mtbert.data.tokens import Tokens, starts_of
from mtbert.errors import Mistake

NOTES = logging.getLogger("mtbert")
NOTES.addHandler(logging.NullHandler())  # a library prints nothing; the commands show what is noted

FLAT, STARTS, SUMS = "flat.npy", "starts.npy", "sums.json"
GIB = 4.0  # the size it may have, unless $MTBERT_CACHE_GIB says otherwise
DAY = 86_400.0  # seconds after which an unfinished entry is nobody's, whoever wrote it

Parts = Iterable[tuple[NDArray[np.int32], NDArray[np.int64]]]  # tokens of some texts, and how many each text has


@dataclass(frozen=True)
class Entry:
    """One entry of the cache."""

    folder: Path
    bytes: int
    used: float  # when it was last read or written, in seconds since 1970


def cached(key: str, encoded: Callable[[], Parts]) -> Tokens:
    """The tokens that `encoded` makes, mapped from the cache where they are in it, and written there where not."""
    limit = size_limit()
    try:
        folder = cache_folder() / "tokens"
        tokens = _read(folder / key)
        if tokens is not None:
            return tokens
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        _write(encoded(), folder / key)
        tokens = _read(folder / key)
        _shrink(folder, limit)
    except (OSError, Mistake) as error:
        NOTES.warning("the token cache is not used: %s", _reason(error))
        return Tokens.joined(encoded())
    return Tokens.joined(encoded()) if tokens is None else tokens  # another process cleared the cache meanwhile


def cache_folder() -> Path:
    """The folder of files that can be computed again: $MTBERT_CACHE, or mtbert under the user's cache folder.

    Raises Mistake where none is named and the user has no home.
    """
    chosen = os.environ.get("MTBERT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(chosen) if chosen else (Path(base) if base else Path.home() / ".cache") / "mtbert"
    except RuntimeError:
        raise Mistake("there is no home folder; MTBERT_CACHE can name another place") from None


def size_limit() -> float:
    """The bytes that the cache may hold; raises Mistake where $MTBERT_CACHE_GIB is no such number."""
    given = os.environ.get("MTBERT_CACHE_GIB")
    if not given:
        return GIB * 2**30
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise Mistake(f"MTBERT_CACHE_GIB is '{given}', not a number of GiB")
    return limit * 2**30


def entries() -> list[Entry]:
    """What the cache holds, the least recently used first; nothing where it cannot be read."""
    with suppress(OSError, Mistake):
        return _entries(cache_folder() / "tokens")
    return []


def clear() -> None:
    """Remove all tokens, leftovers of killed writers included; raises Mistake where the disk refuses."""
    folder = cache_folder() / "tokens"
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            _remove(path)
        left = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise Mistake(f"the token cache cannot be cleared: {_reason(error)}") from None
    if left:
        raise Mistake(f"the token cache cannot be cleared: {left[0]} stays")


def _read(entry: Path) -> Tokens | None:
    """Map an entry, and note that it was used; None where it is absent, or damaged and therefore removed."""
    if not os.path.lexists(entry):
        return None
    try:
        sums = json.loads((entry / SUMS).read_text(encoding="utf-8"))
        if sums == {name: _sum(entry / name) for name in (FLAT, STARTS)}:
            os.utime(entry)
            return Tokens(np.load(entry / FLAT, mmap_mode="r"), np.load(entry / STARTS))
    except (OSError, ValueError):
        pass
    _remove(entry)
    return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(encoded: Parts, entry: Path) -> None:
    """Write tokens as they are made; the entry appears under its name only once it is complete."""
    unfinished = Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}.{os.getpid()}.", dir=entry.parent))
    try:
        lengths = [np.empty(0, np.int64)]
        with (unfinished / FLAT).open("wb") as file:
            _write_header(file, 0)
            for ids, counts in encoded:
                file.write(ids.data)
                lengths.append(counts)
            file.seek(0)
            _write_header(file, sum(int(counts.sum()) for counts in lengths))
        np.save(unfinished / STARTS, starts_of(lengths))
        sums = {name: _sum(unfinished / name) for name in (FLAT, STARTS)}
        (unfinished / SUMS).write_text(json.dumps(sums), encoding="utf-8")
        try:
            unfinished.rename(entry)
        except OSError:
            if not entry.exists():  # or another run has written the same tokens in the meantime
                raise
    finally:
        _remove(unfinished)


def _write_header(file: BinaryIO, count: int) -> None:
    """Write the header of a NumPy file of `count` tokens; numpy reserves room, so it can be rewritten with another."""
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, description)


def _entries(folder: Path) -> list[Entry]:
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # another process may remove it
            if re.fullmatch("[0-9a-f]{32}", path.name):
                size = sum(part.stat().st_size for part in path.iterdir())
                found.append(Entry(path, size, path.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def _shrink(folder: Path, limit: float) -> None:
    """Remove the entries that were used longest ago, until the rest is within the limit.

    One that is mapped at the moment goes too: its tokens stay readable for as long as they are mapped.
    """
    held = _entries(folder)
    total = sum(entry.bytes for entry in held)
    for entry in held:
        if total <= limit:
            return
        _remove(entry.folder)
        total -= entry.bytes


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left: of dead processes of this machine at once, of others after a day."""
    ours = re.compile(re.escape(socket.gethostname()) + r"\.([0-9]+)\.")
    for path in folder.iterdir():
        if re.fullmatch("[0-9a-f]{32}", path.name):
            continue
        writer = ours.match(path.name)
        with suppress(OSError):
            if (writer and not _alive(int(writer[1]))) or time.time() - path.stat().st_mtime > DAY:
                _remove(path)


def _alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
