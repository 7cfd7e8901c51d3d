"""What a report looks like on a terminal of a given width."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console

CUT = re.compile(r"\d[.,]?…|…\d")  # a number that was cut


def shown_lines(report: Any, width: int) -> list[str]:
    """The lines of a report, as the commands print them."""
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False, soft_wrap=True).print(report)
    return screen.getvalue().splitlines()


def assert_fits(lines: Sequence[str], width: int) -> None:
    """Nothing is wider than the terminal, and no number is cut."""
    assert [line for line in lines if len(line) > width] == []
    assert [line for line in lines if CUT.search(line)] == []
