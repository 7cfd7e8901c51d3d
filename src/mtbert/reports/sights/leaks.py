"""Texts of dev that are learned from all the same, as they are or nearly so, by their own task or by another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtbert.reports.base import count, listed
from mtbert.reports.sights.base import SHOWN, Look, Looks, Sight
from mtbert.reports.sights.near import LIKE, Near, Sets, all_sets, end_to_end, near, sets_of
from mtbert.reports.sights.prints import Prints, first_of_each, stand_in

NAMED = 5  # tasks that a sentence names
LEARNED, ASKED = 6_000_000, 200_000  # texts of train that are looked through, and texts that are looked for there
SEED = 20_220_504
REMEMBERED = "the score then says how well texts are remembered"
ELSEWHERE = "the encoder learns from these texts: score without them too, or take them out of the other task's train"


def learned_too(looks: Looks) -> Iterator[Sight]:
    """Rows that are not trained on, and whose texts stand in train all the same."""
    for look in looks.scored:
        rows = np.flatnonzero(stand_in(look.row_prints, looks.learned[look.task.name].row_prints))
        if len(rows):
            yield look.sight(
                "texts of train",
                f"the texts of {count(len(rows), 'row')} also stand in train",
                rows=rows,
                remedy=f"take them out of either: {REMEMBERED}; `dev: 10%` splits a file by its texts",
            )


def read_unlabelled(looks: Looks) -> Iterator[Sight]:
    """Rows that are not trained on, and whose texts are read in training without their labels."""
    for look in looks.scored:
        read = looks.unlabelled.get(look.task.name, np.empty(0, np.uint64))
        rows = np.flatnonzero(stand_in(look.row_prints, read))
        if len(rows):
            yield look.sight(
                "texts of unlabelled",
                f"the texts of {count(len(rows), 'row')} also stand in unlabelled",
                rows=rows,
                remedy="teachers say what they think of these texts, never their labels; yet the score is then that of "
                "texts which the model has read: take them out of `unlabelled` where new ones would not be",
                problem=False,
            )


def learned_elsewhere(looks: Looks) -> Iterator[Sight]:
    """Rows that are not trained on, with a text that another task learns from."""
    for look in looks.scored:
        found = {}
        for learned in looks.others(look):
            there = [stand_in(texts, column) for texts in look.prints for column in learned.prints]
            found[learned.task.name] = np.flatnonzero(np.any(there, axis=0))
        yield from _in_other_tasks(look, found, "texts of other tasks", "with a text that {} trained on")


def near_train(looks: Looks) -> Iterator[Sight]:
    """Rows that are not trained on, and whose texts are nearly those of a row of their task's train."""
    budget = Budget.of(looks)
    for look in looks.scored:
        learned = looks.learned[look.task.name]
        rows = look.different[~stand_in(look.row_prints[look.different], learned.row_prints)]
        rows = sample(rows, budget.asked)
        asked, sets = all_sets(look.examples.tokens, rows)
        among = sample(learned.different, budget.learned)
        found = near(sets, sets_of(learned.examples.tokens, among))
        hits = np.flatnonzero(found.rows >= 0)
        if not len(hits):
            continue
        hits = hits[np.argsort(-found.shares[hits], kind="stable")]
        seen = look.sight(
            "nearly texts of train",
            f"{_at_least(found)}{count(len(hits), 'row')} {'is' if len(hits) == 1 else 'are'} nearly in train: "
            f"{LIKE:.0%} or more of the pairs of neighbouring tokens are the same",
            rows=asked[hits],
            remedy=f"look whether these are one text in two versions: {REMEMBERED}",
        )
        pairs = [(asked[hit], found.rows[hit]) for hit in hits[:SHOWN]]
        yield replace(
            seen,
            examples=[
                f"{look.shown(row, learned.texts(near_row))}\n  in train {learned.shown(near_row, look.texts(row))}"
                for row, near_row in pairs
            ],
        )


