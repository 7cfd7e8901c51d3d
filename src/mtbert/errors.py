"""Errors for the person who made the mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

Place = tuple[str | int, ...]  # where in the recipe: ("stages", 0, "sampler")


class Mistake(ValueError):
    """Something the caller can put right; the command line shows it as one message and exits with 2."""


class MistakeAt(Mistake):
    """A mistake at a place in the recipe, of which only the recipe knows file and line."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{'.'.join(map(str, place))}: {message}")
        self.place = place
        self.message = message


@contextmanager
def at(*place: str | int) -> Iterator[None]:
    """Mistakes made in here are made at this place in the recipe, or below it."""
    try:
        yield
    except MistakeAt as mistake:
        raise MistakeAt((*place, *mistake.place), mistake.message) from None
    except Mistake as mistake:
        raise MistakeAt(place, str(mistake)) from None


def shown(value: object, room: int = 120) -> str:
    """A value as Python writes it, cut with an ellipsis where it is longer than `room` characters."""
    written = repr(value)
    return written if len(written) <= room else f"{written[: room - 1]}…"


def unknown(what: str, name: object, valid: Iterable[object]) -> str:
    """Say that a name does not exist, which one was probably meant, and which there are."""
    choices = [str(choice) for choice in valid]
    close = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{name}'{hint} (valid: {', '.join(choices) or 'none yet'})"
