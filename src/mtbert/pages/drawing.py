"""Small pictures as SVG: every size in units of a picture 360 wide, every colour a class of the page's style sheet.

A picture says in its title what it shows, for those who hear a page read; its numbers stand in a table beside it or in
the titles of its marks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from mtbert.pages.texts import visible
from mtbert.scoring.calibration import Bin

WIDTH = 360.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 30.0  # margins of a picture with axes
BINS = 120  # points of a curve, at most
SQUARE = 230.0  # sides of a square picture
CELLS = 24  # squares that scores are counted in, along each side


class Curve(NamedTuple):
    """A line through points; `lows` and `highs` are the ends of a band around it."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    lows: NDArray[np.float64] | None = None
    highs: NDArray[np.float64] | None = None
    dots: bool = False


class Span(NamedTuple):
    """A value with its interval, and others to see beside it: a row of a picture of intervals."""

    name: str
    value: float
    low: float
    high: float
    marks: Sequence[tuple[str, float | None]] = ()  # one place for each of what is compared, None where it is not had


def tag(name: str, *inside: Any, **attributes: Any) -> Markup:
    """An element; `_` in an attribute's name is a hyphen, numbers have two places, None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_said(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>{''.join(map(_inside, inside))}</{name}>")


def _inside(one: Any) -> str:
    return str(one) if isinstance(one, Markup) else str(escape(visible(str(one))))


def _said(value: Any) -> str:
    return f"{value:z.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(escape(visible(str(value))))


def picture(title: str, height: float, marks: Iterable[Any], width: float = WIDTH) -> Markup:
    """A picture that is as wide as its place, up to a third above its own size."""
    return tag(
        "svg",
        tag("title", title),
        *marks,
        viewBox=f"0 0 {_said(width)} {_said(height)}",
        role="img",
        class_="picture",
        style=f"max-width:{width * 4 / 3:.0f}px",
        aria_label=title,
    )


def curves(title: str, lines: Sequence[Curve], height: float = 190.0, least: float | None = None) -> Markup:
    """Lines over the same steps; the lowest value that the axis shows is at most `least`."""
    lines = [line for line in lines if len(line.x)]
    values = np.concatenate([part for line in lines for part in (line.y, line.lows, line.highs) if part is not None])
    low, high = float(values.min()), float(values.max())
    ticks = nice_ticks(low if least is None else min(least, low), high)
    steps = np.concatenate([line.x for line in lines])
    across = nice_ticks(float(min(steps.min(), 0)), float(steps.max()), whole=True)
    x, y = (
        _scale(across[0], max(across[-1], float(steps.max())), LEFT, WIDTH - RIGHT),
        _scale(ticks[0], ticks[-1], height - BOTTOM, TOP),
    )
    marks = [*_axes(ticks, across, x, y, height)]
    for number, line in enumerate(lines):
        if line.lows is not None and line.highs is not None:
            edge = [*zip(line.x, line.highs, strict=True), *reversed(list(zip(line.x, line.lows, strict=True)))]
            marks.append(tag("polygon", points=_points(edge, x, y), class_=f"band s{number % 6}"))
        marks.append(
            tag(
                "polyline",
                tag("title", f"{line.name}: {line.y[0]:.4g} at first, {line.y[-1]:.4g} at last"),
                points=_points(zip(line.x, line.y, strict=True), x, y),
                class_=f"line s{number % 6}",
            )
        )
        if line.dots or len(line.x) == 1:
            marks += [
                tag(
                    "circle",
                    tag("title", f"step {at:,.0f}: {value:z.4f}"),
                    cx=x(at),
                    cy=y(value),
                    r=3.2,
                    class_=f"dot s{number % 6}",
                )
                for at, value in zip(line.x, line.y, strict=True)
            ]
    marks.append(tag("text", "step", x=WIDTH - RIGHT, y=height - 4.0, class_="axis end"))
    return picture(title, height, marks)


def legend(names: Sequence[str]) -> Markup:
    """What the colours of `curves` mean; empty where there is one."""
    if len(names) < 2:
        return Markup("")
    keys = (tag("span", tag("i", class_=f"key s{number % 6}"), name) for number, name in enumerate(names))
    return tag("p", *keys, class_="legend")


def intervals(title: str, rows: Sequence[Span], zero: float | None = None, form: str = "z.3f") -> Markup:
    """A value and its interval a row, all on one scale; `zero` is marked by a line."""
    beside = [at for row in rows for _, at in row.marks if at is not None]
    shown = [*(value for row in rows for value in (row.low, row.high, row.value)), *beside]
    ticks = nice_ticks(min([*shown, *([] if zero is None else [zero])]), max(shown), most=5)
    height, step, left = 22.0 + 30.0 * len(rows), 30.0, 118.0
    x = _scale(ticks[0], ticks[-1], left, WIDTH - 14.0)
    marks: list[Any] = []
    for tick in ticks:
        marks.append(tag("line", x1=x(tick), x2=x(tick), y1=4.0, y2=height - 18.0, class_="rule"))
        marks.append(tag("text", number(tick), x=x(tick), y=height - 4.0, class_="axis middle"))
    if zero is not None:
        marks.append(tag("line", x1=x(zero), x2=x(zero), y1=4.0, y2=height - 18.0, class_="zero"))
    for place, row in enumerate(rows):
        at = 18.0 + place * step
        said = f"{row.name}: {format(row.value, form)} ({format(row.low, form)} to {format(row.high, form)})"
        marks.append(
            tag("text", shortened(row.name, 18), tag("title", row.name), x=left - 10.0, y=at + 4.0, class_="name end")
        )
        marks += [
            tag(
                "line",
                tag("title", f"{name}: {format(value, form)}"),
                x1=x(value),
                x2=x(value),
                y1=at - 8.0,
                y2=at + 8.0,
                class_=f"mark m{which % 3}",
            )
            for which, (name, value) in enumerate(row.marks)
            if value is not None
        ]
        marks.append(tag("line", x1=x(row.low), x2=x(row.high), y1=at, y2=at, class_="span"))
        marks.append(tag("circle", tag("title", said), cx=x(row.value), cy=at, r=4.5, class_="dot s0"))
    return picture(title, height, marks)


def bars(title: str, rows: Sequence[tuple[str, float, str]], middle: float | None = None) -> Markup:
    """A name, a bar and what it says, a row; `middle` is marked by a line through all of them."""
    most = max([value for _, value, _ in rows] + ([middle] if middle else [])) or 1.0
    left, right, step = 118.0, WIDTH - 104.0, 22.0
    height = step * len(rows) + 6.0
    x = _scale(0.0, most, left, right)
    marks: list[Any] = []
    for place, (name, value, said) in enumerate(rows):
        at = step * place + 4.0
        marks.append(tag("text", shortened(name, 18), tag("title", name), x=left - 8.0, y=at + 12.0, class_="name end"))
        marks.append(
            tag(
                "rect",
                tag("title", f"{name}: {said}"),
                x=left,
                y=at + 2.0,
                width=max(0.0, x(value) - left),
                height=step - 8.0,
                rx=2.0,
                class_="bar",
            )
        )
        marks.append(tag("text", said, x=right + 6.0, y=at + 12.0, class_="axis"))
    if middle is not None:
        marks.append(
            tag(
                "line",
                tag("title", f"all rows: {middle:.3g}"),
                x1=x(middle),
                x2=x(middle),
                y1=2.0,
                y2=height - 2.0,
                class_="zero",
            )
        )
    return picture(title, height, marks)


def scatter(title: str, true: NDArray[np.float64], predicted: NDArray[np.float64], ends: tuple[float, float]) -> Markup:
    """Scores counted in squares, the darker the more rows; what lies on the line is right."""
    low, high = ends
    counts, _, _ = np.histogram2d(true, predicted, bins=CELLS, range=[[low, high], [low, high]])
    size = SQUARE
    ticks = nice_ticks(low, high, most=5)
    x, y = _scale(low, high, LEFT, LEFT + size), _scale(low, high, TOP + size, TOP)
    side = size / CELLS
    marks: list[Any] = [*_axes(ticks, ticks, x, y, TOP + size + BOTTOM, within=ends, right=LEFT + size)]
    most = math.sqrt(counts.max()) or 1.0
    for column, row in zip(*np.nonzero(counts), strict=True):
        share = math.sqrt(counts[column, row]) / most
        marks.append(
            tag(
                "rect",
                tag("title", f"{counts[column, row]:,.0f} rows"),
                x=LEFT + column * side + 0.5,
                y=TOP + size - (row + 1) * side + 0.5,
                width=side - 1,
                height=side - 1,
                class_="cell",
                opacity=0.15 + 0.85 * share,
            )
        )
    marks.append(tag("line", x1=x(low), y1=y(low), x2=x(high), y2=y(high), class_="zero"))
    marks.append(tag("text", "true", x=LEFT + size, y=TOP + size + 27.0, class_="axis end"))
    marks.append(
        tag("text", "predicted", x=0.0, y=0.0, transform=f"translate(10 {TOP + 4}) rotate(-90)", class_="axis end")
    )
    return picture(title, TOP + size + BOTTOM, marks, width=LEFT + size + RIGHT)


def reliability(title: str, bins: Sequence[Bin]) -> Markup:
    """How often predictions of a confidence are right; on the line they are as often right as they are sure."""
    size = SQUARE
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    x, y = _scale(0.0, 1.0, LEFT, LEFT + size), _scale(0.0, 1.0, TOP + size, TOP)
    marks: list[Any] = [*_axes(ticks, ticks, x, y, TOP + size + BOTTOM, right=LEFT + size)]
    most = max((one.rows for one in bins), default=1)
    marks.append(tag("line", x1=x(0.0), y1=y(0.0), x2=x(1.0), y2=y(1.0), class_="zero"))
    for one in bins:
        said = f"{one.rows:,} rows: {one.sure:.1%} sure, {one.right:.1%} right"
        marks.append(tag("line", x1=x(one.sure), x2=x(one.sure), y1=y(one.sure), y2=y(one.right), class_="span"))
        marks.append(
            tag(
                "circle",
                tag("title", said),
                cx=x(one.sure),
                cy=y(one.right),
                r=3.0 + 7.0 * math.sqrt(one.rows / most),
                class_="dot s0 see-through",
            )
        )
    marks.append(tag("text", "sure", x=LEFT + size, y=TOP + size + 27.0, class_="axis end"))
    marks.append(
        tag("text", "right", x=0.0, y=0.0, transform=f"translate(10 {TOP + 4}) rotate(-90)", class_="axis end")
    )
    return picture(title, TOP + size + BOTTOM, marks, width=LEFT + size + RIGHT)


def heat(
    title: str, rows: Sequence[str], columns: Sequence[str], values: NDArray[np.float64], form: str, both: bool = False
) -> Markup:
    """A square a cell, the stronger the larger; with `both`, what is below 0 has another colour."""
    most = float(np.nanmax(np.abs(values))) or 1.0
    left, top = 118.0, 64.0
    side = min(44.0, (WIDTH - left - 4.0) / len(columns))
    tall = min(side, 26.0) if len(columns) < 12 else side
    height = top + tall * len(rows) + 4.0
    marks: list[Any] = []
    for place, name in enumerate(columns):
        turned = f"translate({left + (place + 0.5) * side + 3:.1f} {top - 6}) rotate(-40)"
        marks.append(tag("text", shortened(name, 12), tag("title", name), transform=turned, class_="name"))
    for line, name in enumerate(rows):
        marks.append(
            tag(
                "text",
                shortened(name, 18),
                tag("title", name),
                x=left - 6.0,
                y=top + (line + 0.5) * tall + 3.5,
                class_="name end",
            )
        )
        for place, other in enumerate(columns):
            value = float(values[line, place])
            if math.isnan(value):
                continue
            said = f"{name}, {other}: {format(value, form)}"
            which = "against" if both and value < 0 else "cell"
            marks.append(
                tag(
                    "rect",
                    tag("title", said),
                    x=left + place * side + 0.5,
                    y=top + line * tall + 0.5,
                    width=side - 1,
                    height=tall - 1,
                    class_=which,
                    opacity=abs(value) / most * 0.45,
                )
            )
            if side > 30:
                marks.append(
                    tag(
                        "text",
                        format(value, form),
                        x=left + (place + 0.5) * side,
                        y=top + (line + 0.5) * tall + 3.5,
                        class_="axis middle strong",
                    )
                )
    return picture(title, height, marks)


def bullet(
    title: str, low: float, high: float, value: float, constant: float | None, ends: tuple[float, float]
) -> Markup:
    """A score on its scale with its interval, and what a constant predictor reaches."""
    x = _scale(*ends, 4.0, 236.0)
    marks: list[Any] = [tag("rect", x=4.0, y=7.0, width=232.0, height=6.0, rx=3.0, class_="track")]
    if constant is not None:
        marks.append(
            tag(
                "line",
                tag("title", f"constant: {constant:z.4f}"),
                x1=x(constant),
                x2=x(constant),
                y1=2.0,
                y2=18.0,
                class_="mark m0",
            )
        )
    marks.append(
        tag(
            "rect",
            tag("title", f"95 % interval: {low:z.3f} to {high:z.3f}"),
            x=x(low),
            y=7.0,
            width=max(1.0, x(high) - x(low)),
            height=6.0,
            rx=3.0,
            class_="bar",
        )
    )
    marks.append(tag("circle", cx=x(value), cy=10.0, r=5.0, class_="dot s0"))
    return picture(title, 20.0, marks, width=240.0)


def pareto(title: str, points: Sequence[tuple[float, float, str]], front: Sequence[tuple[float, float]]) -> Markup:
    """Cost, score and name; those on the stairs are beaten by none in both."""
    height = 240.0
    across = nice_ticks(0.0, max(cost for cost, _, _ in points) * 1.15, most=5)
    ticks = nice_ticks(min(score for _, score, _ in points), max(score for _, score, _ in points), most=5)
    x, y = _scale(across[0], across[-1], LEFT, WIDTH - RIGHT), _scale(ticks[0], ticks[-1], height - BOTTOM, TOP)
    stairs = [
        point
        for (cost, score), (after, _) in zip(front, [*front[1:], (across[-1], 0)], strict=True)
        for point in ((cost, score), (after, score))
    ]
    marks: list[Any] = [
        *_axes(ticks, across, x, y, height),
        tag("polyline", points=_points(stairs, x, y), class_="stairs"),
    ]
    for cost, score, name in points:
        marks.append(
            tag(
                "circle",
                tag("title", f"{name}: {score:z.4f}, {cost:,.0f} s"),
                cx=x(cost),
                cy=y(score),
                r=4.5,
                class_="dot s0",
            )
        )
        late = x(cost) > WIDTH * 0.6
        marks.append(
            tag(
                "text",
                shortened(name, 22),
                x=x(cost) + (-8.0 if late else 8.0),
                y=y(score) - 6.0,
                class_="name end" if late else "name",
            )
        )
    marks.append(tag("text", "processor seconds a run", x=WIDTH - RIGHT, y=height - 4.0, class_="axis end"))
    return picture(title, height, marks)


def binned(name: str, x: Sequence[float], y: Sequence[float]) -> Curve:
    """A curve of at most BINS points, each the mean of as many neighbours, with a band from their 10 to 90 %."""
    steps, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(steps) <= BINS // 2:
        return Curve(name, steps, values)
    parts = np.array_split(np.arange(len(steps)), min(BINS, len(steps) // 4))
    low, high = (np.array([np.quantile(values[part], share) for part in parts]) for share in (0.1, 0.9))
    middle = np.array([values[part].mean() for part in parts])
    return Curve(name, np.array([steps[part].mean() for part in parts]), middle, low, high)


def nice_ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Round numbers that begin at or below `low` and end at or above `high`.

    >>> nice_ticks(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(0, 200, whole=True)
    [0, 50, 100, 150, 200]
    """
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * by for by in (1, 2, 5, 10, 20) if (high - low) / (step * by) <= most - 1 + 1e-9)
    step = max(1.0, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, -math.floor(math.log10(step)))
    return [round(place * step, places) for place in range(first, last + 1)]


