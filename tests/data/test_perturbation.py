"""Typos: how many, where, and that they depend on the text and the seed alone."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtbert.data.kinds.table import KINDS
from mtbert.data.perturbation import NEIGHBOURS, perturbed, with_changed_case, with_typos
from mtbert.data.tables import Rows
from tests.support.small import sentence

LONG = "a warm and quick film about a slow river, whose plot is anything but dull or cold to see"  # 70 letters
TAKEN_DOWN = "a waarm and qici film ABOUT a slow river, whose plot is anything but dull Or cold to see"
TEXTS = [sentence(number, 9) for number in range(200)]


def rows_of(*columns: list[str]) -> Rows:
    count = len(columns[0])
    texts = tuple(pa.chunked_array([pa.array(column, pa.string())]) for column in columns)
    ids = pa.chunked_array([pa.array(range(count))])
    task = KINDS["regression"](name="near", text="text", label="label", range=[0, count])
    return Rows("texts", ids, texts, np.arange(count, dtype=np.float64), [], task)


def texts_of(rows: Rows) -> list[list[Any]]:
    return [column.to_pylist() for column in rows.texts]


def distance(a: str, b: str) -> int:
    """Edits between two texts, a swap of neighbours counting as one (Damerau, 1964; optimal string alignment)."""
    d = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    d[:, 0], d[0] = range(len(a) + 1), range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return int(d[-1, -1])


@pytest.mark.parametrize("seed", range(20))
def test_a_text_has_one_typo_in_twenty_letters(seed: int) -> None:
    found = distance(LONG, with_typos(LONG, random.Random(seed)))
    assert 2 <= found <= round(70 / 20)  # neighbouring typos may undo each other in part
    assert distance("good film", with_typos("good film", random.Random(seed))) == 1


def test_every_kind_of_typo_occurs_about_as_often_as_the_others() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(2000):
        changed = with_typos("plain", random.Random(seed))
        if sorted(changed) == sorted("plain"):
            kinds["swapped"] += 1
        else:
            kinds[{-1: "dropped", 0: "mistyped", 1: "doubled"}[len(changed) - 5]] += 1
    assert set(kinds) == {"swapped", "dropped", "doubled", "mistyped"}
    assert all(400 < count < 600 for count in kinds.values())  # 500 +- 5 standard deviations


def test_a_key_is_mistaken_for_one_beside_it_on_the_keyboard() -> None:
    assert set(NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")
    assert sorted(NEIGHBOURS["g"]) == sorted("rtyfhvbn")
    assert sorted(NEIGHBOURS["q"]) == sorted("was")
    for key, beside in NEIGHBOURS.items():
        assert all(key in NEIGHBOURS[other] for other in beside)
    mistyped = {with_typos("QQG", random.Random(seed)) for seed in range(500)} - {"QG", "QQ", "QQQG", "QQGG", "QGQ"}
    assert mistyped == {f"Q{key}G" for key in "WAS"} | {f"QQ{key}" for key in "RTYFHVBN"}


@pytest.mark.parametrize("text", ["", " ", "a is to", "1999, 2001!", "a 1 b_2", "?!"])
def test_short_words_and_what_is_no_word_stay_as_they_are(text: str) -> None:
    assert all(with_typos(text, random.Random(seed)) == text for seed in range(20))


def test_typos_never_touch_a_words_first_letter_spaces_or_marks() -> None:
    for seed in range(300):
        changed = with_typos(LONG, random.Random(seed)).split(" ")
        for before, after in zip(LONG.split(" "), changed, strict=True):
            if before != after:
                assert len(before) >= 3
                # a swap of the first two letters is the one typo that moves the first
                assert after[0] == before[0] or after[:2] == before[1::-1]
            assert before.endswith(",") == after.endswith(",")


def test_texts_in_other_scripts_are_perturbed_too() -> None:
    for text in ("schöne Grüße", "красивый фильм", "電影電影電影"):
        changed = [with_typos(text, random.Random(seed)) for seed in range(20)]
        assert any(one != text for one in changed)


def test_a_tenth_of_the_words_change_their_case_and_nothing_else() -> None:
    changed = [with_changed_case(text, random.Random(index)) for index, text in enumerate(TEXTS * 10)]
    assert [text.lower() for text in changed] == TEXTS * 10
    words = sum(len(text.split()) for text in changed)
    touched = [word for text in changed for word in text.split() if word != word.lower()]
    assert abs(len(touched) - words / 10) < 5 * (words * 0.09) ** 0.5
    capitals = sum(word.isupper() for word in touched)
    assert 0.4 < capitals / len(touched) < 0.6
    assert all(word.isupper() or word[1:].islower() for word in touched)


def test_what_becomes_of_a_text_depends_on_it_and_the_seed_alone() -> None:
    rows = rows_of(TEXTS, TEXTS[::-1])
    once, again = texts_of(perturbed(rows, 7)), texts_of(perturbed(rows, 7))
    assert once == again
    assert once[0] == once[1][::-1]  # wherever it stands
    assert texts_of(perturbed(rows_of(TEXTS[50:60]), 7))[0] == once[0][50:60]
    other = texts_of(perturbed(rows, 8))[0]
    assert sum(a != b for a, b in zip(once[0], other, strict=True)) > 150


def test_the_same_seed_gives_the_same_texts_on_every_machine() -> None:
    # taken down once: a change here changes every published robustness
    assert texts_of(perturbed(rows_of([LONG, "good film"]), 0)) == [[TAKEN_DOWN, "god film"]]


def test_every_text_long_enough_is_changed_and_labels_are_not() -> None:
    rows = rows_of(TEXTS)
    before = texts_of(rows)
    after = perturbed(rows, 0)
    assert all(a != b for a, b in zip(before[0], texts_of(after)[0], strict=True) if len(a) > 2)
    assert np.array_equal(after.labels, rows.labels)  # type: ignore[arg-type]
    assert after.ids == rows.ids
    assert texts_of(rows) == before
