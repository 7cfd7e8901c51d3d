"""Texts that are scored although training saw them, with their own task or with another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mtbert.data.tables import Rows


@dataclass(frozen=True)
class Leak:
    """Rows that are scored for one task and hold a text that stands in the training rows of a task."""

    task: str  # whose rows are scored
    learned: str  # whose training rows hold the text
    rows: int
    of: int

    def __str__(self) -> str:
        return f"{self.rows:,} of {self.of:,} rows of {self.task} hold a text that {self.learned} trains on"


def leaks(scored: Mapping[str, Rows], learned: Mapping[str, Rows]) -> list[Leak]:
    """For every two tasks how many scored rows hold a text of the training rows, one of a pair or both; none left out.

    A question may stand in several pairs, and a sentence in several data sets.
    """
    return [
        Leak(task, other, _shared(rows, theirs), len(rows))
        for task, rows in scored.items()
        for other, theirs in learned.items()
        if _shared(rows, theirs)
    ]


def _shared(rows: Rows, learned: Rows) -> int:
    texts = pa.chunked_array([chunk for column in learned.texts for chunk in column.chunks], pa.string()).unique()
    found = [pc.is_in(column, value_set=texts) for column in rows.texts]
    either = found[0] if len(found) == 1 else pc.or_(*found)
    return int(pc.sum(either).as_py() or 0)
