"""Quotes in delimited files: which quoted cells may hold what is not theirs, and where a file can be cut between rows.

A cell is quoted where a quote is its first sign (RFC 4180, https://doi.org/10.17487/RFC4180); any other quote is a sign
like any other. A text that merely begins with a quote therefore swallows what follows, up to the next quote, and the
file may still look well formed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple


class DoubtfulCell(NamedTuple):
    """A quoted cell that may hold what is not its own: its bytes from `start` to `end`, and what makes one doubt."""

    start: int
    end: int
    message: str
    left_open: bool  # whether its quote seems to be: it takes in lines, and does not end where a cell does


class _Patterns(NamedTuple):
    sound: re.Pattern[bytes]  # as much as holds no doubtful cell
    rows: re.Pattern[bytes]  # whole rows
    quoted: re.Pattern[bytes]  # one quoted cell: what is inside, and the closing quote if there is one


def doubtful_cells(content: bytes, delimiter: str) -> Iterator[DoubtfulCell]:
    """The quoted cells that hold both a delimiter and a line break, that close before they end, or that never close."""
    patterns = _patterns(delimiter)
    place = _matched(patterns.sound, content, 0, len(content))
    while place < len(content):
        cell = patterns.quoted.match(content, place)
        assert cell is not None  # what is not sound begins with a quote
        yield _doubtful(content, cell, delimiter)
        place = _matched(patterns.sound, content, cell.end(), len(content))


def end_of_rows(content: bytes, start: int, end: int, delimiter: str, quoted: bool) -> int:
    """Where the last row ends that is whole between `start`, where a row begins, and `end`; `start` if none is."""
    if quoted:
        return _matched(_patterns(delimiter).rows, content, start, end)
    return max(content.rfind(b"\n", start, end), content.rfind(b"\r", start, end), start - 1) + 1


def _matched(pattern: re.Pattern[bytes], content: bytes, start: int, end: int) -> int:
    found = pattern.match(content, start, end)
    return found.end() if found else start


def _doubtful(content: bytes, cell: re.Match[bytes], delimiter: str) -> DoubtfulCell:
    begins = " ".join(cell[0][:60].decode(errors="ignore").split())[:30]
    lines = len(re.findall(rb"\r\n|\r|\n", cell[0]))
    after = content[cell.end() : cell.end() + 1].decode(errors="ignore")
    facts, question = [f"takes in {lines:,} more lines"] if lines else [], "is a quote left open?"
    ended = cell["close"] and after in ("", delimiter, "\r", "\n")
    if not cell["close"]:
        facts.append("has no closing quote")
    elif ended:
        facts.append("holds a separator")
    else:
        facts.append("goes on after its closing quote")
        if cell[0].endswith(b'\\"'):
            question = "a quote inside quotes is written twice, not after a backslash"
    message = f"the cell that begins with {begins} {' and '.join(facts)} ({question})"
    return DoubtfulCell(*cell.span(), message, lines > 0 and not ended)


@lru_cache
def _patterns(delimiter: str) -> _Patterns:
    """Possessive throughout (`++`, `*+`): nothing is tried twice, and a file of any size takes no stack."""
    d = re.escape(delimiter.encode())
    opening, closing = rb'(?<![^%b\r\n])"' % d, rb'"(?=[%b\r\n]|\Z)' % d
    sign = rb'(?<=[^%b\r\n])"' % d  # a quote that does not begin a cell
    without_breaks, without_delimiters = rb'(?:[^"\r\n]++|"")*+', rb'(?:[^"%b]++|"")*+' % d
    anything = rb'(?:[^"]++|"")*+'
    return _Patterns(
        sound=re.compile(
            rb'(?:[^"]++|%b|%b%b%b|%b%b%b)*+'
            % (sign, opening, without_breaks, closing, opening, without_delimiters, closing)
        ),
        rows=re.compile(rb'(?:(?:[^"\r\n]++|%b|%b%b")*+[\r\n]++)*+' % (sign, opening, anything)),
        quoted=re.compile(rb'"%b(?P<close>"?)' % anything),
    )
