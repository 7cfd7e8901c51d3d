"""Padding, truncation, pairs, and streams that can be taken up where they were left."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizerFast

from mtbert.data.batches import IDLE, IDLE_SHARE, LARGE, Batch, Examples, Stream
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.tables import read_rows
from mtbert.data.tokenizer import Tokenizer
from tests.support.bert_tokenizer import bert_tokenizer

# padding is not 0 here, so that padding by accident shows
VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", *"abcdefgh", "##a", "##b"]
PAD = VOCABULARY.index("[PAD]")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pieces(VOCABULARY)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    return bert_tokenizer(VOCABULARY, tmp_path_factory.mktemp("theirs"))


def task(text: list[str], **settings: Any) -> Task:
    return KINDS["classification"](name="mood", text=text, label="label", classes=3, **settings)


def pair(**settings: Any) -> Task:
    return task(["a", "b"], **settings)


def single(**settings: Any) -> Task:
    return task(["a"], **settings)


def random_texts(count: int, longest: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice([*"abcdefgh", "ab"], generator.integers(1, longest + 1))) for _ in range(count)]


def made(of: Task, texts: list[list[str]], tokenizer: Tokenizer, positions: int = 512) -> Examples:
    return Examples.from_texts(of, texts, tokenizer, positions)


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Google's BERT, token by token: the longer text loses its last, the second one where they are equal."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def by_hand(of: Task, texts: list[list[str]], tokenizer: Tokenizer, limit: int) -> list[tuple[list[int], list[int]]]:
    """Tokens and segments of every sequence, one example after the other."""
    first, separator = tokenizer.first, tokenizer.separator
    ids = [[tokenizer.encode([text]).flat.tolist() for text in column] for column in texts]
    if of.sequences == 2 or len(ids) == 1:
        sequences = [[first, *one[: limit - 2], separator] for column in ids for one in column]
        return [(tokens, [0] * len(tokens)) for tokens in sequences]
    built = []
    for a, b in zip(*ids, strict=True):
        keep_a, keep_b = longest_first(len(a), len(b), limit - 3)
        left, right = [first, *a[:keep_a], separator], [*b[:keep_b], separator]
        built.append((left + right, [0] * len(left) + [int(of.segments == "pair")] * len(right)))
    return built


def unpadded(batch: Batch) -> list[tuple[list[int], list[int]]]:
    return [
        (tokens[mask].tolist(), segments[mask].tolist())
        for tokens, segments, mask in zip(batch.tokens, batch.segments, batch.mask, strict=True)
    ]


TASKS = {
    "single": single(max_length=12),
    "joint pair": pair(max_length=12),
    "joint pair, segments all zero": pair(max_length=12, segments="zeros"),
    "separate pair": pair(max_length=12, pairs="separate"),
}


# ---- what a batch holds


@pytest.mark.parametrize("of", TASKS.values(), ids=list(TASKS))
def test_a_batch_holds_the_sequences_built_by_hand(of: Task, tokenizer: Tokenizer) -> None:
    columns = [random_texts(30, 14, seed) for seed in range(len(of.text))]
    examples = made(of, columns, tokenizer)
    chosen = [7, 3, 3, 29, 0]
    batch = examples.batch(chosen)
    assert unpadded(batch) == by_hand(of, [[column[i] for i in chosen] for column in columns], tokenizer, 12)
    assert batch.rows.tolist() == chosen
    assert batch.sequences == of.sequences
    assert len(batch) == 5
    assert batch.task == "mood"


@pytest.mark.parametrize("of", TASKS.values(), ids=list(TASKS))
def test_padding_stands_right_and_only_where_the_mask_says(of: Task, tokenizer: Tokenizer) -> None:
    columns = [random_texts(30, 14, seed) for seed in range(len(of.text))]
    batch = made(of, columns, tokenizer).batch(range(30))
    assert batch.tokens.shape == batch.segments.shape == batch.mask.shape
    assert batch.tokens.dtype == batch.segments.dtype == torch.int64
    assert batch.mask.dtype == torch.bool
    assert (batch.tokens[~batch.mask] == PAD).all()
    assert (batch.tokens[batch.mask] != PAD).all()
    assert (batch.segments[~batch.mask] == 0).all()
    assert (batch.mask.int().diff(dim=1) <= 0).all()  # once it is padding, it stays padding
    assert batch.mask.any(dim=0).all()  # no column of padding alone


@pytest.mark.parametrize("of", [single(), pair()], ids=["single", "joint pair"])
def test_padded_batches_are_those_of_transformers(of: Task, tokenizer: Tokenizer, theirs: BertTokenizerFast) -> None:
    columns = [random_texts(20, 9, seed) for seed in range(len(of.text))]
    expected = theirs(*columns, padding="longest", return_tensors="pt")
    batch = made(of, columns, tokenizer).batch(range(20))
    assert torch.equal(batch.tokens, expected["input_ids"])
    assert torch.equal(batch.segments, expected["token_type_ids"])
    assert torch.equal(batch.mask.long(), expected["attention_mask"])


def test_a_separate_pair_is_first_texts_then_second_texts(tokenizer: Tokenizer) -> None:
    batch = made(pair(pairs="separate"), [["a", "b b b"], ["c c", "d"]], tokenizer).batch([0, 1])
    words = [[VOCABULARY[token] for token in row] for row in batch.tokens.tolist()]
    assert words == [
        ["[CLS]", "a", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "b", "b", "b", "[SEP]"],
        ["[CLS]", "c", "c", "[SEP]", "[PAD]"],
        ["[CLS]", "d", "[SEP]", "[PAD]", "[PAD]"],
    ]
    assert not batch.segments.any()


@pytest.mark.parametrize(("segments", "expected"), [("pair", [0, 0, 0, 1, 1, 1]), ("zeros", [0] * 6)])
def test_the_second_text_is_segment_1_unless_told_otherwise(
    segments: str, expected: list[int], tokenizer: Tokenizer
) -> None:
    batch = made(pair(segments=segments), [["a"], ["c d"]], tokenizer).batch([0])
    assert batch.segments.tolist() == [expected]


@pytest.mark.parametrize("of", TASKS.values(), ids=list(TASKS))
def test_empty_texts_are_marks_alone(of: Task, tokenizer: Tokenizer) -> None:
    columns = [["", "a"]] * len(of.text)
    batch = made(of, columns, tokenizer).batch([0, 1])
    assert unpadded(batch) == by_hand(of, columns, tokenizer, 12)


def test_targets_follow_the_rows(tokenizer: Tokenizer) -> None:
    labels = np.array([0.0, 1, 2, 1])
    examples = Examples(single(), [tokenizer.encode([*"abcd"])], tokenizer, 512, labels)
    targets = examples.batch([2, 0, 3]).targets
    assert targets is not None
    assert targets.tolist() == [2, 0, 1]
    assert made(single(), [["a"]], tokenizer).batch([0]).targets is None


def test_examples_from_a_table_are_those_of_its_texts(small_data: Any, tokenizer: Tokenizer) -> None:
    of = KINDS["classification"](name="same", text=["first", "second"], label="same", classes=2)
    rows = read_rows(of, small_data / "same-train.csv")
    examples = Examples.from_rows(of, rows, tokenizer, 512)
    texts = [column.to_pylist() for column in rows.texts]
    batch = examples.batch([5, 0, 39])
    assert unpadded(batch) == unpadded(made(of, texts, tokenizer).batch([5, 0, 39]))
    assert batch.targets is not None
    assert batch.targets.tolist() == [1, 0, 1]


def test_moving_a_batch_keeps_what_it_holds(tokenizer: Tokenizer) -> None:
    batch = Examples(single(), [tokenizer.encode(["a", "b c"])], tokenizer, 512, np.array([0.0, 1])).batch([1, 0])
    moved = batch.to(torch.device("meta"))
    assert [t.device.type for t in (moved.tokens, moved.segments, moved.mask, moved.targets) if t is not None] == [
        "meta"
    ] * 4
    assert moved.tokens.shape == batch.tokens.shape
    assert moved.rows.tolist() == [1, 0]


# ---- truncation


@pytest.mark.parametrize("limit", [8, 9, 10, 11])
def test_the_longer_text_of_a_pair_loses_its_tokens_first(limit: int, tokenizer: Tokenizer) -> None:
    lengths = list(itertools.product(range(13), range(13)))
    columns = [["a " * first for first, _ in lengths], ["b " * second for _, second in lengths]]
    batch = made(pair(max_length=limit), columns, tokenizer).batch(range(len(lengths)))
    kept = [
        tuple(int((row == VOCABULARY.index(letter)).sum()) for letter in "ab") for row in batch.tokens[:, : limit + 1]
    ]
    assert kept == [longest_first(first, second, limit - 3) for first, second in lengths]
    assert batch.tokens.shape[1] == limit


@pytest.mark.parametrize("limit", [8, 9, 10, 11])
def test_truncation_is_that_of_transformers(limit: int, tokenizer: Tokenizer, theirs: BertTokenizerFast) -> None:
    columns = [random_texts(80, 12, seed) for seed in (1, 2)]
    batch = made(pair(max_length=limit), columns, tokenizer).batch(range(80))
    for (tokens, segments), first, second in zip(unpadded(batch), *columns, strict=True):
        expected = theirs(first, second, truncation="longest_first", max_length=limit)
        odd = (limit - 3) % 2 == 1
        if odd and len(tokens) == limit:
            # an odd token over: Google's BERT gives it to the first text, transformers to the longer
            assert len(expected["input_ids"]) == limit
            assert abs(sum(segments) - sum(expected["token_type_ids"])) <= 1
        else:
            assert tokens == expected["input_ids"]
            assert segments == expected["token_type_ids"]


@pytest.mark.parametrize("of", [single(max_length=8), pair(max_length=8, pairs="separate")], ids=["single", "separate"])
def test_texts_alone_keep_what_fits_beside_two_marks(of: Task, tokenizer: Tokenizer, theirs: BertTokenizerFast) -> None:
    columns = [random_texts(20, 12, seed) for seed in range(len(of.text))]
    batch = made(of, columns, tokenizer).batch(range(20))
    expected = theirs([text for column in columns for text in column], truncation=True, max_length=8)
    assert [tokens for tokens, _ in unpadded(batch)] == expected["input_ids"]


@pytest.mark.parametrize(("max_length", "positions", "expected"), [(512, 16, 16), (10, 16, 10), (16, 16, 16)])
def test_neither_the_task_nor_the_encoder_is_given_more_than_it_takes(
    max_length: int, positions: int, expected: int, tokenizer: Tokenizer
) -> None:
    examples = made(single(max_length=max_length), [["a " * 100_000]], tokenizer, positions)
    assert examples.batch([0]).tokens.shape == (1, expected)
    assert examples.max_length == expected


@pytest.mark.parametrize("of", TASKS.values(), ids=list(TASKS))
def test_lengths_are_those_of_the_batches_and_full_lengths_those_before_truncation(
    of: Task, tokenizer: Tokenizer
) -> None:
    columns = [random_texts(30, 14, seed) for seed in range(len(of.text))]
    examples = made(of, columns, tokenizer)
    assert examples.lengths.tolist() == [examples.batch([i]).tokens.shape[1] for i in range(30)]
    untruncated = made(of.model_copy(update={"max_length": 512}), columns, tokenizer)
    assert examples.full_lengths.tolist() == untruncated.lengths.tolist()
    assert examples.full_lengths.max() > 12


# ---- the order of evaluation


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_evaluation_sees_every_example_once_longest_first(batch_size: int, tokenizer: Tokenizer) -> None:
    examples = made(single(), [random_texts(30, 14, 0)], tokenizer)
    batches = list(examples.in_order_of_length(batch_size))
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows) == list(range(30))
    assert (np.diff(examples.lengths[rows]) <= 0).all()
    assert max(map(len, batches)) <= batch_size


@pytest.mark.parametrize("seed", range(20))
def test_one_long_text_does_not_make_padding_of_all_others(seed: int, tokenizer: Tokenizer) -> None:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, 60, size=100)
    lengths[chance.integers(0, 100, size=3)] = chance.integers(200, 510, size=3)
    examples = made(single(), [["a " * int(length) for length in lengths]], tokenizer)
    batches = list(examples.in_order_of_length(64))
    for batch in batches:
        padding = int((~batch.mask).sum())
        assert padding <= max(IDLE, batch.mask.numel() / IDLE_SHARE)
    for batch, following in itertools.pairwise(batches):  # and none is smaller than it has to be
        longest = batch.tokens.shape[1]
        tokens = int(batch.mask.sum()) + following.tokens.shape[1]
        whole = longest * (len(batch) + 1)
        assert len(batch) == 64 or whole > LARGE or whole - tokens > max(IDLE, tokens // IDLE_SHARE)


def test_a_batch_of_long_texts_is_no_larger_than_memory_likes(tokenizer: Tokenizer) -> None:
    examples = made(single(), [["a " * 500] * 70], tokenizer)
    batches = list(examples.in_order_of_length(64))
    assert sum(map(len, batches)) == 70
    assert max(batch.tokens.numel() for batch in batches) <= LARGE
    assert max(batch.tokens.numel() for batch in examples.in_order_of_length(64, tokens=1024)) <= 1024
    assert len(list(made(single(), [[]], tokenizer).in_order_of_length(64))) == 0


# ---- streams


# ---- both orders of a symmetric pair


@pytest.mark.parametrize("pairs", ["joint", "separate"])
@pytest.mark.parametrize("limit", [9, 512])
def test_the_other_order_holds_what_swapped_texts_would_have_given(
    pairs: str, limit: int, tokenizer: Tokenizer
) -> None:
    of = pair(pairs=pairs, symmetric=True, max_length=limit)
    texts = [random_texts(12, 9, seed) for seed in (0, 1)]
    this, other = made(of, texts, tokenizer).orders
    for mine, by_hand in ((this, made(of, texts, tokenizer)), (other, made(of, texts[::-1], tokenizer))):
        given, expected = mine.batch(range(12)), by_hand.batch(range(12))
        assert torch.equal(given.tokens, expected.tokens)
        assert torch.equal(given.segments, expected.segments)
        assert torch.equal(given.mask, expected.mask)


def test_a_pair_that_is_not_symmetric_has_one_order(tokenizer: Tokenizer) -> None:
    texts = [random_texts(12, 9, seed) for seed in (0, 1)]
    assert len(made(pair(), texts, tokenizer).orders) == 1


def stream(tokenizer: Tokenizer, count: int = 45, batch_size: int = 4, seed: tuple[int, ...] = (7, 0)) -> Stream:
    return Stream(made(single(), [random_texts(count, 20, 0)], tokenizer), batch_size, seed)


def drawn(of: Stream, batches: int) -> list[list[int]]:
    return [of.draw().rows.tolist() for _ in range(batches)]


@pytest.mark.parametrize(("count", "batch_size"), [(45, 4), (44, 4), (3, 8), (1, 1), (230, 2)])
def test_every_pass_shows_every_row_once(count: int, batch_size: int, tokenizer: Tokenizer) -> None:
    batches = stream(tokenizer, count, batch_size)
    assert batches.batches_per_pass == len(range(0, count, batch_size))
    for _ in range(3):
        rows = list(itertools.chain(*drawn(batches, batches.batches_per_pass)))
        assert sorted(rows) == list(range(count))


def test_every_pass_is_another_shuffle(tokenizer: Tokenizer) -> None:
    batches = stream(tokenizer)
    first, second = drawn(batches, batches.batches_per_pass), drawn(batches, batches.batches_per_pass)
    assert sorted(map(sorted, first)) != sorted(map(sorted, second))


@pytest.mark.parametrize("position", [0, 1, 5, 11, 12, 13, 24, 40])
def test_a_stream_goes_on_from_its_position_exactly(position: int, tokenizer: Tokenizer) -> None:
    whole = drawn(stream(tokenizer), 60)
    resumed = stream(tokenizer)
    resumed.position = position
    assert drawn(resumed, 60 - position) == whole[position:]
    assert resumed.position == 60


def test_a_stream_can_be_put_back(tokenizer: Tokenizer) -> None:
    batches = stream(tokenizer)
    first = drawn(batches, 20)
    batches.position = 3
    assert drawn(batches, 17) == first[3:]


def limited(tokenizer: Tokenizer, limit: int, seed: tuple[int, ...] = (7, 0)) -> Stream:
    return Stream(made(single(), [random_texts(45, 20, 0)], tokenizer), 4, seed, limit)


def rows_of_a_pass(of: Stream) -> list[int]:
    return list(itertools.chain(*drawn(of, of.batches_per_pass)))


def test_a_limited_stream_shows_the_same_examples_in_every_pass_in_another_order(tokenizer: Tokenizer) -> None:
    batches = limited(tokenizer, 17)
    assert batches.batches_per_pass == 5
    first, second = rows_of_a_pass(batches), rows_of_a_pass(batches)
    assert len(set(first)) == len(first) == 17
    assert set(second) == set(first) <= set(range(45))
    assert second != first


def test_the_seed_chooses_what_a_limited_stream_shows(tokenizer: Tokenizer) -> None:
    chosen = [set(rows_of_a_pass(limited(tokenizer, 17, seed))) for seed in ((7, 0), (7, 0), (8, 0), (7, 1))]
    assert chosen[0] == chosen[1]
    assert len({frozenset(rows) for rows in chosen}) == 3


def test_a_limit_that_is_no_limit_changes_nothing(tokenizer: Tokenizer) -> None:
    assert drawn(limited(tokenizer, 45), 30) == drawn(stream(tokenizer), 30)


def test_streams_depend_on_all_of_their_seed(tokenizer: Tokenizer) -> None:
    orders = [drawn(stream(tokenizer, seed=seed), 12) for seed in ((7, 0), (7, 0), (8, 0), (7, 1))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
    assert orders[2] != orders[3]


def test_a_stream_leaves_the_global_generators_alone(tokenizer: Tokenizer) -> None:
    expected = drawn(stream(tokenizer), 12)
    batches = stream(tokenizer)
    np.random.seed(3)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert drawn(batches, 12) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.random() == np.random.RandomState(3).random()


def test_buckets_waste_less_padding_than_random_batches(tokenizer: Tokenizer) -> None:
    batches = stream(tokenizer, count=800, batch_size=16)
    generator = np.random.default_rng(0)
    shuffled = generator.permutation(800).reshape(50, 16)

    def waste(masks: list[torch.Tensor]) -> float:
        return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)

    bucketed = waste([batches.draw().mask for _ in range(50)])
    random = waste([batches.examples.batch(rows).mask for rows in shuffled])
    assert random > 0.3
    assert bucketed < 0.05


def test_batches_of_a_pass_are_not_in_order_of_length(tokenizer: Tokenizer) -> None:
    batches = stream(tokenizer, count=400, batch_size=4)
    widths = [batches.draw().tokens.shape[1] for _ in range(100)]
    assert abs(np.corrcoef(widths, range(100))[0, 1]) < 0.3
