"""Equal texts: rows that repeat others, and labels that disagree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mtbert.data.labels import same
from mtbert.reports.base import count
from mtbert.reports.sights.base import SHOWN, Looks, Sight
from mtbert.reports.sights.prints import first_places

REMEDY = "look which label is meant: nobody can learn both, or be right on both"


def repeats(looks: Looks) -> Iterator[Sight]:
    """Rows whose texts stood in an earlier row of the split."""
    for look in looks:
        rows = np.flatnonzero(look.first != np.arange(len(look)))
        if len(rows):
            yield look.sight(
                "repeated texts",
                f"{count(len(rows), 'row')} {'repeats' if len(rows) == 1 else 'repeat'} the texts of another",
                rows=rows,
                remedy="each is learned from, and scored, as often as it stands there: keep one, unless that is meant",
            )


def disagreeing(looks: Looks) -> Iterator[Sight]:
    """Equal texts with different labels: in the split, and for other splits between theirs and those of train."""
    for look in looks:
        first = look.first
        apart = np.flatnonzero(~same(look.labels, look.labels[first]))
        if len(apart):
            texts, rows = len(np.unique(first[apart])), count(len(apart), "row")
            seen = look.sight(
                "labels that disagree",
                f"{count(texts, 'text')} {_have(texts)} several labels: {rows} another than the first row of the text",
                rows=apart,
                remedy=REMEDY,
            )
            yield replace(
                seen, examples=[f"{look.shown(first[row])}\n  and {look.named(row)}" for row in apart[:SHOWN]]
            )
        if look.split == "train":
            continue
        learned = looks.learned[look.task.name]
        places = first_places(look.row_prints, learned.row_prints)
        there = np.flatnonzero(places >= 0)
        apart = there[~same(look.labels[there], learned.labels[places[there]])]
        if len(apart):
            seen = look.sight(
                "labels that disagree",
                f"{count(len(apart), 'row')} {_have(len(apart))} another label than the same texts in train",
                rows=apart,
                remedy=REMEDY,
            )
            shown = [f"{look.shown(row)}\n  in train {learned.named(places[row])}" for row in apart[:SHOWN]]
            yield replace(seen, examples=shown)


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
