"""Pictures: in their frame, of bounded size, and readable by their contrast (WCAG 2.2)."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import mtbert.pages
from mtbert.pages import drawing
from mtbert.pages.drawing import Curve, Span

STYLE = (Path(mtbert.pages.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def places(svg: str) -> list[tuple[float, float]]:
    """Where the marks of a picture lie."""
    found = []
    for mark in ElementTree.fromstring(svg).iter():
        at = mark.attrib
        for across, down in (("cx", "cy"), ("x1", "y1"), ("x2", "y2"), ("x", "y")):
            if across in at and down in at:
                found.append((float(at[across]), float(at[down])))
        for point in at.get("points", "").split():
            one, other = point.split(",")
            found.append((float(one), float(other)))
    return found


@pytest.mark.parametrize(
    "values", [[0.3], [0.5, 0.5], [-3.0, 4e5, 2.0], [1e-9, 2e-9], list(np.random.default_rng(0).normal(size=5000))]
)
def test_curves_stay_in_their_frame(values: list[float]) -> None:
    svg = drawing.curves("values", [drawing.binned("value", list(range(1, len(values) + 1)), values)])
    assert all(0 <= x <= 360 and 0 <= y <= 190 for x, y in places(svg))
    assert len(svg) < 20_000


def test_a_binned_curve_keeps_the_mean() -> None:
    values = np.random.default_rng(1).normal(size=1200)
    curve = drawing.binned("value", range(1200), list(values))
    assert len(curve.y) <= drawing.BINS
    assert curve.y.mean() == pytest.approx(values.mean())  # parts of one size
    assert curve.lows is not None
    assert curve.highs is not None
    assert ((curve.lows <= curve.y) & (curve.y <= curve.highs)).all()


def test_a_scatter_of_a_hundred_thousand_rows_is_small() -> None:
    generator = np.random.default_rng(2)
    svg = drawing.scatter("scores", generator.uniform(0, 5, 100_000), generator.uniform(0, 5, 100_000), (0, 5))
    counted = [int(found.replace(",", "")) for found in re.findall(r"<title>([\d,]+) rows", svg)]
    assert sum(counted) == 100_000
    assert len(svg) < 150_000


def test_intervals_lie_as_their_numbers() -> None:
    svg = drawing.intervals("scores", [Span("a", 0.5, 0.25, 0.75), Span("b", 1.0, 1.0, 1.0, [("constant", 0.0)])])
    spans = [
        (float(mark.attrib["x1"]), float(mark.attrib["x2"]))
        for mark in ElementTree.fromstring(svg).iter("line")
        if mark.attrib["class"] == "span"
    ]
    (dot_a, dot_b) = (float(mark.attrib["cx"]) for mark in ElementTree.fromstring(svg).iter("circle"))
    assert dot_a == pytest.approx(sum(spans[0]) / 2)
    assert dot_b == spans[1][0] == spans[1][1]
    assert (dot_b - dot_a) == pytest.approx(spans[0][1] - spans[0][0], abs=0.02)


def test_names_are_data() -> None:
    svg = drawing.curves("<b>&", [Curve("<i>\u202e", np.array([1.0]), np.array([1.0]))])
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "\u202e" not in svg


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(over: str, under: str, share: float) -> str:
    parts = ((int(over[at : at + 2], 16), int(under[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in parts)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_words_and_lines_can_be_told_from_their_ground(scheme: int) -> None:
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = {
        name: value if len(value) == 7 else "#" + "".join(2 * one for one in value[1:])
        for name, value in re.findall(r"--([\w-]+): (#\w+)", block)
    }
    for ground in ("ground", "card", "soft"):
        for ink in ("ink", "muted", "s0"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for line in ("s1", "s2", "s3", "s4", "s5"):
            assert contrast(colours[line], colours[ground]) >= 3, (line, ground)
        for mark, share in (("s0", 0.45), ("s1", 0.45)):  # under the numbers of a table, and under words
            assert contrast(colours["ink"], mixed(colours[mark], colours[ground], share)) >= 4.5, (mark, ground)
    assert "calc(var(--a) * 45%)" in STYLE
    assert "calc(var(--w) * 45%)" in STYLE


def test_long_names_that_begin_alike_are_told_apart() -> None:
    rows = [Span(f"a_task_with_a_long_name_{n}", 0.5, 0.4, 0.6) for n in range(20)]
    shown = set(re.findall(r">([^<]*…[^<]*)<", drawing.intervals("scores", rows)))
    assert len(shown) == 20
