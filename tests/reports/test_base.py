"""Reports fit the terminal: prose is broken between words, tables go on below themselves, numbers are never cut."""

from __future__ import annotations

import re

import pytest

from mtbert.reports.base import grid, plain
from tests.support.cases import each
from tests.support.screen import assert_fits, shown_lines


@each(width=[20, 40, 80, 100], tasks=[1, 5, 20], columns=[1, 4, 20])
def test_every_number_of_a_table_is_shown_once_and_whole(width: int, tasks: int, columns: int) -> None:
    numbers = [[f"-{row}.{column:02}5 ({row}.{column:02} %)" for column in range(columns)] for row in range(tasks)]
    names = [f"a name that is rather long, of row {row}" for row in range(tasks)]
    titles = [f"a title that is rather long, of column {column}" for column in range(columns)]
    lines = shown_lines(grid("of a step on this task", titles, names, numbers), max(width, 27))
    assert_fits(lines, max(width, 27))  # 8 characters of a name, a gap, and the longest number
    found = re.findall(r"-[0-9.]+ \([0-9.]+ %\)", "\n".join(lines))
    assert sorted(found) == sorted(number for row in numbers for number in row)


def test_prose_is_broken_between_words_and_hangs() -> None:
    lines = shown_lines(plain("  labels: " + ", ".join(f"class{n} 1,234" for n in range(20))), 40)
    assert_fits(lines, 40)
    assert lines[0].startswith("  labels: class0")
    assert all(line.startswith("    class") or re.match(r"    1,234", line) for line in lines[1:])


@pytest.mark.parametrize("text", ["[bold]no markup[/bold]", "[a] [/b]"])
def test_square_brackets_are_no_markup(text: str) -> None:
    assert shown_lines(plain(text), 80) == [text]
    assert text in shown_lines(grid("name", ["value"], [text], [["1"]]), 80)[1]
