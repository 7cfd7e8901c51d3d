"""Mistakes grouped: against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.tables import Rows
from mtbert.reports.examined import Examined
from mtbert.reports.mistakes import groups, typical, worst

MOOD = Classification(name="mood", text="text", label="label", classes=["bad", "good"])


def examined(texts: Sequence[str], labels: Sequence[int], logits: Sequence[float]) -> Examined:
    """Rows of MOOD, with the logit of its second class."""
    outputs = torch.tensor([[0.0, logit] for logit in logits])
    ids, column = pa.chunked_array([pa.array(range(len(texts)))]), pa.chunked_array([pa.array(texts)])
    return Examined(
        MOOD,
        "dev",
        Rows("rows", ids, (column,), np.array(labels, dtype=float), [], MOOD),
        outputs,
    )


def test_words_that_go_with_mistakes_are_found() -> None:
    texts = [f"plain words number {n}" + (" not" if n % 4 == 0 else "") for n in range(200)]
    labels = [n // 4 % 2 for n in range(200)]
    logits = [(1 if label else -1) * (-2 if "not" in text else 2) for text, label in zip(texts, labels, strict=True)]
    found = groups(examined(texts, labels, logits))
    (word,) = found.words
    assert (word.word, word.rows, word.miss) == ("not", 50, 1.0)
    assert word.by_stratum == [25, 25]
    assert found.strata == ["bad", "good"]
    assert found.miss == pytest.approx(0.25)
    assert [(one.name, one.rows, one.miss) for one in found.by_label] == [("bad", 100, 0.25), ("good", 100, 0.25)]


def test_groups_by_length_hold_every_row_once() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(["word"] * int(n)) for n in generator.integers(1, 60, 500)]
    one = examined(texts, [0] * 500, list(generator.normal(size=500)))
    found = groups(one)
    assert sum(group.rows for group in found.by_length) == 500
    assert sum(group.rows * group.miss for group in found.by_length) == pytest.approx(one.misses.sum())
    for group in found.by_length:
        low, _, high = group.name.removesuffix("words").partition(" to ")
        lengths = [len(text.split()) for text in texts]
        assert group.rows == sum(int(low) <= length <= int(high) for length in lengths)


def test_the_worst_are_wrong_and_the_surest_come_first() -> None:
    one = examined(["a"] * 5, [0, 0, 1, 1, 0], [3.0, 1.0, -5.0, 2.0, -4.0])
    assert worst(one, 10) == [2, 0, 1]
    assert set(typical(one, 10)) == {3, 4}


def test_words_shared_by_the_texts_of_a_pair() -> None:
    near = Regression(name="near", text=["a", "b"], label="score", range=(0, 4))
    first = pa.chunked_array([["one two", "one two", "one two"]])
    second = pa.chunked_array([["one two", "three four", "one three four five"]])
    rows = Rows("rows", pa.chunked_array([[0, 1, 2]]), (first, second), np.array([4.0, 0.0, 2.0]), [], near)
    found = groups(Examined(near, "dev", rows, torch.tensor([[0.5], [0.0], [1.0]])))
    assert [(group.name, group.rows, group.miss) for group in found.by_shared_words] == [
        ("0 to 20 % shared", 1, 0.0),
        ("20 to 40 % shared", 1, 2.0),
        ("80 to 100 % shared", 1, 2.0),
    ]
