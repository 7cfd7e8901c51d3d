"""The pictures of a comparison: differences with their intervals, and scores beside costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtbert.comparison.contrasts import Contrast


def draw_forest(contrasts: Sequence[Contrast], measures: Sequence[str], reference: str, folder: Path) -> list[Path]:
    """Each method's difference from the reference and its interval, a panel for `overall` and one for each task."""
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(one.method for one in contrasts))
    if not methods:
        return []
    figure = Figure(figsize=(2.5 + 2.6 * len(measures), 1.4 + 0.34 * len(methods)), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for panel, measure in zip(panels, measures, strict=True):
        mine = {one.method: one for one in contrasts if one.measure == measure}
        for place, method in enumerate(methods):
            one = mine[method]
            panel.plot(one.interval, [place, place], color="black", linewidth=1)
            panel.plot(one.mean, place, "o", color="black", markersize=4)
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set_title(measure)
        panel.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].set_ylim(len(methods) - 0.5, -0.5)
    figure.supxlabel(f"difference from {reference}, 95 % interval over seeds and rows", fontsize="small")
    return _saved(figure, folder, "forest")


def draw_pareto(points: Sequence[tuple[float, float, str]], folder: Path) -> list[Path]:
    """The front that no method beats in both; a point is a method's processor seconds, its score and its name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for cost, score, method in sorted(points):
        axes.plot(cost, score, "o", color="black", markersize=4)
        axes.annotate(method, (cost, score), xytext=(4, 4), textcoords="offset points", fontsize="small")
    front = pareto_front([(cost, score) for cost, score, _ in points])
    axes.step([cost for cost, _ in front], [score for _, score in front], where="post", color="grey", linewidth=0.8)
    axes.set_xlabel("processor seconds a run")
    axes.set_ylabel("overall on the reporting rows")
    axes.margins(x=0.25)
    return _saved(figure, folder, "pareto")


def pareto_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, score) for which no other is at most as dear and at least as good, by cost."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def _saved(figure: Any, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths
