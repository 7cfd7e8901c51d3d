"""WordPiece tokenisation by the `tokenizers` library, and a cache of its results on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray

from mtbert.errors import Mistake

CHUNK = 10_000  # texts tokenised at a time: few enough for memory, enough to keep every core busy


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts end to end, without [CLS] and [SEP], and where in them each text starts.

    >>> tokens = Tokens(flat=np.array([7, 8, 9], np.int32), starts=np.array([0, 2, 2, 3]))
    >>> len(tokens), tokens.lengths.tolist()
    (3, [2, 0, 1])
    """

    flat: NDArray[np.int32]
    starts: NDArray[np.int64]  # (N + 1,), the last of which is the end of the last text

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of tokens of each text: (N,)."""
        return np.diff(self.starts)


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
        """Tokenise N texts, CHUNK of them at a time."""
        flat, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for ids, counts in self._encoded(texts):
            flat.append(ids)
            lengths.append(counts)
        return Tokens(np.concatenate(flat), _starts(lengths))

    def encode_once(self, column: pa.ChunkedArray) -> Tokens:
        """Tokenise a column of texts, or map its tokens from the cache if the same texts were tokenised before."""
        folder = cache_folder() / "tokens" / self._fingerprint(column)
        if not folder.exists():
            texts = (text for start in range(0, len(column), CHUNK) for text in column.slice(start, CHUNK).to_pylist())
            _write(self._encoded(texts), folder)
        return Tokens(np.load(folder / "flat.npy", mmap_mode="r"), np.load(folder / "starts.npy"))

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


def cache_folder() -> Path:
    """The folder of files that can be computed again: $MTBERT_CACHE, or mtbert under the user's cache folder."""
    chosen = os.environ.get("MTBERT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen else (Path(base) if base else Path.home() / ".cache") / "mtbert"


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _lengths_and_contents(texts: pa.Array) -> tuple[NDArray[np.int64], memoryview]:
    """The number of bytes of each text, and the bytes of all texts end to end."""
    large = texts.cast(pa.large_string())
    _, offsets, contents = large.buffers()
    if not len(large):
        return np.empty(0, np.int64), memoryview(b"")
    starts = np.frombuffer(offsets, np.int64)[large.offset : large.offset + len(large) + 1]
    return np.diff(starts), memoryview(contents)[starts[0] : starts[-1]]


def _write(encoded: Iterable[tuple[NDArray[np.int32], NDArray[np.int64]]], folder: Path) -> None:
    """Write tokens as they are made; the folder appears under its name only once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        lengths = [np.empty(0, np.int64)]
        with (unfinished / "flat.npy").open("wb") as file:
            _write_header(file, 0)
            for ids, counts in encoded:
                file.write(ids.data)
                lengths.append(counts)
            file.seek(0)
            _write_header(file, sum(int(counts.sum()) for counts in lengths))
        np.save(unfinished / "starts.npy", _starts(lengths))
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    try:
        unfinished.rename(folder)
    except OSError:  # another run has written the same tokens in the meantime
        shutil.rmtree(unfinished)
        if not folder.exists():
            raise


def _write_header(file: BinaryIO, count: int) -> None:
    """Write the header of a NumPy file of `count` tokens; numpy reserves room, so it can be rewritten with another."""
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, description)


def _starts(lengths: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where each text starts, and where the last one ends: (N + 1,)."""
    starts: NDArray[np.int64] = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return starts


def _lowercase(folder: Path) -> bool:
    """What tokenizer_config.json says of lowercasing; true, as for the first BERT models, if it says nothing."""
    settings = folder / "tokenizer_config.json"
    return bool(json.loads(settings.read_text()).get("do_lower_case", True)) if settings.exists() else True
