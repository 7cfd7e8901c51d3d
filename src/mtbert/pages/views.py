"""How a page shows each view that a kind of task offers: a table from the view's class to what draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mtbert.data.views import Confusion, Reliability, Scatter, View
from mtbert.pages import drawing
from mtbert.pages.drawing import tag
from mtbert.scoring.calibration import bins_of, calibration_error

WIDE, LETTERS = 3, 30  # classes, and letters of their names, at most, of a table that takes one column of the page
SHOWN = 12  # classes of a table; of more, those with the most rows
TAKEN = 8  # the commonest mistakes of many classes
LEANS = 0.02  # a gap between sure and right that is said
NAME = 24  # signs of a class's name


class Shown(NamedTuple):
    """A part of a page: a title, what stands below it, and what it says in a sentence."""

    title: str
    body: Markup
    caption: str
    wide: bool = False


def show(view: View) -> list[Shown]:
    """The parts of a page that a view becomes."""
    return VIEWS[type(view)](view)


def _confusion(view: Confusion) -> list[Shown]:
    counts, title = view.counts, view.title or "What is taken for what"
    busiest = np.argsort(-(counts.sum(0) + counts.sum(1)), kind="stable")[:SHOWN]
    chosen = np.sort(busiest)
    names = [view.names[place] for place in chosen]
    body = _confusion_table(names, counts[np.ix_(chosen, chosen)])
    some = "" if len(names) == len(view.names) else f" The {len(names)} classes of {len(view.names)} with most rows."
    said = f"A row is the label, a column what was said; darker is more of the row.{some}{_near(view)}"
    return [
        Shown(title, body, said, wide=len(names) > WIDE or sum(map(len, names)) > LETTERS),
        Shown("Class by class", _class_table(names, counts, chosen), ""),
        *([Shown("Commonest mistakes", _taken(view), "")] if len(view.names) > SHOWN else []),
    ]


def _near(view: Confusion) -> str:
    if len(view.names) < 3 or not view.wrong:
        return ""
    share = f"{view.off_by_one:,} of {view.wrong:,} wrong rows ({view.off_by_one / view.wrong:.0%}) are one class away"
    return f" {share}." if view.ordered else f" {share}, where the classes stand in an order."


def _confusion_table(names: list[str], counts: NDArray[np.int64]) -> Markup:
    head = tag("tr", tag("th", "label", scope="col"), *(_heading(name, "col") for name in names))
    rows = []
    for place, name in enumerate(names):
        total = max(1, int(counts[place].sum()))
        cells = (
            tag(
                "td",
                f"{count:,}",
                class_="heat right" if place == column else "heat",
                style=f"--a:{count / total:z.3f}",
                title=f"{name} taken for {names[column]}: {count:,} rows, {count / total:.1%}",
            )
            for column, count in enumerate(map(int, counts[place]))
        )
        rows.append(tag("tr", _heading(name, "row"), *cells))
    return _table("confusion", head, rows)


def _class_table(names: list[str], counts: NDArray[np.int64], chosen: NDArray[np.int64]) -> Markup:
    head = tag("tr", *(tag("th", said, scope="col") for said in ("class", "precision", "recall", "F1", "rows")))
    rows = []
    for name, place in zip(names, map(int, chosen), strict=True):
        hits, said, there = int(counts[place, place]), int(counts[:, place].sum()), int(counts[place].sum())
        precision, recall = hits / said if said else 0.0, hits / there if there else 0.0
        f1 = 2 * hits / (said + there) if said + there else 0.0
        cells = [*(tag("td", f"{value:z.3f}") for value in (precision, recall, f1)), tag("td", f"{there:,}")]
        rows.append(tag("tr", _heading(name, "row"), *cells))
    return _table("numbers", head, rows)


def _taken(view: Confusion) -> Markup:
    wrong = view.counts * (1 - np.eye(len(view.names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:TAKEN]
    pairs = [divmod(int(place), len(view.names)) for place in order]
    items = (
        tag("li", f"{view.names[label]} taken for {view.names[said]}: {wrong[label, said]:,} rows")
        for label, said in pairs
        if wrong[label, said]
    )
    return tag("ul", *items)


def _scatter(view: Scatter) -> list[Shown]:
    off = np.abs(view.predicted - view.true)
    title = view.title or "Predicted beside true"
    half, most = np.quantile(off, [0.5, 0.9])
    caption = (
        f"On the line a score is right; half of the rows are within {half:z.2f} of it, nine in ten within {most:z.2f}."
    )
    return [Shown(title, drawing.scatter(title, view.true, view.predicted, view.ends), caption)]


def _reliability(view: Reliability) -> list[Shown]:
    title = view.title or "As right as it is sure?"
    error = calibration_error(view.sure, view.right)
    gap = float(view.sure.mean() - view.right.mean())
    leans = ""
    if abs(gap) >= LEANS:
        how = "too sure" if gap > 0 else "not sure enough"
        leans = f" It is {how}: {view.sure.mean():.0%} sure on the mean, {view.right.mean():.0%} right."
    bins = bins_of(view.sure, view.right)
    caption = (
        f"On the line predictions are right as often as they are sure; calibration error (ECE) {error:z.3f}.{leans}"
    )
    return [Shown(title, drawing.reliability(title, bins), caption)]


VIEWS: Mapping[type[Any], Callable[[Any], list[Shown]]] = {
    Confusion: _confusion,
    Scatter: _scatter,
    Reliability: _reliability,
}


def _heading(name: str, scope: str) -> Markup:
    return tag("th", tag("bdi", drawing.shortened(name, NAME)), scope=scope, title=name)


def _table(kind: str, head: Markup, rows: list[Markup]) -> Markup:
    whole = tag("table", tag("thead", head), tag("tbody", *rows), class_=kind)
    return tag("div", whole, class_="scrolls", tabindex="0", role="group", aria_label=f"table: {kind}")
