"""Everything that is looked for in rows that can be read, in the order in which it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mtbert.reports.sights.base import Looks, Sight
from mtbert.reports.sights.classes import absent, oddities, skipped
from mtbert.reports.sights.leaks import (
    learned_elsewhere,
    learned_too,
    near_elsewhere,
    near_train,
    read_unlabelled,
    sampled,
)
from mtbert.reports.sights.lengths import labels_by_length, truncated
from mtbert.reports.sights.repeats import disagreeing, repeats
from mtbert.reports.sights.vocabulary import alike, unknown_tokens

Seeing = Callable[[Looks], Iterator[Sight]]

SIGHTS: list[Seeing] = [
    skipped,
    truncated,
    repeats,
    disagreeing,
    learned_too,
    near_train,
    read_unlabelled,
    learned_elsewhere,
    near_elsewhere,
    sampled,
    oddities,
    unknown_tokens,
    alike,
    labels_by_length,
    absent,
]


def seen(looks: Looks) -> list[Sight]:
    """All that is seen, task by task within each split."""
    found = [sight for seeing in SIGHTS for sight in seeing(looks)]
    place = {(look.split, look.task.name): number for number, look in enumerate(looks)}
    return sorted(found, key=lambda sight: place[sight.split, sight.task])
