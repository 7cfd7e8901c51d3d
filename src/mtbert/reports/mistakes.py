"""Where a task's predictions go wrong: by length, by label, by the words that two texts share, by single words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtbert.reports.examined import Examined

BINS = 5
WORDS = 12  # words that go with mistakes, at most
FEWEST = 8  # rows that a word must stand in
SURE = 3.0  # standard errors; among thousands of words some are 2 away by chance
MOST_ROWS = 50_000  # whose words are counted, of more: so many, evenly spread
WORD = re.compile(r"\w[\w'’-]*")


class Group(NamedTuple):
    """Rows that have something in common, and the mean of their misses."""

    name: str
    rows: int
    miss: float


class Word(NamedTuple):
    """A word and the rows that hold it."""

    word: str
    rows: int
    miss: float  # the mean of their misses
    by_stratum: list[int]  # rows of each stratum of labels


@dataclass(frozen=True)
class Groups:
    """The misses of a task by what its rows have in common."""

    miss: float  # the mean over all rows
    by_length: list[Group]
    by_label: list[Group]
    by_shared_words: list[Group]  # none for single texts
    words: list[Word]  # those that go with mistakes, the surest first
    strata: list[str]


def groups(examined: Examined) -> Groups:
    """Every grouping of a task's misses."""
    rows = _evenly(len(examined), MOST_ROWS)
    misses = examined.misses[rows]
    bags = _bags(examined, rows)
    lengths = np.array([sum(map(len, bag)) for bag in bags])
    strata = examined.task.strata(examined.labels)
    present = np.unique(strata)
    by_label = [
        Group(examined.task.stratum(int(one)), int((strata == one).sum()), float(examined.misses[strata == one].mean()))
        for one in present
    ]
    return Groups(
        miss=float(examined.misses.mean()),
        by_length=_by_quantile(lengths, misses, "word"),
        by_label=by_label,
        by_shared_words=_by_share([_shared(*bag) for bag in bags], misses) if len(examined.rows.texts) == 2 else [],
        words=_words([set().union(*bag) for bag in bags], misses, np.searchsorted(present, strata[rows]), len(present)),
        strata=[group.name for group in by_label],
    )


def worst(examined: Examined, most: int) -> list[int]:
    """The rows that are wrong, the most confidently wrong first."""
    wrong = np.flatnonzero(examined.misses > 0)
    return [int(row) for row in wrong[np.argsort(-examined.losses[wrong], kind="stable")][:most]]


def typical(examined: Examined, most: int) -> list[int]:
    """Rows that are among the best half by their misses, and whose loss is nearest to the middle one of these."""
    fine = np.flatnonzero(examined.misses <= np.median(examined.misses))
    fine = fine[examined.misses[fine] == 0] if (examined.misses[fine] == 0).any() else fine
    if not len(fine):
        return []
    away = np.abs(examined.losses[fine] - np.median(examined.losses[fine]))
    return [int(row) for row in fine[np.argsort(away, kind="stable")][:most]]


def _evenly(rows: int, most: int) -> NDArray[np.int64]:
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def _bags(examined: Examined, rows: NDArray[np.int64]) -> list[list[list[str]]]:
    """The words of each text of each row."""
    columns = [column.take(rows).to_pylist() for column in examined.rows.texts]
    return [[[word.lower() for word in WORD.findall(text)] for text in texts] for texts in zip(*columns, strict=True)]


def _shared(first: Sequence[str], second: Sequence[str]) -> float:
    """The share of the words of both that stand in both."""
    one, other = set(first), set(second)
    return len(one & other) / max(1, len(one | other))


def _by_quantile(values: NDArray[np.int64], misses: NDArray[np.float64], unit: str) -> list[Group]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="lower"))
    places = np.searchsorted(edges, values, side="left")
    found = []
    for place in np.unique(places):
        own = values[places == place]
        low, high = int(own.min()), int(own.max())
        said = f"{low}" if low == high else f"{low} to {high}"
        found.append(Group(f"{said} {unit}{'' if high == 1 else 's'}", len(own), float(misses[places == place].mean())))
    return found


def _by_share(shares: Sequence[float], misses: NDArray[np.float64]) -> list[Group]:
    places = np.minimum((np.array(shares) * BINS).astype(int), BINS - 1)
    width = 100 // BINS
    return [
        Group(
            f"{place * width} to {(place + 1) * width} % shared",
            int((places == place).sum()),
            float(misses[places == place].mean()),
        )
        for place in np.unique(places)
    ]


def _words(bags: Sequence[set[str]], misses: NDArray[np.float64], strata: NDArray[np.int64], kinds: int) -> list[Word]:
    """The words whose rows are missed by more than the other rows, by at least SURE standard errors."""
    numbers: dict[str, int] = {}
    codes = np.array([numbers.setdefault(word, len(numbers)) for bag in bags for word in sorted(bag)], dtype=np.int64)
    owners = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    if not len(codes) or misses.std() == 0:
        return []
    rows = np.bincount(codes, minlength=len(numbers))
    mean = np.bincount(codes, weights=misses[owners], minlength=len(numbers)) / rows
    surprise = (mean - misses.mean()) / (misses.std() / np.sqrt(rows))
    surprise[(rows < FEWEST) | (surprise < SURE)] = -np.inf
    chosen = [int(code) for code in np.argsort(-surprise, kind="stable")[:WORDS] if np.isfinite(surprise[code])]
    counts = np.bincount(codes * kinds + strata[owners], minlength=len(numbers) * kinds).reshape(-1, kinds)
    names = list(numbers)
    return [Word(names[code], int(rows[code]), float(mean[code]), counts[code].tolist()) for code in chosen]
