"""WordPiece tokenisation by the `tokenizers` library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
import tokenizers
from numpy.typing import NDArray

from mtbert.data.token_cache import cached
from mtbert.data.tokens import Tokens, WordTokens, starts_of
from mtbert.errors import Mistake

CHUNK = 10_000  # texts tokenised at a time: few enough for memory, enough to keep every core busy
LETTERS = 1 << 20  # from which on there are enough of them: until a chunk is done a token takes a hundred bytes


class Tokenizer:
    """Turns text into token ids. Batches truncate and pad, since they know what a task needs.

    Raises Mistake for a tokenizer without [CLS], [SEP] and [PAD].
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.definition = tokenizer.to_str(pretty=True)
        self.first = self._special("[CLS]")
        self.separator = self._special("[SEP]")
        self.padding = self._special("[PAD]")
        self.unknown = tokenizer.token_to_id("[UNK]")  # what a word becomes of which the vocabulary knows no piece

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read tokenizer.json or, without it, vocab.txt (lowercasing unless tokenizer_config.json says otherwise)."""
        definition, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
        if definition.exists():
            try:
                return cls(tokenizers.Tokenizer.from_file(str(definition)))
            except Mistake:
                raise
            except Exception as error:  # the library raises nothing narrower
                raise Mistake(f"{definition} cannot be read: {error}") from None
        if vocabulary.exists():
            return cls.from_pieces(vocabulary.read_text(encoding="utf-8").split("\n"), _lowercase(folder))
        raise Mistake(f"{folder} has neither tokenizer.json nor vocab.txt")

    @classmethod
    def from_pieces(cls, pieces: Sequence[str], lowercase: bool = True) -> Self:
        """BERT's WordPiece over a vocabulary that is given in the order of its ids."""
        vocabulary = {piece: index for index, piece in enumerate(pieces) if piece}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = tokenizers.decoders.WordPiece()
        tokenizer.add_special_tokens(
            [piece for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if piece in vocabulary]
        )
        tokenizer.post_processor = tokenizers.processors.BertProcessing(
            ("[SEP]", vocabulary.get("[SEP]", 0)), ("[CLS]", vocabulary.get("[CLS]", 0))
        )
        return cls(tokenizer)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Iterable[str]) -> Tokens:
        """Tokenise N texts, at most CHUNK of them at a time."""
        return Tokens.joined(self._encoded(texts))

    def encode_once(self, column: pa.ChunkedArray) -> Tokens:
        """Tokenise a column of texts, or map its tokens from the cache if the same texts were tokenised before."""

        def encoded() -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
            return self._encoded(
                text for start in range(0, len(column), CHUNK) for text in column.slice(start, CHUNK).to_pylist()
            )

        return cached(self._fingerprint(column), encoded)

    def encode_words(self, words: pa.ChunkedArray) -> WordTokens:
        """Tokenise a column of N lists of words, each word by itself, or map its tokens from the cache."""
        flat = pa.chunked_array([chunk.flatten() for chunk in words.chunks], words.type.value_type)
        lengths = pa.compute.list_value_length(words).to_numpy().astype(np.int64)
        return WordTokens.of_texts(self._none_empty(self.encode_once(flat)), lengths)

    def encode_word_lists(self, words: Sequence[Sequence[str]]) -> WordTokens:
        """Tokenise N lists of words, each word by itself."""
        lengths = np.array([len(text) for text in words], dtype=np.int64)
        return WordTokens.of_texts(self._none_empty(self.encode(chain.from_iterable(words))), lengths)

    @property
    def lowercase(self) -> bool:
        """Whether it treats upper and lower case alike."""
        return bool(np.array_equal(self.encode(["A"]).flat, self.encode(["a"]).flat))

    def pieces(self) -> list[str]:
        """The vocabulary in the order of its ids."""
        vocabulary = self._tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text that these tokens stand for, special tokens included."""
        return self._tokenizer.decode(ids.tolist(), skip_special_tokens=False)

    def _encoded(self, texts: Iterable[str]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """For each chunk of texts: their tokens end to end, and how many tokens each text has."""
        for chunk in _chunks(texts):
            encodings = self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            ids = [encoding.ids for encoding in encodings]
            counts = np.fromiter(map(len, ids), np.int64, len(ids))
            yield np.fromiter(chain.from_iterable(ids), np.int32, int(counts.sum())), counts

    def _none_empty(self, words: Tokens) -> Tokens:
        """The tokens of words, in which one of which nothing is left is an unknown word."""
        nothing = np.flatnonzero(words.lengths == 0)
        if not len(nothing):
            return words
        flat = np.insert(words.flat, words.starts[nothing], self.padding if self.unknown is None else self.unknown)
        return Tokens(flat, starts_of([np.maximum(words.lengths, 1)]))

    def _special(self, token: str) -> int:
        """The id of a special token; raises Mistake if the vocabulary does not have it."""
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise Mistake(f"the tokenizer has no {token}: it is not BERT's WordPiece")
        return index

    def _fingerprint(self, column: pa.ChunkedArray) -> str:
        """A hash of everything that the tokens depend on: the tokenizer, its library's version, and the texts."""
        digest = hashlib.sha256(self.definition.encode())
        digest.update(tokenizers.__version__.encode())
        # lengths and contents, which do not depend on how Arrow has cut the column into chunks, and are not copied
        for lengths, _ in map(_lengths_and_contents, column.chunks):
            digest.update(lengths.data)
        for _, contents in map(_lengths_and_contents, column.chunks):
            digest.update(contents)
        return digest.hexdigest()[:32]


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    letters = 0
    for text in texts:
        chunk.append(text)
        letters += len(text)
        if len(chunk) == CHUNK or letters >= LETTERS:
            yield chunk
            chunk, letters = [], 0
    if chunk:
        yield chunk


def _lengths_and_contents(texts: pa.Array) -> tuple[NDArray[np.int64], memoryview]:
    """The number of bytes of each text, and the bytes of all texts end to end."""
    large = texts.cast(pa.large_string())
    _, offsets, contents = large.buffers()
    if not len(large):
        return np.empty(0, np.int64), memoryview(b"")
    starts = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1]
    return np.diff(starts), memoryview(contents)[starts[0] : starts[-1]]


def _lowercase(folder: Path) -> bool:
    """What tokenizer_config.json says of lowercasing; true, as for the first BERT models, if it says nothing."""
    settings = folder / "tokenizer_config.json"
    return bool(json.loads(settings.read_text()).get("do_lower_case", True)) if settings.exists() else True
