"""What the library notes while it goes on, such as a cache that cannot be written, as lines on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def notes_shown() -> Iterator[None]:
    """Show every note that is logged inside the block, each once."""
    logger, shown = logging.getLogger("mtbert"), _Shown()
    logger.addHandler(shown)
    try:
        yield
    finally:
        logger.removeHandler(shown)


class _Shown(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        note = record.getMessage()
        if note not in self._said:
            self._said.add(note)
            typer.echo(f"note: {note}", err=True)
