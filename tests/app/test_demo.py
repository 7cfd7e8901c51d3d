"""The demo's data: balanced, apart from each other, and without the questions that the demo asks at its end."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

import mtbert.demo
from tests.support.cases import each

FOLDER = Path(mtbert.demo.__file__).parent
SPLITS = ("train", "dev", "test")


def rows(task: str, split: str) -> list[list[str]]:
    """Each row without its name: the texts, and then the label."""
    with (FOLDER / f"{task}-{split}.tsv").open(encoding="utf-8", newline="") as file:
        return [row[1:] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


@each(task=list(mtbert.demo.QUESTIONS))
def test_no_text_stands_in_two_splits(task: str) -> None:
    texts = {split: {text.casefold() for row in rows(task, split) for text in row[:-1]} for split in SPLITS}
    assert all(len(rows(task, split)) >= 40 for split in SPLITS)
    assert not any(texts[one] & texts[other] for one in SPLITS for other in SPLITS if one != other)


@each(task=list(mtbert.demo.QUESTIONS))
def test_what_is_asked_at_the_end_is_in_no_data_and_nothing_is_nearly_the_same(task: str) -> None:
    asked = [
        words(text) for texts in mtbert.demo.QUESTIONS[task] for text in ([texts] if isinstance(texts, str) else texts)
    ]
    known = [words(text) for split in SPLITS for row in rows(task, split) for text in row[:-1]]
    assert max(len(a & b) / len(a | b) for a in asked for b in known) < 0.6


@pytest.mark.parametrize(("task", "classes"), [("sentiment", 5), ("paraphrase", 2)])
def test_classes_are_balanced_in_every_split(task: str, classes: int) -> None:
    for split in SPLITS:
        counts = Counter(row[-1] for row in rows(task, split))
        assert set(counts) == {str(label) for label in range(classes)}
        assert len(set(counts.values())) == 1
