"""Which tasks of a run pulled against each other, in which part of the model: numbers, words and a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from mtbert.errors import Mistake
from mtbert.model.parameters.description import layers_together
from mtbert.reports.base import Report, count, cut, grid, listed, plain
from mtbert.runs.folder import Run
from mtbert.runs.log import Look

DRAWING = "conflict"  # .png and .svg in the run folder
NOTABLE = 0.05  # a mean cosine nearer to 0 than this is not worth a word
SURE = 2.0  # standard errors that a mean cosine must be away from 0
MATRIX = 3  # pairs of tasks, at most, whose cosines in every part are shown; of more, a line a pair
STRONGEST = 15  # pairs that are shown of many
SHOWN = 3  # pairs without a finding that are named
DRAWN = 12  # pairs that are drawn of many


@dataclass(frozen=True)
class ConflictReport(Report):
    """Cosines between the gradients of every two tasks, over the steps at which a run observed them."""

    tasks: list[str]
    groups: list[str]  # parts of the shared model, in its order
    steps: list[int]
    cosines: NDArray[np.float64]  # (steps, groups, tasks, tasks)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the observed steps: (groups, tasks, tasks)."""
        mean: NDArray[np.float64] = self.cosines.mean(0)
        return mean

    @property
    def words(self) -> list[str]:
        """Which tasks pull against each other, and where."""
        return summary(self.tasks, self.groups, self.cosines)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"cosines": self.cosines.tolist(), "mean": self.mean.tolist(), "words": self.words}

    def shown(self) -> Iterable[RenderableType]:
        pairs = self._strongest()
        if len(pairs) <= MATRIX:
            names = [f"{self.tasks[one]}, {self.tasks[other]}" for one, other in pairs]
            yield grid("part", names, self.groups, [[part[pair] for pair in pairs] for part in self.mean], "+z.3f")
        else:
            yield from self._lines(pairs[:STRONGEST])
        yield plain(f"mean cosines of the gradients over {count(len(self.steps), 'observation')}")
        words = self.words
        yield from map(plain, words[:STRONGEST])
        if len(words) > STRONGEST:
            yield plain(f"and {count(len(words) - STRONGEST, 'sentence')} more, with --json")

    def draw(self, folder: Path) -> list[Path]:
        """The cosines of each pair, of the DRAWN strongest where there are more, over steps and parts: PNG and SVG."""
        return _draw(self, self._strongest()[:DRAWN], folder)

    def _strongest(self) -> list[tuple[int, int]]:
        """Every two tasks, in the order of the tasks; where they are many, those first that differ most from 0."""
        pairs = list(combinations(range(len(self.tasks)), 2))
        if len(pairs) <= MATRIX:
            return pairs
        return sorted(pairs, key=lambda pair: -float(np.abs(self.mean[:, pair[0], pair[1]].mean())))

    def _lines(self, pairs: Sequence[tuple[int, int]]) -> Iterable[RenderableType]:
        """A line a pair: its mean over the parts of the model, and its lowest and highest part."""
        names, cells = [], []
        for one, other in pairs:
            parts = self.mean[:, one, other]
            names.append(f"{cut(self.tasks[one], 16)}, {cut(self.tasks[other], 16)}")
            lowest, highest = int(parts.argmin()), int(parts.argmax())
            cells.append(
                [
                    f"{parts.mean():+z.3f}",
                    *(f"{self.groups[place]} {parts[place]:+z.3f}" for place in (lowest, highest)),
                ]
            )
        yield grid("tasks", ["mean", "lowest", "highest"], names, cells)
        hidden = len(self.tasks) * (len(self.tasks) - 1) // 2 - len(pairs)
        if hidden:
            yield plain(f"the {len(pairs)} strongest pairs; {hidden:,} more with --json")


def read(run: Run) -> ConflictReport:
    """What a run's log says about the conflict between its tasks; raises Mistake where it observed none."""
    observed = [look for look in run.log.only(Look) if look.observer == "conflict"]
    if not observed:
        raise Mistake(f"{run.folder} observed no conflict: train with `stages.0.observe=[conflict]`")
    first = observed[0].seen
    # stages may train other tasks or parts: those like the first are compared
    alike = [look for look in observed if _place(look) == _place(observed[0])]
    return ConflictReport(
        first["tasks"],
        list(first["cosines"]),
        _running([(look.stage, look.step) for look in alike]),
        np.array([list(look.seen["cosines"].values()) for look in alike]),
    )


