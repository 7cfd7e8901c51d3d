"""Errors that the caller can put right, worded for the person who made the mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

Place = tuple[str | int, ...]  # where in the recipe: ("stages", 0, "sampler")


class Mistake(ValueError):
    """An error that the caller can put right; the command line shows its message alone and exits with 2."""


class MistakeAt(Mistake):
    """A mistake at a place in the recipe, which the reader of the recipe can turn into a file and a line."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{'.'.join(map(str, place))}: {message}")
        self.place = place
        self.message = message


class Mistakes(Mistake):
    """Several mistakes, each with a message of its own, so that a person can put all of them right at once."""

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages = tuple(dict.fromkeys(messages))
        super().__init__("\n".join(self.messages))


class Gathering:
    """Goes on after a mistake to find the others, and raises them together.

    >>> gathering = Gathering()
    >>> for count in (0, -1):
    ...     with gathering.going_on():
    ...         raise Mistake(f"count is {count}")
    >>> gathering.stop()
    Traceback (most recent call last):
    mtbert.errors.Mistakes: count is 0
    count is -1
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._raised: Mistakes | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Note a mistake that is made inside the block, and go on behind it."""
        try:
            yield
        except Mistakes as mistakes:
            self.messages += mistakes.messages
            self._raised = mistakes
        except Mistake as mistake:
            self.messages.append(str(mistake))

    def stop(self) -> None:
        """Raise what was noted, as it was raised where that was at once; nothing where all went well."""
        if self._raised is not None and list(self._raised.messages) == self.messages:
            raise self._raised
        if self.messages:
            raise Mistakes(self.messages)


@contextmanager
def at(*place: str | int) -> Iterator[None]:
    """Report mistakes raised inside the block as made at this place in the recipe, or at a place below it.

    >>> with at("stages", 0):
    ...     raise Mistake("epochs is -1; it must be at least 1")
    Traceback (most recent call last):
    mtbert.errors.MistakeAt: stages.0: epochs is -1; it must be at least 1
    """
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
    """The message for a name that does not exist: the nearest valid name, if any is near, and all valid names.

    >>> unknown("sampler", "jiont", ["joint", "sequential"])
    "unknown sampler 'jiont'; did you mean 'joint'? (valid: joint, sequential)"
    """
    choices = [str(choice) for choice in valid]
    close = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{name}'{hint} (valid: {', '.join(choices) or 'none yet'})"
