"""What the log of a run says about the conflict between its tasks: numbers, words and a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.training.cosines import summary

DRAWING = "conflict"  # .png and .svg in the run folder


@dataclass(frozen=True)
class ConflictReport:
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


def conflict_of(run: Run) -> ConflictReport:
    """Read a run's log; raises Mistake where it observed no conflict."""
    observed = [record for record in run.records() if "conflict" in record]
    if not observed:
        raise Mistake(f"{run.folder} observed no conflict: train with `stages.0.observe=[conflict]`")
    first = observed[0]["conflict"]
    alike = [
        record
        for record in observed
        if record["conflict"]["tasks"] == first["tasks"]
        and list(record["conflict"]["cosines"]) == list(first["cosines"])
    ]
    return ConflictReport(
        first["tasks"],
        list(first["cosines"]),
        _running([(record["stage"], record["step"]) for record in alike]),
        np.array([list(record["conflict"]["cosines"].values()) for record in alike]),
    )


def draw(report: ConflictReport, folder: Path) -> list[Path]:
    """Draw each pair's cosines over the steps and parts of the model, as PNG and SVG; the files written."""
    from matplotlib.figure import Figure

    pairs = list(combinations(range(len(report.tasks)), 2))
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


def _running(places: Sequence[tuple[int, int]]) -> list[int]:
    """Steps counted on through the stages."""
    counted, before, stage, last = [], 0, places[0][0], 0
    for at, step in places:
        if at != stage:
            before, stage = before + last, at
        counted.append(before + step)
        last = step
    return counted
