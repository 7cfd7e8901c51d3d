"""A split by texts: nothing stands on two sides, and neither machine, order nor new rows move what is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest

from mtbert.data.kinds.table import KINDS
from mtbert.data.splitting import Shares, place_of, split_rows
from mtbert.data.tables import Rows, read_rows
from mtbert.errors import Mistake

Row = tuple[str, str, str, float]  # two texts, a class, a score


def tasks_on(table: list[Row]) -> dict[str, Rows]:
    """Three tasks that read one table: the first text alone, a pair with classes, the same pair the other way round."""
    a, b, labels, scores = map(list, zip(*table, strict=True))
    columns = pa.table({"a": a, "b": b, "class": labels, "score": scores})
    made = {
        "single": KINDS["classification"](name="single", text="a", label="class"),
        "pair": KINDS["classification"](name="pair", text=["a", "b"], label="class"),
        "turned": KINDS["regression"](name="turned", text=["b", "a"], label="score", range=[0, 5]),
    }
    return {name: read_rows(task, columns) for name, task in made.items()}


def texts_of(rows: Rows) -> set[str]:
    return {" ".join(text.split()).casefold() for column in rows.texts for text in column.to_pylist()}


def sides_of(split: dict[str, dict[str, Rows]]) -> dict[str, str]:
    """Text -> side; fails where one stands on two, over all tasks."""
    sides: dict[str, str] = {}
    for side, by_task in split.items():
        for rows in by_task.values():
            for text in texts_of(rows):
                assert sides.setdefault(text, side) == side, text
    return sides


def random_table(generator: random.Random, rows: int, texts: int, classes: int) -> list[Row]:
    """Rows whose texts come from so many; some differ in case and white space alone."""

    def text() -> str:
        words = f"Text  Number {generator.randrange(texts)}"
        return generator.choice([words, words.lower(), words.upper(), f" {words} "])

    made: list[Row] = []
    for row in range(rows):
        label = str(row if row < 2 else generator.randrange(classes))
        made.append((text(), text(), label, generator.uniform(0, 5)))
    return made


def test_no_text_stands_on_two_sides_over_all_tasks_of_a_file() -> None:
    generator = random.Random(5)
    split_tables = 0
    for _ in range(100):
        rows = generator.randrange(5, 200)
        table = random_table(generator, rows, generator.randrange(2, 20 * rows), generator.randrange(2, 6))
        shares = Shares(generator.choice([0.05, 0.1, 0.3]), generator.choice([0.0, 0.1, 0.2]))
        read = tasks_on(table)
        with suppress(Mistake):  # where rows hang together or are too few
            split = split_rows(read, shares)
            split_tables += 1
            sides_of(split)
            for task, whole in read.items():
                assert sum(len(by_task[task]) for by_task in split.values()) == len(whole)
                assert all(len(by_task[task]) for by_task in split.values())
    assert split_tables > 50


def test_the_order_of_rows_does_not_matter() -> None:
    generator = random.Random(6)
    for _ in range(20):
        table = random_table(generator, 120, 3000, 3)
        once = sides_of(split_rows(tasks_on(table), Shares(0.1, 0.1)))
        generator.shuffle(table)
        assert sides_of(split_rows(tasks_on(table), Shares(0.1, 0.1))) == once


def test_added_rows_with_new_texts_move_no_other() -> None:
    generator = random.Random(7)
    for _ in range(15):
        table = random_table(generator, 600, 6000, 2)
        before = sides_of(split_rows(tasks_on(table), Shares(0.15, 0.1)))
        new: list[Row] = [(f"new {i} a", f"new {i} b", str(i % 3), i % 6) for i in range(generator.randrange(1, 300))]
        after = sides_of(split_rows(tasks_on(table + new), Shares(0.15, 0.1)))
        assert {text: after[text] for text in before} == before


def test_a_place_is_the_same_on_every_machine() -> None:
    assert place_of("A  good\tfilm ") == place_of("a good film")
    # computed by b2sum of coreutils: the first 8 bytes of BLAKE2b with a digest of 64 bits, read as a fraction
    assert place_of("a good film") == pytest.approx(0xE67AC028BF5BAC43 / 2**64, abs=2.0**-53)
    code = "from mtbert.data.splitting import place_of; print(place_of('Ärger über 3 Filme'))"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    ]
    assert said[0] == said[1] == f"{place_of('ärger über 3 filme')}\n"


def test_shares_are_about_those_asked_for_in_every_class() -> None:
    generator = random.Random(8)
    table: list[Row] = [(f"text {i}", f"other {i}", "abc"[min(2, i % 10)], generator.random()) for i in range(20_000)]
    split = split_rows(tasks_on(table), Shares(0.1, 0.2))
    for side, share in {"train": 0.7, "dev": 0.1, "test": 0.2}.items():
        labels = split[side]["pair"].labels
        assert labels is not None
        for label, count in enumerate((2000, 2000, 16_000)):
            found = int((labels == label).sum())
            assert abs(found - share * count) < 4 * np.sqrt(count * share * (1 - share)), (side, label)


def test_every_class_of_ten_rows_stands_on_both_sides() -> None:
    generator = random.Random(9)
    for trial in range(50):
        table: list[Row] = [
            (f"text {trial} {i}", f"other {trial} {i}", "ab"[i % 2], generator.random()) for i in range(10)
        ]
        split = split_rows({"pair": tasks_on(table)["pair"]}, Shares(dev=0.1))
        for rows in (split["train"]["pair"], split["dev"]["pair"]):
            assert rows.labels is not None
            assert set(rows.labels) == {0, 1}


def test_a_class_in_one_group_is_learned_from() -> None:
    for trial in range(20):
        table: list[Row] = [(f"text {trial} {i}", "x", "ab"[i % 2], 0.0) for i in range(30)]
        table.append((f"alone {trial}", "x", "c", 0.0))
        split = split_rows({"single": tasks_on(table)["single"]}, Shares(0.2, 0.2))
        labels = split["train"]["single"].labels
        assert labels is not None
        assert 2 in labels


def test_rows_that_hang_together_cannot_be_split() -> None:
    table: list[Row] = [(f"text {i}", "the same for all", "ab"[i % 2], float(i % 5)) for i in range(100)]
    with pytest.raises(Mistake, match=r"no \w+ row for task 'single'.* 100 of its 100 rows hang together"):
        split_rows(tasks_on(table), Shares(0.1))
