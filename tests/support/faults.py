"""A disk that fails, or a process that ends, at one chosen operation on files under a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

WRITING = ("w", "a", "x", "+")


class Operations:
    """Counts what is done to files under a folder, and lets `strike` act at the operation of a chosen number.

    An operation is a write, a new folder, a rename, a removal or a flush. `strike` is told the paths that the operation
    names, and half of the time what a torn write leaves is there when it is called.
    """

    def __init__(self, folder: Path, number: int, strike: Callable[[str], None], torn: bool = False) -> None:
        self.folder, self.number, self.strike, self.torn = folder, number, strike, torn
        self.done = 0

    def one(self, name: str, path: Any = None) -> None:
        if path is not None and not str(path).startswith(str(self.folder)):
            return
        self.done += 1
        if self.done == self.number:
            if self.torn and name == "save_file":
                Path(path).write_bytes(b"half of it")
            self.strike(name)

    @contextmanager
    def watched(self) -> Iterator[Operations]:
        """While it is entered, every operation of this process passes here."""
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in (
                *((Path, one) for one in ("rename", "replace", "mkdir", "unlink")),
                *((os, one) for one in ("fsync", "truncate", "write")),
            ):
                patch.setattr(owner, name, self._passed(name, getattr(owner, name), named=owner is Path))
            patch.setattr("mtbert.model.tensors.save_file", self._saved(save_file))
            patch.setattr(Path, "open", self._opened(Path.open))
            patch.setattr(os, "open", self._opened_low(os.open))
            yield self

    def _passed(self, name: str, act: Callable[..., Any], named: bool) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            self.one(name, arguments[0] if named else None)
            return act(*arguments, **options)

        return acted

    def _saved(self, save: Callable[..., Any]) -> Callable[..., Any]:
        def saved(tensors: Any, path: Any, *arguments: Any, **options: Any) -> Any:
            self.one("save_file", path)
            return save(tensors, path, *arguments, **options)

        return saved

    def _opened(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if any(one in mode for one in WRITING):
                self.one("open", path)
            return act(path, mode, *arguments, **options)

        return opened

    def _opened_low(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR):
                self.one("os.open", path)
            descriptor: int = act(path, flags, *arguments, **options)
            return descriptor

        return opened
