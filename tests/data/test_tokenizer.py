"""WordPiece, and the cache of what it made."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from mtbert.data import tokenizer as module
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.errors import Mistake
from tests.support.bert_tokenizer import bert_tokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY += ["film", "good", "un", "##aff", "##able", "##s", "a", "##a", "b", "##b", "Film", "é", "e", "naive", "."]
VOCABULARY += [",", "'", "!", "?", "-", "東", "京", "##京", "שלום", "🙂", "1", "##1", "##2", "c", "d", "##d"]

TEXTS = [
    "good film",
    "Good Film!",
    "unaffable films, isn't it?",
    "naïve é É",
    "東京",
    "שלום  a\tb\nc\rd",
    "🙂🙂 ok",
    "a\0b \ufffd c\u200bd",
    "abab1212 -- a-b. a$b<c",
    "",
    "   ",
    "a" * 100,
    "a" * 101,  # longer than a word may be
    "zzz good",
    "[SEP] good [MASK]",
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_pieces(VOCABULARY)


def each(tokens: Tokens) -> list[list[int]]:
    return [tokens.flat[a:b].tolist() for a, b in zip(tokens.starts[:-1], tokens.starts[1:], strict=True)]


def wordpiece(text: str, vocabulary: list[str]) -> list[int]:
    """Devlin et al. (2019), by the book: greedy, longest piece first."""
    kept = (sign for sign in text if sign in "\t\n\r" or unicodedata.category(sign)[0] != "C")
    clean = "".join(f" {sign} " if "\u4e00" <= sign <= "\u9fff" else sign for sign in kept if sign != "\ufffd")
    bare = "".join(s for s in unicodedata.normalize("NFD", clean.lower()) if unicodedata.category(s) != "Mn")
    apart = "".join(f" {s} " if s in string.punctuation or unicodedata.category(s)[0] == "P" else s for s in bare)

    ids: list[int] = []
    for word in apart.split():
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
            end = next(ends, None)
            if end is None:
                break
            pieces.append(vocabulary.index(prefix + word[start:end]))
            start = end
        whole = start == len(word) and len(word) <= 100
        ids += pieces if whole else [vocabulary.index("[UNK]")]
    return ids


# ---- the tokens


@pytest.mark.parametrize("text", TEXTS, ids=[text[:12] for text in TEXTS])
def test_tokens_are_those_of_transformers(text: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = bert_tokenizer(VOCABULARY, tmp_path)
    assert tokenizer.encode([text]).flat.tolist() == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS[:-1], ids=[text[:12] for text in TEXTS[:-1]])
def test_tokens_are_those_of_wordpiece_by_the_book(text: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([text]).flat.tolist() == wordpiece(text, VOCABULARY)


def test_flat_tokens_and_starts_hold_every_text_in_order(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(TEXTS)
    alone = [tokenizer.encode([text]).flat.tolist() for text in TEXTS]
    assert each(tokens) == alone
    assert tokens.lengths.tolist() == [len(ids) for ids in alone]
    assert len(tokens) == len(TEXTS)
    assert tokens.flat.dtype == np.int32


def test_no_texts_are_no_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode([])
    assert len(tokens) == 0
    assert tokens.flat.size == 0


@pytest.mark.parametrize("size", [1, 2, 15, 16])
def test_tokens_do_not_depend_on_the_chunk(size: int, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenizer.encode(TEXTS)
    for limit in ("LETTERS", "CHUNK"):
        monkeypatch.setattr(module, limit, size)
        again = tokenizer.encode(iter(TEXTS))
        assert each(again) == each(whole)


def test_few_long_texts_are_tokenised_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LETTERS", 20)
    assert [len(chunk) for chunk in module._chunks(["a" * 10] * 5 + ["b"] * 30)] == [2, 2, 11, 20]


def test_texts_of_100_000_characters_are_tokenised_whole(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["good film " * 10_000, "a", "🙂 " * 50_000])
    assert tokens.lengths.tolist() == [20_000, 1, 50_000]
    assert set(tokens.flat[:20_000].tolist()) == {VOCABULARY.index("good"), VOCABULARY.index("film")}


def test_case_is_kept_where_asked(tokenizer: Tokenizer) -> None:
    cased = Tokenizer.from_pieces(VOCABULARY, lowercase=False)
    assert cased.encode(["Film film é"]).flat.tolist() == [VOCABULARY.index(piece) for piece in ("Film", "film", "é")]
    assert tokenizer.encode(["Film film é"]).flat.tolist() == [
        VOCABULARY.index(piece) for piece in ("film", "film", "e")
    ]
    assert tokenizer.lowercase
    assert not Tokenizer.from_pieces([*VOCABULARY, "A"], lowercase=False).lowercase


def test_pieces_are_in_the_order_of_their_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces() == VOCABULARY
    assert len(tokenizer) == len(VOCABULARY)
    assert [tokenizer.first, tokenizer.separator, tokenizer.padding] == [2, 3, 0]


def test_decoded_tokens_read_as_the_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(["good unaffables film"]).flat) == "good unaffables film"


# ---- from a folder


def test_a_vocabulary_file_is_read_in_the_order_of_its_lines(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(VOCABULARY).encode() + b"\r\n")
    assert Tokenizer.from_folder(tmp_path).pieces() == VOCABULARY
    assert each(Tokenizer.from_folder(tmp_path).encode(TEXTS)) == each(tokenizer.encode(TEXTS))


def test_the_tokenizers_settings_decide_over_case(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).lowercase
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert Tokenizer.from_folder(tmp_path).encode(["Film"]).flat.tolist() == [VOCABULARY.index("Film")]


def test_truncation_and_padding_of_a_published_tokenizer_are_off(tmp_path: Path, tokenizer: Tokenizer) -> None:
    bert_tokenizer(VOCABULARY, tmp_path).save_pretrained(tmp_path)
    published = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    published.enable_truncation(4)
    published.enable_padding(length=6)
    published.save(str(tmp_path / "tokenizer.json"))
    assert each(Tokenizer.from_folder(tmp_path).encode(TEXTS)) == each(tokenizer.encode(TEXTS))


def test_what_was_saved_reads_as_the_same_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer.definition, encoding="utf-8")
    again = Tokenizer.from_folder(tmp_path)
    assert again.definition == tokenizer.definition
    assert each(again.encode(TEXTS)) == each(tokenizer.encode(TEXTS))


def test_a_folder_without_a_tokenizer_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"has neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("missing", ["[CLS]", "[SEP]", "[PAD]"])
def test_a_tokenizer_without_berts_marks_is_refused(missing: str) -> None:
    with pytest.raises(Mistake, match=rf"no \{missing}: it is not BERT's WordPiece"):
        Tokenizer.from_pieces([piece for piece in VOCABULARY if piece != missing])