def near_elsewhere(looks: Looks) -> Iterator[Sight]:
    """Rows that are not trained on, with a text that is nearly one that another task learns from."""
    if not any(looks.others(look) for look in looks.scored):
        return
    budget = Budget.of(looks)
    asked = _Asked.of(looks, budget.asked)
    near_by_task = {}
    for name, learned in looks.learned.items():
        wanted = asked.of_tasks([look.task.name for look in looks.scored if learned in looks.others(look)])
        exactly = [stand_in(asked.prints, column) for column in learned.prints]
        places = np.flatnonzero(wanted & ~np.any(exactly, axis=0))
        blocks = (
            block
            for tokens, prints in zip(learned.examples.tokens, learned.prints, strict=True)
            for block in sets_of([tokens], sample(first_of_each(prints), budget.learned))
        )
        found = near(asked.sets.take(places), blocks)
        near_by_task[name] = np.sort(asked.prints[places[found.rows >= 0]])
    for look in looks.scored:
        rows = {
            one.task.name: np.flatnonzero(
                np.any([np.isin(texts, near_by_task[one.task.name]) for texts in look.prints], axis=0)
            )
            for one in looks.others(look)
        }
        said = f"with a text of which {LIKE:.0%} or more is in one that {{}} trained on"
        yield from _in_other_tasks(look, rows, "nearly texts of other tasks", said)


def sampled(looks: Looks) -> Iterator[Sight]:
    """Where there are too many texts to look through all of them: what was left out."""
    budget = Budget.of(looks)
    if budget == Budget(1.0, 1.0):
        return
    for look in looks.scored:
        learned = looks.learned[look.task.name]
        yield look.sight(
            "near texts in a sample",
            f"texts that are nearly in train were looked for in a sample: {budget.asked:.1%} of {len(look):,} rows, "
            f"beside {budget.learned:.1%} of the {len(learned):,} rows of train",
            rows=[],
            remedy="there may be more of them, in proportion",
            problem=False,
        )


@dataclass(frozen=True)
class Budget:
    """The share of the texts that is looked for, and of those that are learned from that is looked through."""

    asked: float
    learned: float

    @classmethod
    def of(cls, looks: Looks) -> Budget:
        """Each row of train once, and each of its texts where there are other tasks."""
        several = any(looks.others(look) for look in looks.scored)
        learned = sum(len(one) * (1 + several * len(one.prints)) for one in looks.learned.values())
        asked = sum(len(one) * (1 + several * len(one.prints)) for one in looks.scored)
        return cls(min(1.0, ASKED / max(asked, 1)), min(1.0, LEARNED / max(learned, 1)))


def sample(rows: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """A share of the rows, in their order, the same every time."""
    if share >= 1:
        return rows
    return np.sort(np.random.default_rng(SEED).permutation(rows)[: int(share * len(rows))])


@dataclass(frozen=True)
class _Asked:
    """The different texts of all that is scored, wherever they stand."""

    prints: Prints  # (N,)
    sets: Sets
    tasks: Mapping[str, Prints]  # task -> the prints of its texts

    @classmethod
    def of(cls, looks: Looks, share: float) -> _Asked:
        prints, parts, tasks = [np.empty(0, np.uint64)], [], {}
        for look in looks.scored:
            tasks[look.task.name] = np.concatenate(look.prints)
            for tokens, own in zip(look.examples.tokens, look.prints, strict=True):
                rows = first_of_each(own)
                rows, sets = all_sets([tokens], sample(rows[~np.isin(own[rows], np.concatenate(prints))], share))
                prints.append(own[rows])
                parts.append(sets)
        return cls(np.concatenate(prints), end_to_end(parts), tasks)

    def of_tasks(self, names: list[str]) -> NDArray[np.bool_]:
        """Which of the texts these tasks have: (N,)."""
        return np.isin(self.prints, np.concatenate([np.empty(0, np.uint64), *(self.tasks[name] for name in names)]))


def _in_other_tasks(look: Look, found: Mapping[str, NDArray[np.int64]], what: str, said: str) -> Iterator[Sight]:
    """Rows by the task that learns from their texts."""
    found = {name: rows for name, rows in found.items() if len(rows)}
    if not found:
        return
    rows = np.unique(np.concatenate(list(found.values())))
    ranked = sorted(found, key=lambda name: -len(found[name]))
    by_task = listed([f"{name} {len(found[name]):,}" for name in ranked], NAMED)
    tasks = f"task '{ranked[0]}' is" if len(found) == 1 else f"other tasks ({by_task}) are"
    yield look.sight(
        what, f"{count(len(rows), 'row')} of {len(look):,} {said.format(tasks)}", rows=rows, remedy=ELSEWHERE
    )


def _at_least(found: Near) -> str:
    return "" if found.all_tried else "at least "
