"""What is seen in rows, against looking at every row by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from mtbert.data.batches import Examples
from mtbert.data.kinds.table import KINDS
from mtbert.data.tables import read_rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.reports.sights import leaks, near, prints
from mtbert.reports.sights.base import SHOWN, Look, Looks, Sight
from mtbert.reports.sights.lengths import by_chance, explained
from mtbert.reports.sights.near import LIKE, all_sets, sets_of, shared
from mtbert.reports.sights.table import seen

LETTERS = [chr(sign) for sign in range(ord("a"), ord("z") + 1)]
TOKENIZER = Tokenizer.from_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{one}" for one in LETTERS)])


def look(split: str, rows: Sequence[Any], name: str = "mood", max_length: int = 64, **keys: Any) -> Look:
    """Rows of texts and a label, as check looks at them."""
    columns = [f"text{place}" for place in range(len(rows[0]) - 1)]
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate([*columns, "label"])})
    given: dict[str, Any] = {
        "name": name,
        "kind": "classification",
        "text": columns,
        "label": "label",
        "max_length": max_length,
    }
    given |= keys
    if given["kind"] == "classification":
        given["classes"] = sorted({str(row[-1]) for row in rows} | {"bad", "good"})
    read = read_rows(KINDS[given["kind"]](**given), table)
    examples = Examples.from_texts(read.task, read.given, TOKENIZER, 512, read.labels)
    return Look(read.task, split, read, examples, TOKENIZER.unknown)


def looks(**splits: Sequence[Look]) -> Looks:
    return Looks({split: {one.task.name: one for one in some} for split, some in splits.items()})


def found(all_: Looks, what: str) -> list[Sight]:
    return [sight for sight in seen(all_) if sight.what == what]


def drawn(generator: Random, rows: int, words: int = 8) -> list[tuple[str, str]]:
    return [
        (" ".join(generator.choices(LETTERS, k=generator.randrange(1, words))), generator.choice(["good", "bad"]))
        for _ in range(rows)
    ]


@pytest.fixture(params=[1, 7, 1 << 19])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(prints, "BLOCK", request.param)
    return int(request.param)


# ---- texts and tokens as numbers


def test_texts_have_one_number_where_they_are_equal(block: int) -> None:
    generator = Random(block)
    texts = ["".join(generator.choices("ab\x00é🙂", k=generator.randrange(4))) for _ in range(200)]
    column = pa.chunked_array([texts[:3], [], texts[3:150], texts[150:]], pa.string())
    numbers = prints.of_texts(column.slice(1))
    assert len(set(zip(numbers.tolist(), texts[1:], strict=True))) == len(set(numbers.tolist())) == len(set(texts[1:]))


def test_many_different_sequences_have_different_numbers() -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 2, (10_000, 40))
    numbers = prints.of_sequences(rows.ravel(), np.arange(10_001) * 40)
    assert len(np.unique(numbers)) == len(np.unique(rows, axis=0))


def test_where_a_number_stands_first_is_what_a_search_finds(block: int) -> None:
    generator = np.random.default_rng(block)
    one, other = generator.integers(0, 30, (2, 50)).astype(np.uint64)
    by_hand = [other.tolist().index(number) if number in other else -1 for number in one]
    assert prints.first_places(one, other).tolist() == by_hand
    assert prints.stand_in(one, other).tolist() == np.isin(one, other).tolist()
    assert prints.first_places(one, other[:0]).tolist() == [-1] * 50
    assert prints.first_places(one[:0], other).tolist() == []


# ---- vocabulary


def test_unknown_tokens_and_equal_tokens_are_what_a_dictionary_counts(block: int) -> None:
    generator = Random(block)
    for _ in range(5):
        texts = ["".join(generator.choices("abAé\u4e00 🙂", k=generator.randrange(1, 5))) + "x" for _ in range(40)]
        sights = looks(train=[look("train", [(text, "ab"[row % 2]) for row, text in enumerate(texts)])])
        tokens = {text: tuple(TOKENIZER.encode([text]).flat.tolist()) for text in texts}
        every = [token for text in texts for token in tokens[text]]
        times = Counter(tokens.values())
        alike = [text for text in tokens if times[tokens[text]] > 1]
        (unknown,) = found(sights, "unknown tokens")
        assert unknown.rows == sum(1 in tokens[text] for text in texts)
        assert f"{every.count(1) / len(every):.2%}" in unknown.said
        (equal,) = found(sights, "equal tokens")
        assert equal.rows == len(alike)
        assert f"{sum(1 in tokens[text] for text in alike)} of them" in equal.said


# ---- length


def test_how_labels_go_with_length_is_scipys_kruskal() -> None:
    generator = np.random.default_rng(3)
    for sorts in (2, 5):
        strata = generator.integers(0, sorts, 300)
        lengths = generator.integers(3, 40, 300) + 3 * strata
        test = scipy.stats.kruskal(*(lengths[strata == one] for one in range(sorts)))
        assert explained(lengths, strata) == pytest.approx((test.statistic - sorts + 1) / (300 - sorts), abs=1e-9)
        assert by_chance(lengths, strata) == pytest.approx(test.pvalue, rel=1e-6)
    assert explained(np.full(10, 5), np.arange(10) % 2) <= 0


def test_labels_that_go_with_length_are_seen_and_others_are_not() -> None:
    generator = Random(0)
    rows = drawn(generator, 60)
    assert not found(looks(train=[look("train", rows)]), "labels that go with length")
    longer = [(text + " a b c d e f" * (label == "good"), label) for text, label in rows]
    (sight,) = found(looks(train=[look("train", longer)]), "labels that go with length")
    means = [np.mean([len(text.split()) + 2 for text, one in longer if one == label]) for label in ("bad", "good")]
    assert f"mean tokens: bad {means[0]:.0f}, good {means[1]:.0f}" in sight.said
    assert [example.split("]")[0].split("[")[1] for example in sight.examples] == ["bad", "good"]


def test_truncation_is_counted_by_label() -> None:
    rows = [("a b c d e f g h i", "good")] * 3 + [("a b", "good"), ("a b c", "bad")]
    (sight,) = found(looks(train=[look("train", rows, max_length=8)]), "truncation")
    assert sight.said == "3 of 5 rows are cut to 8 tokens (the longest has 11); by label: good 3 of 4, bad 0 of 1"
    assert len(sight.examples) == SHOWN


# ---- near texts


def jaccard(one: str, other: str) -> float:
    """Of the pairs of neighbouring tokens, which are letters here."""
    mine, theirs = (set(map(" ".join, pairwise(words))) or {" ".join(words)} for words in (one.split(), other.split()))
    return len(mine & theirs) / len(mine | theirs)


def test_what_two_texts_share_is_their_jaccard_by_hand(block: int) -> None:
    generator = Random(block)
    one, other = ([text for text, _ in drawn(generator, 300)] for _ in range(2))
    other[:50] = one[:50]
    _, mine = all_sets([TOKENIZER.encode(one)], np.arange(300))
    _, theirs = all_sets([TOKENIZER.encode(other)], np.arange(300))
    by_hand = [jaccard(a, b) for a, b in zip(one, other, strict=True)]
    assert shared(mine, theirs).tolist() == pytest.approx(by_hand)


def test_a_pair_shares_what_both_of_its_texts_share() -> None:
    texts = [["a b c", "a b c"], ["x y", "x y z"]]
    _, sets = all_sets([TOKENIZER.encode(column) for column in texts], np.arange(2))
    assert shared(sets.take(np.array([0, 0])), sets.take(np.array([0, 1]))).tolist() == [1.0, pytest.approx(3 / 4)]
    _, turned = all_sets([TOKENIZER.encode(column) for column in texts[::-1]], np.arange(2))
    assert shared(sets, turned).tolist() == [0.0, 0.0]  # the same words in the other column are others


def test_near_texts_are_found_and_nothing_else_is(block: int) -> None:
    if block == 1:
        pytest.skip("a text at a time is slow, and 7 cuts them as well")
    generator = Random(1)
    learned = [" ".join(generator.choices(LETTERS, k=14)) for _ in range(150)]
    asked = [text.rsplit(" ", generator.randrange(1, 4))[0] for text in learned[:120]]
    asked += [" ".join(generator.choices(LETTERS, k=14)) for _ in range(30)]
    _, sets = all_sets([TOKENIZER.encode(asked)], np.arange(150))
    hits = near.near(sets, sets_of([TOKENIZER.encode(learned)], np.arange(150)))
    best = np.array([max(jaccard(one, other) for other in learned) for one in asked])
    assert (best >= LIKE).sum() > 70
    for row in np.flatnonzero(hits.rows >= 0):
        assert hits.shares[row] == pytest.approx(jaccard(asked[row], learned[hits.rows[row]]))
        assert hits.shares[row] >= LIKE
    assert hits.all_tried
    assert (hits.rows >= 0)[best >= LIKE].mean() >= 0.97
    assert (hits.rows >= 0)[best >= 0.9].all()


def test_so_many_alike_that_not_all_are_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "TRIED", 2)
    train = [("a b c d e f g h i j", "good"), ("x", "bad")]
    dev = [(f"a b c d e f g h i j {letter}", "good") for letter in "klmnop"]
    (sight,) = found(looks(train=[look("train", train)], dev=[look("dev", dev)]), "nearly texts of train")
    assert sight.said.startswith("at least ")


def test_a_near_row_is_shown_beside_that_of_train_and_an_equal_one_is_not_near() -> None:
    train = [("x y z", "bad"), ("a b c d e f", "good"), ("q r s", "good")]
    dev = [("a b c d e f g", "bad"), ("x y z", "bad"), ("m n", "good")]
    both = looks(train=[look("train", train)], dev=[look("dev", dev)])
    (sight,) = found(both, "nearly texts of train")
    assert sight.rows == 1
    assert sight.examples == ["row 1 [bad] a b c d e f g\n  in train row 2 [good] a b c d e f"]


def test_texts_of_other_tasks_are_counted_by_task_equal_or_near() -> None:
    mood = look("train", [("a b c d e f", "good"), ("x y z", "bad")])
    pairs = [("a b c d e f", "k l m n o p q", "a"), ("r s", "t u", "b")]
    dev = [("k l m n o p", "good"), ("a b c d e f", "bad"), ("r s", "good"), ("z", "bad")]
    both = looks(train=[mood, look("train", pairs, "pairs")], dev=[look("dev", dev)])
    (equal,), (close,) = found(both, "texts of other tasks"), found(both, "nearly texts of other tasks")
    assert equal.said == "2 rows of 4 with a text that task 'pairs' is trained on"
    assert close.said == "1 row of 4 with a text of which 80% or more is in one that task 'pairs' is trained on"
    assert close.examples == ["row 1 [good] k l m n o p"]


def test_tasks_that_learn_from_the_same_texts_are_no_leak() -> None:
    rows, dev = [("a b c d e f", "good"), ("x y z", "bad")], [("a b c d e f g", "good")]
    both = looks(
        train=[look("train", rows), look("train", rows, "other")], dev=[look("dev", dev), look("dev", dev, "other")]
    )
    assert len(found(both, "nearly texts of train")) == 2
    assert not [sight for sight in seen(both) if "other tasks" in sight.what]


def test_a_sample_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "LEARNED", 5)
    generator = Random(2)
    both = looks(train=[look("train", drawn(generator, 20))], dev=[look("dev", drawn(generator, 4))])
    (note,) = found(both, "near texts in a sample")
    assert not note.problem
    assert "100.0% of 4 rows, beside 25.0% of the 20 rows of train" in note.said


# ---- every kind


LABELS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "classification": ({}, ["good", "bad", "bad", "bad"]),
    "regression": ({}, [0.5, 1.0, 2.0, 4.5]),
    "ordinal": ({}, [1, 2, 3, 2]),
    "multilabel": ({}, ["fun|short", "", "fun", "short"]),
    "tokens": ({"text": "text0"}, [["O", "O"], ["B-X", "I-X"], ["O", "B-X"], ["O", "O"]]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_every_kind_is_looked_at(kind: str) -> None:
    keys, labels = LABELS[kind]
    texts: list[Any] = ["a b", "c d", "a b", "e f"]
    if kind == "tokens":
        texts = [text.split() for text in texts]
    one = look("train", list(zip(texts, labels, strict=True)), "one", kind=kind, **keys)
    sights = seen(looks(train=[one], dev=[one]))
    assert {"repeated texts", "labels that disagree"} <= {sight.what for sight in sights}
    assert all(sight.remedy and len(sight.examples) <= SHOWN for sight in sights)


def test_kinds_of_the_table_are_all_looked_at_here() -> None:
    assert set(LABELS) == set(KINDS)
