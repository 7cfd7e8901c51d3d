"""Rows that were left out, classes that nobody has, and names that are easily mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mtbert.reports.base import count, listed
from mtbert.reports.sights.base import SHOWN, Looks, Sight

LISTED = 20  # names in a line


def skipped(looks: Looks) -> Iterator[Sight]:
    """Bad rows that the task leaves out."""
    for look in looks:
        bad = look.rows.skipped
        if bad:
            seen = look.sight("skipped rows", f"{count(len(bad), 'bad row')} skipped", rows=[], remedy="mend the file")
            yield replace(seen, rows=len(bad), examples=bad[:SHOWN])


def absent(looks: Looks) -> Iterator[Sight]:
    """Classes that the task has and no row."""
    for look in looks:
        names = look.task.absent(look.labels)
        if names:
            does = "cannot be learned" if look.split == "train" else "is not scored"
            yield look.sight(
                "classes without rows",
                f"no row has the label {listed(names, LISTED)}",
                rows=[],
                remedy=f"what no row has {does}: add rows, or leave it out of `classes`",
            )


def oddities(looks: Looks) -> Iterator[Sight]:
    """What looks wrong with the labels that the task knows."""
    for look in looks:
        if look.split == "train":
            for oddity in look.task.oddities():
                yield look.sight("classes alike", oddity, rows=[], remedy="where one is meant, write it in one way")
