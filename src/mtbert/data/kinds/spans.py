"""Tags of words, and the spans that they mark: IOB2 and BIOES, counted as seqeval does.

A span ends where its type changes, before the beginning of another, and after an end; tags that break the scheme are
read as they were meant (`I-X` after `O` begins a span), as by conlleval and seqeval by default.

Source: Tjong Kim Sang and Buchholz, 2000, https://doi.org/10.3115/1117601.1117631
Source: seqeval, https://github.com/chakki-works/seqeval
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtbert.data.labels import Ragged

Scheme = Literal["IOB2", "BIOES", "none"]
OUTSIDE = "O"
PREFIXES: dict[str, str] = {"IOB2": "BI", "BIOES": "BIES"}

# prefix before, prefix -> whether a span ends between the two, whether one begins
_Steps = set[tuple[str | None, str | None]]
_ENDS: _Steps = {("E", None), ("S", None), *((one, other) for one in "BI" for other in "BSO")}
_BEGINS: _Steps = {(None, "B"), (None, "S"), *((one, other) for one in "ESO" for other in "EI")}


@dataclass(frozen=True)
class Tags:
    """The tags of a task, and what its scheme lets follow what."""

    names: tuple[str, ...]
    scheme: Scheme

    @property
    def types(self) -> list[str]:
        """What spans are of, in the order of the tags."""
        return list(dict.fromkeys(_parts(name)[1] for name in self.names if name != OUTSIDE))

    def whole(self) -> tuple[str, ...]:
        """The tags with those that the scheme has for their types and that nobody named."""
        tags = [f"{prefix}-{kind}" for kind in self.types for prefix in PREFIXES[self.scheme]]
        return tuple(dict.fromkeys([OUTSIDE, *tags]))

    def oddity(self) -> str:
        """The first of the tags that is none of the scheme; empty where all are."""
        prefixes = PREFIXES[self.scheme]
        return next((n for n in self.names if n != OUTSIDE and (n[:1] not in prefixes or n[1:2] != "-")), "")

    def broken(self, places: Ragged) -> dict[int, tuple[int, str]]:
        """Row -> the first word whose tag may not stand there, and why."""
        before, here = self._steps(places)
        bad = np.flatnonzero(self._forbidden[before, here])
        rows, words = self._where(places, bad)
        found: dict[int, tuple[int, str]] = {}
        for row, word, one, other in zip(rows, words, before[bad], here[bad], strict=True):
            ends = word == places.lengths[row]
            said = "the text ends" if ends else self._name(other)
            after = self._name(one) if word else "the beginning"
            why = f"{said} after {after}, which {self.scheme} does not allow"
            found.setdefault(int(row), (int(word) - bool(ends), why))
        return found

    def spans(self, places: Ragged) -> NDArray[np.int64]:
        """The spans of all rows: (spans, 3), the row and first word in one number, the last word, the type."""
        before, here = self._steps(places)
        ends, begins = np.flatnonzero(self._ends[before, here]), np.flatnonzero(self._begins[before, here])
        first = begins[np.searchsorted(begins, ends - 1, side="right") - 1]
        return np.stack([first, ends - 1, self._kinds[before[ends]]], axis=1)

    def rows_of(self, spans: NDArray[np.int64], places: Ragged) -> NDArray[np.int64]:
        """The row of these that each span stands in."""
        return self._where(places, spans[:, 0])[0]

    def _steps(self, places: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The tag before and at each word, and at the end of each row, where OUTSIDE stands: each (M + N,)."""
        outside = len(self.names)  # also what is no tag: a word that nothing is said of
        tags = np.nan_to_num(places.flat, nan=outside).astype(np.int64)
        here = np.insert(tags, places.starts[1:], outside)
        return np.concatenate([[outside], here[:-1]]), here

    def _where(self, places: Ragged, steps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        starts = places.starts + np.arange(len(places) + 1)  # with the end of each row
        rows = np.searchsorted(starts, steps, side="right") - 1
        return rows, steps - starts[rows]

    def _name(self, place: int) -> str:
        return self.names[place] if place < len(self.names) else OUTSIDE

    @cached_property
    def _split(self) -> list[tuple[str, str]]:
        return [_parts(name) for name in self.names] + [(OUTSIDE, "")]

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        return np.array([self.types.index(kind) if prefix != OUTSIDE else -1 for prefix, kind in self._split])

    @cached_property
    def _ends(self) -> NDArray[np.bool_]:
        return self._table(
            lambda one, other: _in(_ENDS, one[0], other[0]) or (one[0] != OUTSIDE and one[1] != other[1])
        )

    @cached_property
    def _begins(self) -> NDArray[np.bool_]:
        return self._table(
            lambda one, other: _in(_BEGINS, one[0], other[0]) or (other[0] != OUTSIDE and one[1] != other[1])
        )

    @cached_property
    def _forbidden(self) -> NDArray[np.bool_]:
        """A span goes on where nothing has begun, or in BIOES ends where something goes on."""

        def forbidden(one: tuple[str, str], other: tuple[str, str]) -> bool:
            goes_on = other[0] in "IE"
            opened = one[0] in ("BI" if self.scheme == "BIOES" else "BIES")
            if goes_on:
                return not opened or one[1] != other[1]
            return self.scheme == "BIOES" and one[0] in "BI"

        return self._table(forbidden)

    def _table(self, holds: Callable[[tuple[str, str], tuple[str, str]], bool]) -> NDArray[np.bool_]:
        return np.array([[holds(one, other) for other in self._split] for one in self._split])


def shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The spans that stand in both."""
    common = set(map(tuple, one.tolist())) & set(map(tuple, other.tolist()))
    return np.array(sorted(common), dtype=np.int64).reshape(-1, 3)


def _in(table: _Steps, one: str, other: str) -> bool:
    return bool({(one, other), (one, None), (None, other)} & table)


def _parts(tag: str) -> tuple[str, str]:
    """Prefix and type: 'B' and 'PER' of B-PER."""
    prefix, _, kind = tag.partition("-")
    return (prefix, kind) if tag != OUTSIDE else (OUTSIDE, "")
