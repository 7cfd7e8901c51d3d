"""Splits a file into training, dev and test rows by its texts, the same way on every machine.

A text stands on one side only, for all the tasks that read the file: rows that share a text, be it one of a pair, form
a group and stay together. The hash of its first text in the alphabet says where a group goes. Neither the order of
the rows nor the other groups matter, so that new rows with new texts move no other. (A new row that shares a text with
earlier ones joins their group, or makes one of two; it may then take them to another side.)

A share is one of the hashes, so that each class gives its share as chance has it. A class that chance left without a
row on a side gives it the group that comes next, as long as one is left to learn from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtbert.data.tables import Rows
from mtbert.errors import Mistake

SIDES = ("train", "dev", "test")
TRAIN, DEV, TEST = range(3)
EXACT = 2.0**-53  # the hash's first 53 bits are a number in [0, 1) without rounding


@dataclass(frozen=True)
class Shares:
    """How much of a file is set apart; 0 for nothing."""

    dev: float = 0.0
    test: float = 0.0


def split_rows(read: Mapping[str, Rows], shares: Shares) -> dict[str, dict[str, Rows]]:
    """Split -> task -> rows, from the rows that each task reads from one file; no text stands on two sides.

    Raises Mistake where a side would hold no row of a task: there are too few rows, or they hang together.
    """
    groups = _groups([rows.texts for rows in read.values()])
    of_tasks = dict(zip(read, groups.of_rows, strict=True))
    sides = np.full(len(groups.places), TRAIN)
    sides[groups.places < shares.dev] = DEV
    sides[groups.places >= 1 - shares.test] = TEST
    sides = _with_every_stratum(sides, groups.places, shares, [(of_tasks[task], _strata(read[task])) for task in read])

    split = {
        name: {task: rows.take(np.flatnonzero(sides[of_tasks[task]] == side)) for task, rows in read.items()}
        for side, name in enumerate(SIDES)
    }
    asked = [name for name, share in zip(SIDES, (1.0, shares.dev, shares.test), strict=True) if share]
    for task, rows in read.items():
        for name in asked:
            if not len(split[name][task]):
                raise Mistake(_empty_side(task, name, rows, of_tasks[task]))
    return {name: split[name] for name in asked}


def folds_of(read: Mapping[str, Rows], folds: int) -> dict[str, NDArray[np.int64]]:
    """Task -> in which of so many folds each of its rows is, from 0: (N,). No text stands in two folds.

    Rows of all tasks that share a text stay together, whatever file they are in, by the place of their group. Raises
    Mistake where a fold would hold no row of a task.
    """
    groups = _groups([rows.texts for rows in read.values()])
    fold_of_group = np.floor(groups.places * folds).astype(np.int64)
    for (task, rows), of_rows in zip(read.items(), groups.of_rows, strict=True):
        if len(np.unique(fold_of_group[of_rows])) < folds:
            raise Mistake(
                f"{rows.name}: in {folds} folds one has no row of task '{task}': {_too_few(rows, of_rows)}; "
                "ask for fewer folds"
            )
    return {task: fold_of_group[of_rows] for task, of_rows in zip(read, groups.of_rows, strict=True)}


def place_of(text: str) -> float:
    """Where a text stands between 0 and 1, by its hash; case and white space do not count."""
    digest = hashlib.blake2b(" ".join(text.split()).casefold().encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * EXACT


@dataclass(frozen=True)
class _Groups:
    """Rows that share texts: the place of each of G groups in [0, 1), and the group of each row of each table."""

    places: NDArray[np.float64]
    of_rows: list[NDArray[np.int64]]


def _groups(tables: Sequence[Sequence[pa.ChunkedArray]]) -> _Groups:
    from scipy.sparse import coo_array  # late: a split is seldom asked for, and scipy takes a moment
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}  # of texts that are alike
    columns = [[_numbered(column, numbers) for column in table] for table in tables]
    pairs = np.concatenate([np.stack([table[0], table[-1]]) for table in columns], axis=1)
    edges = coo_array((np.ones(pairs.shape[1], dtype=np.int8), tuple(pairs)), shape=(len(numbers), len(numbers)))
    count, of_texts = connected_components(edges, directed=False)
    ranked = sorted(numbers, key=numbers.__getitem__)
    firsts: dict[int, str] = {}
    for text, group in zip(ranked, of_texts.tolist(), strict=True):
        firsts[group] = min(text, firsts.get(group, text))
    places = np.array([place_of(firsts[group]) for group in range(count)])
    return _Groups(places, [of_texts[table[0]].astype(np.int64) for table in columns])


def _numbered(column: pa.ChunkedArray, numbers: dict[str, int]) -> NDArray[np.int64]:
    """The number of each text; texts that differ in case and white space alone have the same."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    distinct = [" ".join(text.split()).casefold() for text in encoded.dictionary.to_pylist()]
    codes = np.array([numbers.setdefault(text, len(numbers)) for text in distinct], dtype=np.int64)
    rows: NDArray[np.int64] = codes[encoded.indices.to_numpy(zero_copy_only=False)]
    return rows


def _strata(rows: Rows) -> NDArray[np.int64]:
    assert rows.labels is not None  # what is split has labels
    return rows.task.strata(rows.labels)


def _with_every_stratum(
    sides: NDArray[np.int64],
    places: NDArray[np.float64],
    shares: Shares,
    tasks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.int64]:
    """Sides where each stratum of each task, (group, stratum) of its rows, has a group on every side, if it can.

    Training comes first: a stratum in a single group is learned from. Dev takes its group with the smallest place, test
    the one with the largest.
    """
    strata = [np.unique(groups[of_rows == one]) for groups, of_rows in tasks for one in np.unique(of_rows)]
    sides = sides.copy()
    for side, share, first in ((DEV, shares.dev, 0), (TEST, shares.test, -1)):
        before = sides.copy()  # so that the order of the strata does not matter
        for groups in strata:
            learned = groups[before[groups] == TRAIN]
            if share and len(learned) > 1 and not (before[groups] == side).any():
                sides[learned[np.argsort(places[learned])[first]]] = side
    before = sides.copy()
    for groups in strata:
        if not (before[groups] == TRAIN).any():
            middle = np.abs(places[groups] - (1 + shares.dev - shares.test) / 2)
            sides[groups[np.argmin(middle)]] = TRAIN
    return sides


def _empty_side(task: str, side: str, rows: Rows, groups: NDArray[np.int64]) -> str:
    why = _too_few(rows, groups)
    return f"{rows.name}: a split leaves no {side} row for task '{task}': {why}; name a file for dev and for test"


def _too_few(rows: Rows, groups: NDArray[np.int64]) -> str:
    """Why rows in these groups cannot be split."""
    largest = int(np.bincount(groups).max())
    if largest > len(rows) / 2:
        return f"{largest:,} of its {len(rows):,} rows hang together, as each has a text that another one has"
    return f"its {len(rows):,} rows are too few"
