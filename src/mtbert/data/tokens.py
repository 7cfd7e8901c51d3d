"""The tokens of many texts, end to end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


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

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """Some of the texts, in the order in which they are named.

        >>> Tokens(flat=np.array([7, 8, 9], np.int32), starts=np.array([0, 2, 2, 3])).take(np.array([2, 0])).flat
        array([9, 7, 8], dtype=int32)
        """
        lengths = self.lengths[rows]
        return Tokens(self.flat[_stretches(self.starts[rows], lengths)], starts_of([lengths]))

    def followed_by(self, other: Tokens) -> Tokens:
        """These texts and then those of another."""
        return Tokens(np.concatenate([self.flat, other.flat]), starts_of([self.lengths, other.lengths]))

    @classmethod
    def joined(cls, parts: Iterable[tuple[NDArray[np.int32], NDArray[np.int64]]]) -> Self:
        """Tokens that come in parts: those of some texts end to end, and how many each of these texts has."""
        flat, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for ids, counts in parts:
            flat.append(ids)
            lengths.append(counts)
        return cls(np.concatenate(flat), starts_of(lengths))


@dataclass(frozen=True)
class WordTokens(Tokens):
    """The same of texts that are lists of words: where among the tokens each word starts, and which words a text has.

    >>> flat, starts = np.array([7, 8, 9], np.int32), np.array([0, 2, 3])
    >>> words = WordTokens.of_texts(Tokens(flat, starts), np.array([2]))
    >>> len(words), words.starts.tolist(), words.words.tolist(), words.texts.tolist()
    (1, [0, 3], [0, 2], [0, 2])
    """

    words: NDArray[np.int64]  # (M,) where each word starts
    texts: NDArray[np.int64]  # (N + 1,) the first word of each text, and the end of the last one's

    @classmethod
    def of_texts(cls, words: Tokens, lengths: NDArray[np.int64]) -> Self:
        """From the tokens of all words, none of them without one, and how many words each of N texts has."""
        texts = starts_of([lengths])
        return cls(words.flat, words.starts[texts], words.starts[:-1], texts)

    def take(self, rows: NDArray[np.int64]) -> WordTokens:
        """Some of the texts, in the order in which they are named."""
        taken, counts = super().take(rows), np.diff(self.texts)[rows]
        words = self.words[_stretches(self.texts[rows], counts)] + np.repeat(
            taken.starts[:-1] - self.starts[rows], counts
        )
        return WordTokens(taken.flat, taken.starts, words, starts_of([counts]))

    def followed_by(self, other: Tokens) -> WordTokens:
        """These texts and then those of another, whose words are known too."""
        assert isinstance(other, WordTokens)
        both = super().followed_by(other)
        words = np.concatenate([self.words, other.words + len(self.flat)])
        return WordTokens(both.flat, both.starts, words, starts_of([np.diff(self.texts), np.diff(other.texts)]))


def starts_of(lengths: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where each text starts, and where the last one ends: (N + 1,)."""
    starts: NDArray[np.int64] = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return starts


def _stretches(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from each start on, as many as each length says, end to end."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return within + np.repeat(starts, lengths)