def number(value: float) -> str:
    """A number as an axis shows it.

    >>> number(0.25), number(20000.0), number(0.00012)
    ('0.25', '20k', '1.2e-04')
    """
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def shortened(name: str, room: int) -> str:
    """A name with an ellipsis in the place of what does not fit."""
    half = room // 2  # of names that begin alike, the ends tell them apart
    return name if len(name) <= room else f"{name[: room - half - 1]}…{name[-half:]}"


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (float(value) - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start)


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return _Scale(low, high, start, end)


def _points(points: Iterable[tuple[float, float]], x: _Scale, y: _Scale) -> str:
    return " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in points)


def _axes(
    ticks: Sequence[float],
    across: Sequence[float],
    x: _Scale,
    y: _Scale,
    height: float,
    within: tuple[float, float] | None = None,
    right: float = WIDTH - RIGHT,
) -> Iterable[Markup]:
    inside = within or (-math.inf, math.inf)
    for tick in ticks:
        if inside[0] <= tick <= inside[1]:
            yield tag("line", x1=LEFT, x2=right, y1=y(tick), y2=y(tick), class_="rule")
            yield tag("text", number(tick), x=LEFT - 6.0, y=y(tick) + 3.5, class_="axis end")
    for tick in across:
        if inside[0] <= tick <= inside[1]:
            yield tag("text", number(tick), x=x(tick), y=height - BOTTOM + 14.0, class_="axis middle")
