"""What a search found, as a page: the finalists, what dev has been spent on, and the parallel coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtbert.runs.extras import needed
from mtbert.runs.writing import write_whole
from mtbert.search.found import Found

PAGE, PICTURE = "search.md", "parallel.png"


def said(found: Found) -> str:
    """What there is to say of a search, as Markdown."""
    lines = [
        "# Search",
        "",
        f"{found.done} trials have ended: {found.pruned} pruned by the median, {found.failed} failed.",
        f"Models were scored on dev {found.evaluations} times. The scores below are those that were searched for, and",
        "so better than the same recipes would have on rows that nobody has looked at.",
        "",
    ]
    if found.stopped is not None:
        lines += [f"The search is not through: it was stopped by {found.stopped}. The same command goes on.", ""]
    if found.finalists:
        lines += [f"| trial | mean {found.measure} | seeds | what it changes |", "|---|---|---|---|"]
        for one in found.finalists:
            seeds = ", ".join(f"{score:z.4f}" for score in one.scores)
            lines.append(f"| {one.trial} | {one.mean:z.4f} | {seeds} | `{' '.join(one.overrides)}` |")
        lines += ["", "`best.yaml` is the recipe of the first."]
    if (found.folder / PICTURE).exists():
        lines += ["", f"![Parallel coordinates]({PICTURE})"]
    return "\n".join(lines) + "\n"


def write_page(found: Found, study: Any, folder: Path) -> None:
    """Write the page and the picture into the search's folder."""
    _draw(study, folder)
    write_whole(folder / PAGE, said(found))


def _draw(study: Any, folder: Path) -> None:
    """One line a trial through the values of its keys, coloured by its score."""
    whole = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    if len(whole) < 2:
        return
    import warnings

    import matplotlib.pyplot as plt

    visualization = needed("optuna.visualization.matplotlib", "search")
    with warnings.catch_warnings(), plt.rc_context({"backend": "Agg"}):
        warnings.simplefilter("ignore")  # optuna calls its pictures experimental
        axes = visualization.plot_parallel_coordinate(study)
        axes.figure.savefig(folder / PICTURE, dpi=120, bbox_inches="tight")
        plt.close(axes.figure)
