"""Errors for the person who made the mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Mistake(ValueError):
    """Something the caller can put right; the command line shows it as one message and exits with 2."""


def unknown(what: str, name: object, valid: Iterable[object]) -> str:
    """Say that a name does not exist, which one was probably meant, and which there are."""
    choices = [str(choice) for choice in valid]
    close = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"unknown {what} '{name}'{hint} (valid: {', '.join(choices) or 'none yet'})"
