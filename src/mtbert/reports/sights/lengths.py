"""Texts that are cut off, and labels that go with the length of texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtbert.reports.base import count, listed
from mtbert.reports.sights.base import SHOWN, Looks, Sight

NAMED = 8  # sorts of labels that a sentence names
LARGE = 0.14  # eta squared from which an effect is called large (Cohen, 1988)
CHANCE = 1e-3  # how seldom chance alone makes labels go so with length


def truncated(looks: Looks) -> Iterator[Sight]:
    """Rows whose texts are longer than what the model reads, by their labels."""
    for look in looks:
        lengths, limit = look.examples.full_lengths, look.examples.max_length
        rows = np.flatnonzero(lengths > look.examples.lengths)
        if not len(rows):
            continue
        longest = int(lengths.max())
        every, hit = np.bincount(look.strata), np.bincount(look.strata[rows], minlength=int(look.strata.max()) + 1)
        ranked = [one for one in np.argsort(-hit / np.maximum(every, 1), kind="stable") if every[one]]
        by_label = [f"{look.task.stratum(int(one))} {hit[one]:,} of {every[one]:,}" for one in ranked]
        yield look.sight(
            "truncation",
            f"{len(rows):,} of {count(len(look), 'row')} {'is' if len(rows) == 1 else 'are'} cut to {limit} tokens "
            f"(the longest has {longest:,}); by label: {listed(by_label, NAMED)}",
            rows=rows[np.argsort(-lengths[rows], kind="stable")],
            remedy="a greater `max_length` reads more of it, where the encoder is made for so many tokens and time "
            "allows; else see that what matters stands first",
        )


def labels_by_length(looks: Looks) -> Iterator[Sight]:
    """Labels that can be told from the length of the texts that are learned from."""
    for look in looks.learned.values():
        lengths = look.examples.full_lengths
        found = explained(lengths, look.strata)
        if found < LARGE or by_chance(lengths, look.strata) > CHANCE:
            continue
        sorts = np.unique(look.strata)
        means = np.bincount(look.strata, weights=lengths)[sorts] / np.bincount(look.strata)[sorts]
        ranked = np.argsort(means, kind="stable")
        said = [f"{look.task.stratum(int(sorts[one]))} {means[one]:.0f}" for one in ranked]
        ends = [*said[: NAMED // 2], "...", *said[-(NAMED // 2) :]] if len(said) > NAMED else said
        some = dict.fromkeys(ranked[[0, len(ranked) // 2, -1]])
        typical = [_nearest(lengths, look.strata == sorts[one], means[one]) for one in some]
        seen = look.sight(
            "labels that go with length",
            f"the labels go with length: they explain {found:.0%} of its variance (mean tokens: {', '.join(ends)})",
            rows=typical[:SHOWN],
            remedy="a model may learn the length in place of the meaning: bring long and short rows of each label, and "
            "see in `mtbert errors RUN` how it does on either",
        )
        yield replace(seen, rows=len(look))


def explained(lengths: NDArray[np.int64], strata: NDArray[np.int64]) -> float:
    """The share of the variance of the ranks of lengths (N,) that sorts of labels (N,) explain, chance taken off.

    It is (H - k + 1) / (N - k), with H of the Kruskal-Wallis test and k sorts.

    Source: Kruskal and Wallis, 1952, https://doi.org/10.1080/01621459.1952.10483441
    """
    sorts, rows = len(np.unique(strata)), len(strata)
    return (_kruskal(lengths, strata) - sorts + 1) / (rows - sorts) if rows > sorts > 1 else 0.0


def by_chance(lengths: NDArray[np.int64], strata: NDArray[np.int64]) -> float:
    """How often chance alone makes lengths differ so between sorts of labels."""
    from scipy.stats import chi2  # late, as in metrics.py

    return float(chi2.sf(_kruskal(lengths, strata), len(np.unique(strata)) - 1))


def _kruskal(lengths: NDArray[np.int64], strata: NDArray[np.int64]) -> float:
    """H of Kruskal and Wallis, ties taken into account; lengths are small numbers, so that nothing is sorted."""
    times = np.bincount(lengths).astype(np.float64)
    ranks = (np.cumsum(times) - (times - 1) / 2)[lengths]
    rows = len(lengths)
    ties = 1 - float((times**3 - times).sum()) / (float(rows) ** 3 - rows)
    if ties <= 0:
        return 0.0  # all are equally long
    every = np.bincount(strata).astype(np.float64)
    sums = np.bincount(strata, weights=ranks)
    there = every > 0
    h = 12 / (rows * (rows + 1)) * float((sums[there] ** 2 / every[there]).sum()) - 3 * (rows + 1)
    return h / ties


def _nearest(lengths: NDArray[np.int64], among: NDArray[np.bool_], length: float) -> int:
    """The row among these whose length is nearest to one."""
    rows = np.flatnonzero(among)
    return int(rows[np.abs(lengths[rows] - length).argmin()])