def summary(tasks: Sequence[str], groups: Sequence[str], cosines: NDArray[np.float64]) -> list[str]:
    """Which tasks pull against each other and where, a sentence for each pair and direction, and one for all others.

    `cosines` are those of every look: (looks, groups, K, K). A pair is said to pull against each other, or along, where
    its mean cosine over the looks is at least NOTABLE away from 0, and SURE standard errors where there are several.
    """
    sentences, neither = [], []
    for one, other in combinations(range(len(tasks)), 2):
        pair = cosines[:, :, one, other]  # (looks, groups)
        mean = pair.mean(0)
        against, along = _notable(-pair), _notable(pair)
        if against.any():
            share = (pair[:, against] < 0).mean()
            most = f", most in {groups[mean.argmin()]} ({mean.min():z.2f})" if against.sum() > 1 else ""
            sentences.append(
                f"{tasks[one]} and {tasks[other]} pull against each other in {_said(groups, against)}: mean cosine "
                f"{mean[against].mean():z.2f}{most}; below 0 in {share:.0%} of the looks there"
            )
        if along.any():
            most = f", most in {groups[mean.argmax()]} ({mean.max():z.2f})" if along.sum() > 1 else ""
            sentences.append(
                f"{tasks[one]} and {tasks[other]} pull along with each other in {_said(groups, along)}: mean cosine "
                f"{mean[along].mean():z.2f}{most}"
            )
        if not against.any() and not along.any():
            neither.append(f"{tasks[one]} and {tasks[other]}")
    if neither:
        said = f"neither pull against each other nor along: no mean cosine is surely further than {NOTABLE:g} from 0"
        sentences.append(f"{listed(neither, SHOWN)} {said}")
    return sentences


def _draw(report: ConflictReport, pairs: Sequence[tuple[int, int]], folder: Path) -> list[Path]:
    from matplotlib.figure import Figure

    limit = max(0.1, *(float(np.abs(report.cosines[:, :, one, other]).max()) for one, other in pairs))
    figure = Figure(figsize=(9, 1.2 + len(pairs) * (0.8 + 0.22 * len(report.groups))), layout="constrained")
    axes = figure.subplots(len(pairs), 1, squeeze=False, sharex=True)[:, 0]
    for panel, (one, other) in zip(axes, pairs, strict=True):
        image = panel.imshow(
            report.cosines[:, :, one, other].T,
            cmap="RdBu",
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",
        )
        panel.set_title(f"{report.tasks[one]} and {report.tasks[other]}", loc="left")
        panel.set_yticks(range(len(report.groups)), report.groups)
    ticks = np.linspace(0, len(report.steps) - 1, min(8, len(report.steps))).astype(int)
    axes[-1].set_xticks(ticks, [f"{report.steps[index]:,}" for index in ticks])
    axes[-1].set_xlabel("optimiser step")
    figure.colorbar(image, ax=axes, label="cosine of the gradients (red: against each other)")
    paths = [folder / f"{DRAWING}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def _place(look: Look) -> tuple[list[str], list[str]]:
    """The tasks and the parts of the model that a look compared."""
    return look.seen["tasks"], list(look.seen["cosines"])


def _running(places: Sequence[tuple[int, int]]) -> list[int]:
    """Steps counted on through the stages."""
    counted, before, stage, last = [], 0, places[0][0], 0
    for at, step in places:
        if at != stage:
            before, stage = before + last, at
        counted.append(before + step)
        last = step
    return counted


def _notable(pair: NDArray[np.float64]) -> NDArray[np.bool_]:
    """In which groups the mean is above 0 by enough: (looks, groups) -> (groups,)."""
    mean, looks = pair.mean(0), len(pair)
    error = pair.std(0, ddof=1) / np.sqrt(looks) if looks > 1 else np.zeros_like(mean)
    notable: NDArray[np.bool_] = (mean >= NOTABLE) & (mean >= SURE * error)
    return notable


def _said(groups: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    """The chosen groups in words."""
    if chosen.all():
        return "every part of the model"
    some = [group for group, wanted in zip(groups, chosen, strict=True) if wanted]
    said = list(dict.fromkeys(layers_together(some, to=" to ").values()))
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
