"""What a vocabulary makes of texts, against counting by hand."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pyarrow as pa
import pytest

from mtbert.data.tokenizer import Tokenizer
from mtbert.reports import vocabulary
from mtbert.reports.vocabulary import coverage

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##a", "##b"]


def counted(texts: list[str], tokenizer: Tokenizer) -> tuple[float, int, int]:
    """By a dictionary of token sequences."""
    tokens = {text: tuple(tokenizer.encode([text]).flat.tolist()) for text in texts}
    every = [token for text in texts for token in tokens[text]]
    times = Counter(tokens.values())
    alike = [text for text in tokens if times[tokens[text]] > 1]
    blurred = [text for text in alike if tokenizer.unknown in tokens[text]]
    return every.count(1) / max(len(every), 1), len(alike), len(blurred)


@pytest.mark.parametrize("block", [1, 3, 100_000])
def test_coverage_is_what_counting_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "BLOCK", block)
    tokenizer = Tokenizer.from_pieces(PIECES)
    generator = Random(block)
    for _ in range(20):
        texts = ["".join(generator.choices("abAé\u4e00 🙂", k=generator.randrange(5))) for _ in range(30)]
        column = pa.chunked_array([texts[:7], texts[7:]])
        covered = coverage([column], [tokenizer.encode(texts)], tokenizer.unknown)
        assert covered == pytest.approx(counted(texts, tokenizer))
        both = coverage([column, column], [tokenizer.encode(texts)] * 2, tokenizer.unknown)
        assert both.alike == 2 * covered.alike


def test_many_different_sequences_have_different_hashes() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(map(str, row)) for row in generator.integers(0, 2, (20_000, 20))]
    tokenizer = Tokenizer.from_pieces([*PIECES, "0", "1"])
    covered = coverage([pa.chunked_array([texts])], [tokenizer.encode(texts)], tokenizer.unknown)
    assert covered.alike == 0
