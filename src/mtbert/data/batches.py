"""Examples of one task as padded batches, and endless streams of such batches that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.labels import Labels
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens, WordTokens

LARGE = 1 << 12  # tokens of an evaluation's batch, padding included: more only takes memory
LARGE_ON_CPU = 1 << 10  # there: as fast, and what the C library keeps for batches of all shapes does not grow
IDLE = 64  # tokens of padding that cost no more than another pass of the encoder
IDLE_SHARE = 8  # of the tokens, so small a part is padding in any batch
BUCKET = 50  # batches whose examples are sorted by length together: little padding, and still a random order


@dataclass(frozen=True)
class Batch:
    """B examples of one task as S = B * sequences token sequences of length L, padded to the longest.

    Where the two texts of a pair are encoded apart, the first B sequences are the first texts and the last B are the
    second texts. A batch of a frozen encoder's outputs (model/frozen.py) has `features` in place of tokens: its
    sequences have length 0.
    """

    task: str
    tokens: Tensor  # (S, L) int64
    segments: Tensor  # (S, L) int64
    mask: Tensor  # (S, L) bool, True where a token stands
    targets: Tensor | None  # (B, ...), as the task's loss wants them
    rows: NDArray[np.int64]  # (B,) which row of the set each example is; -1 for a text that only other tasks' sets have
    sequences: int  # per example: 2 where a pair is encoded apart, else 1
    features: Tensor | None = None  # (B, F) what the head reads, where it was computed beforehand
    share: float | None = None  # of a batch that several processes compute together, this part's; None for a whole one
    whole: int | None = None  # how many examples that batch has
    # (B, W) where the first piece of each word stands, for a task that reads words: 0 for none, -1 beyond the end
    words: Tensor | None = None
    labelled: Tensor | None = None  # which of the B rows `targets` are of, where others have no label
    beside: Tensor | None = None  # (B, T, D) vectors of the example's texts, each read by itself by another encoder
    taught: Tensor | None = None  # (B, outputs) what teachers say of the examples, where some are learned from

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def own_rows(self) -> NDArray[np.int64]:
        """Which rows of the set the targets are of."""
        return self.rows[self.rows >= 0]

    @property
    def learnable(self) -> bool:
        """Whether any of its examples has a label, or teachers."""
        return self.taught is not None or len(self.own_rows) > 0

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return replace(
            self,
            tokens=self.tokens.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            targets=None if self.targets is None else self.targets.to(device, non_blocking=True),
            features=None if self.features is None else self.features.to(device, non_blocking=True),
            words=None if self.words is None else self.words.to(device, non_blocking=True),
            labelled=None if self.labelled is None else self.labelled.to(device, non_blocking=True),
            beside=None if self.beside is None else self.beside.to(device, non_blocking=True),
            taught=None if self.taught is None else self.taught.to(device, non_blocking=True),
        )


class ExampleSet(Protocol):
    """What training and evaluation need of the examples of one task and split: batches of any rows, and labels."""

    task: Task
    labels: Labels | None
    lengths: NDArray[np.int64]

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The examples in these B rows as one batch; those that are `turned` (B,) with their two texts swapped."""

    def in_order_of_length(self, batch_size: int, tokens: int = LARGE) -> Iterator[Batch]:
        """Every example once, longest first: the batches for evaluation, of at most so many texts and tokens."""

    @property
    def orders(self) -> Sequence[ExampleSet]:
        """The sets whose outputs are averaged: this one, or also a second with the texts of each pair swapped."""

    @property
    def own(self) -> ExampleSet:
        """The rows that have a label of the task, by themselves."""

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Which rows of this set those of `own` are."""

    @property
    def tokens(self) -> Sequence[Tokens]:
        """The tokens of each column of the texts, none of them cut off."""

    @property
    def vectors(self) -> Callable[..., list[Tensor]]:
        """Gives the vectors of each column of texts (N, D); none where no other encoder reads them."""


class Arrays(NamedTuple):
    """What a batch is made of."""

    tokens: Any
    segments: Any
    mask: Any


Choose = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]  # some rows -> as many for a pass

# hears, after each batch, how many texts it held
Told = Callable[[int], None]
# reads texts by themselves: (N, D)
Apart = Callable[[Tokens, Told], Tensor]


class Vectors:
    """The vectors of each column of texts (N, D), read when they are first asked for; none where nobody reads them."""

    def __init__(self, apart: Apart | None, texts: Sequence[Tokens]) -> None:
        self._apart = apart
        self._texts = texts
        self._found: list[Tensor] | None = None

    def __call__(self, told: Told = lambda done: None) -> list[Tensor]:
        if self._found is None:
            self._found = [] if self._apart is None else [self._apart(text, told) for text in self._texts]
        return self._found


class Examples:
    """The tokenised examples of one task and split, which collates any rows of them into a Batch.

    `texts` are those of the N examples, or of more rows, among which the examples are the rows `at` (N,).
    """

    def __init__(
        self,
        task: Task,
        texts: Sequence[Tokens],
        tokenizer: Tokenizer,
        positions: int,
        labels: Labels | None = None,
        apart: Apart | None = None,
        at: NDArray[np.int64] | None = None,
    ) -> None:
        self.task = task
        self.labels = labels
        self.texts = tuple(texts)
        self._at = at
        self.vectors: Callable[..., list[Tensor]] = Vectors(apart, self.tokens)  # told, as Vectors has it
        self.max_length = min(task.max_length, positions)
        self._tokenizer = tokenizer
        self._special = tokenizer.first, tokenizer.separator, tokenizer.padding

        lengths = [text.lengths if at is None else text.lengths[at] for text in texts]
        self.full_lengths = self._sequence_lengths(lengths)  # before truncation
        self._kept = self._truncated(lengths)
        self.lengths = self._sequence_lengths(self._kept)

    @classmethod
    def from_rows(
        cls, task: Task, rows: Rows, tokenizer: Tokenizer, positions: int, apart: Apart | None = None
    ) -> Self:
        """Tokenise rows, or read their tokens from the cache if the same texts were tokenised before."""
        return cls(task, tokens_of(rows, tokenizer), tokenizer, positions, rows.labels, apart)

    @classmethod
    def from_texts(
        cls,
        task: Task,
        texts: Sequence[Sequence[Any]],
        tokenizer: Tokenizer,
        positions: int,
        labels: Labels | None = None,
        apart: Apart | None = None,
    ) -> Self:
        """Tokenise columns of texts, or of lists of words for a task that reads these, without writing their tokens
        into the cache, as for a single prediction.
        """
        encode = tokenizer.encode_word_lists if task.reads_words else tokenizer.encode
        return cls(task, [encode(column) for column in texts], tokenizer, positions, labels, apart)

    def __len__(self) -> int:
        return len(self.texts[0]) if self._at is None else len(self._at)

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """The tokens of each column of the N examples' texts, none of them cut off."""
        at = self._at
        return self.texts if at is None else tuple(text.take(at) for text in self.texts)

    @property
    def at(self) -> NDArray[np.int64]:
        """Which row of `texts` each example is: (N,)."""
        return np.arange(len(self)) if self._at is None else self._at

    def batch(self, rows: Sequence[int] | NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> Batch:
        """The examples in these B rows as one batch, collated without a loop over examples.

        Those that are `turned` (B,) have their two texts swapped.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        arrays = self._collated(chosen) if turned is None else self._with_turned(chosen, turned)
        tokens, segments, mask = (torch.from_numpy(array.reshape(-1, array.shape[-1])) for array in arrays)
        picked = torch.from_numpy(chosen)
        return Batch(
            self.task.name,
            tokens,
            segments,
            mask,
            None if self.labels is None else self.task.targets(self.labels[chosen]),
            chosen,
            self.task.sequences,
            beside=self._beside(picked, turned),
            words=self._words(chosen),
        )

    def in_order_of_length(self, batch_size: int, tokens: int = LARGE) -> Iterator[Batch]:
        """Every example once, longest first: the batches for evaluation, smaller ones where they would be much padding.

        Few texts of very different lengths, as wait at a server, would otherwise all be padded to the longest.
        """
        order = np.argsort(-self.lengths, kind="stable")
        for start, end in pairwise(_cuts(self.lengths[order], batch_size, tokens)):
            yield self.batch(order[start:end])

    @property
    def orders(self) -> list[Examples]:
        """This set, and for pairs whose predictions are those of both orders also the same with the texts swapped."""
        return [self, self.swapped] if self.task.predicted_in_both_orders else [self]

    @property
    def own(self) -> Examples:
        """This set."""
        return self

    @property
    def labelled(self) -> NDArray[np.int64]:
        """All of them."""
        return np.arange(len(self))

    @cached_property
    def swapped(self) -> Examples:
        """The same pairs, the texts of each of them swapped."""
        other = Examples(self.task, self.texts[::-1], self._tokenizer, self.max_length, self.labels, at=self._at)
        other.vectors = lambda: self.vectors()[::-1]
        return other

    def read_beside(self, apart: Apart) -> Examples:
        """The same examples, whose texts are read by themselves too, by `apart`."""
        return Examples(self.task, self.texts, self._tokenizer, self.max_length, self.labels, apart, self._at)

    def _in_texts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows if self._at is None else self._at[rows]

    def _beside(self, rows: Tensor, turned: NDArray[np.bool_] | None) -> Tensor | None:
        """The vectors of the texts in these rows (B, T, D), where another encoder reads them too."""
        columns = self.vectors()
        if not columns:
            return None
        beside = torch.stack([column[rows].float() for column in columns], dim=1)  # autocast joins no float16 tensors
        return (
            beside if turned is None else torch.where(torch.from_numpy(turned)[:, None, None], beside.flip(1), beside)
        )

    def _collated(self, rows: NDArray[np.int64]) -> Arrays:
        """Tokens, segments and mask of these rows, (1, B, L) each, or (2, B, L) where texts are encoded apart."""
        pieces = [(text, kept[rows]) for text, kept in zip(self.texts, self._kept, strict=True)]
        if self.task.sequences == 1:
            return Arrays(*(part[None] for part in self._sequences(rows, pieces)))
        sides = [self._sequences(rows, [piece]) for piece in pieces]
        first, second = self._equally_long(sides)
        return Arrays(*(np.stack(both) for both in zip(first, second, strict=True)))

    def _with_turned(self, rows: NDArray[np.int64], turned: NDArray[np.bool_]) -> Arrays:
        """As `_collated`, those that are turned with their texts swapped."""
        sides = [(where, side) for where, side in ((~turned, self), (turned, self.swapped)) if where.any()]
        found = self._equally_long([side._collated(rows[where]) for where, side in sides])
        whole = Arrays(*(np.empty((part.shape[0], len(rows), part.shape[2]), part.dtype) for part in found[0]))
        for (where, _), arrays in zip(sides, found, strict=True):
            for into, part in zip(whole, arrays, strict=True):
                into[:, where] = part
        return whole

    def _equally_long(self, several: Sequence[Arrays]) -> list[Arrays]:
        """All of them padded to the longest."""
        length = max(arrays.tokens.shape[-1] for arrays in several)
        padding = self._special[2]
        return [
            Arrays(
                _widened(arrays.tokens, length, padding),
                _widened(arrays.segments, length, 0),
                _widened(arrays.mask, length, False),
            )
            for arrays in several
        ]

    def _sequences(self, rows: NDArray[np.int64], pieces: list[tuple[Tokens, NDArray[np.int64]]]) -> Arrays:
        """Tokens, segments and mask of [CLS] a [SEP] or [CLS] a [SEP] b [SEP], each (B, L)."""
        first, separator, padding = self._special
        lengths = np.sum([kept + 1 for _, kept in pieces], axis=0) + 1
        tokens = np.full((len(rows), int(lengths.max())), padding, dtype=np.int64)
        segments = np.zeros_like(tokens)
        tokens[:, 0] = first

        example = np.arange(len(rows))
        column = np.ones(len(rows), dtype=np.int64)
        for segment, (text, kept) in enumerate(pieces):
            total = int(kept.sum())
            within = np.arange(total) - np.repeat(np.cumsum(kept) - kept, kept)
            row_of = np.repeat(example, kept)
            starts = text.starts[self._in_texts(rows)]
            tokens[row_of, within + np.repeat(column, kept)] = text.flat[within + np.repeat(starts, kept)]
            tokens[example, column + kept] = separator
            if segment == 1 and self.task.segments == "pair":
                positions = np.arange(tokens.shape[1])
                segments[(positions >= column[:, None]) & (positions <= (column + kept)[:, None])] = 1
            column = column + kept + 1
        return Arrays(tokens, segments, np.arange(tokens.shape[1]) < lengths[:, None])

    def _words(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Where the first piece of each word stands in its sequence: (B, W)."""
        text, at = self.texts[0], self._in_texts(rows)
        if not isinstance(text, WordTokens):
            return None
        counts = text.texts[at + 1] - text.texts[at]
        column = np.arange(int(counts.max(initial=0)))
        there = column < counts[:, None]
        word = np.where(there, text.texts[at][:, None] + column, 0)
        place = text.words[word] - text.starts[at][:, None]
        place = np.where(place < self._kept[0][rows][:, None], place + 1, -1)  # [CLS] stands at 0
        return torch.from_numpy(np.where(there, place, 0))

    def _truncated(self, lengths: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """How many tokens of each text fit; a pair in one sequence loses tokens from its longer text first."""
        if len(lengths) == 1 or self.task.sequences == 2:
            return [np.minimum(length, self.max_length - 2) for length in lengths]
        room = self.max_length - 3
        first, second = lengths
        longer_half, shorter_half = (room + 1) // 2, room // 2
        keep_first = np.minimum(first, np.maximum(room - second, longer_half))
        keep_second = np.minimum(second, np.maximum(room - first, shorter_half))
        return [keep_first, keep_second]

    def _sequence_lengths(self, lengths: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The length of each example's sequence, special tokens included; of the longer one if it has two."""
        if self.task.sequences == 2:
            return np.maximum(*lengths) + 2
        return np.asarray(sum(lengths) + len(lengths) + 1)


class Stream:
    """An endless stream of batches of one task, shuffled anew in every pass over the examples.

    Within a pass, batches hold examples of similar length, so that little is padding. `position`, the number of batches
    drawn, is the whole state: a stream that is given the position of another with the same seed continues as that
    stream would. With a `limit` every pass is over the same `limit` examples, chosen once by the seed. With a `part` a
    pass goes through parts of so many batches, always the same examples in each, shuffled within the part. A stream
    that is `turning` swaps the two texts of an example whenever a coin says so. With `choose` a pass has the examples
    that it draws, as many as there are.

    >>> class Letters:  # a set of five examples, whose batches are plain lists
    ...     lengths = np.ones(5)
    ...     def __len__(self): return 5
    ...     def batch(self, rows): return ["abcde"[row] for row in rows]
    >>> stream = Stream(Letters(), batch_size=2, seed=[1])
    >>> one_pass = [stream.draw() for _ in range(stream.batches_per_pass)]
    >>> sorted(map(len, one_pass)), sorted(sum(one_pass, []))
    ([1, 2, 2], ['a', 'b', 'c', 'd', 'e'])
    >>> stream.position = 1  # back to where the second batch was drawn
    >>> stream.draw() == one_pass[1]
    True
    """

    def __init__(
        self,
        examples: ExampleSet,
        batch_size: int,
        seed: Sequence[int],
        limit: int | None = None,
        part: int | None = None,
        turning: bool = False,
        choose: Choose | None = None,
    ) -> None:
        self.examples = examples
        self._turning = turning
        self._choose = choose
        self.batch_size = batch_size
        self.position = 0
        self._seed = list(seed)
        self._rows = np.arange(len(examples))
        if part is not None or (limit is not None and limit < len(examples)):
            # numpy takes a seed [a] for [a, 0]: without the 1 this would be the first pass's shuffle
            self._rows = np.random.default_rng([*seed, 0, 1]).permutation(self._rows)[:limit]
        size = len(self._rows) if part is None else part * batch_size
        self._parts = [self._rows[start : start + size] for start in range(0, len(self._rows), size)]
        self._plan: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def reshuffled(self, seed: Sequence[int]) -> Self:
        """A new stream over the task's own rows, in another order and from its first batch."""
        other = copy(self)
        other.position, other._seed, other._plan = 0, list(seed), (-1, [])
        if self.examples.own is not self.examples:
            other.examples = self.examples.own
            other._parts = [np.arange(len(other.examples))]
            other._rows = other._parts[0]
        return other

    @property
    def batches_per_pass(self) -> int:
        """The number of batches in which every example comes once."""
        return -(-len(self._rows) // self.batch_size)

    def draw(self, number: int = 0, of: int = 1) -> Batch:
        """The next batch, or one of several parts of it, which weigh by their numbers of examples.

        A batch with fewer examples than parts is the same in all of them.
        """
        epoch, index = divmod(self.position, self.batches_per_pass)
        if self._plan[0] != epoch:
            generator = np.random.default_rng([*self._seed, epoch])
            self._plan = epoch, [batch for part in self._parts for batch in self._bucketed(part, generator)]
        self.position += 1
        rows = self._plan[1][index]
        part = rows[number::of] if len(rows) >= of else rows
        if not self._turning:
            batch = self.examples.batch(part)
        else:
            # numpy takes a seed [a] for [a, 0]: the 2 makes this another than that of any shuffle
            turned = np.random.default_rng([*self._seed, self.position, 2]).random(len(rows)) < 0.5
            batch = self.examples.batch(part, turned[number::of] if len(rows) >= of else turned)
        if of == 1:
            return batch
        return replace(batch, share=len(part) / len(rows) if len(rows) >= of else 1 / of, whole=len(rows))

    def _bucketed(self, rows: NDArray[np.int64], generator: np.random.Generator) -> list[NDArray[np.int64]]:
        """These rows as batches: shuffled, sorted by length within every BUCKET batches, shuffled again."""
        order = generator.permutation(rows if self._choose is None else self._choose(rows, generator))
        chunk = self.batch_size * BUCKET
        batches = []
        for start in range(0, len(order), chunk):
            near = order[start : start + chunk]
            near = near[np.argsort(self.examples.lengths[near], kind="stable")]
            batches += [near[i : i + self.batch_size] for i in range(0, len(near), self.batch_size)]
        return [batches[index] for index in generator.permutation(len(batches))]


def tokens_of(rows: Rows, tokenizer: Tokenizer) -> list[Tokens]:
    """The tokens of each column of texts, from the cache where they were tokenised before."""
    if rows.words is not None:
        return [tokenizer.encode_words(rows.words)]
    return [tokenizer.encode_once(column) for column in rows.texts]


def _cuts(lengths: NDArray[np.int64], batch_size: int, most: int) -> list[int]:
    """Where batches begin, and the last one ends, of N examples whose lengths fall: (N,)."""
    cuts, longest, tokens = [0], 0, 0
    for place, length in enumerate(lengths.tolist()):
        whole = (place - cuts[-1] + 1) * longest
        padding = whole - tokens - length
        if place - cuts[-1] == batch_size or whole > most or padding > max(IDLE, (tokens + length) // IDLE_SHARE):
            cuts.append(place)
        if place == cuts[-1]:
            longest, tokens = length, 0
        tokens += length
    return [*cuts, len(lengths)] if len(lengths) else cuts


def _widened(array: NDArray[np.generic], length: int, fill: int | bool) -> NDArray[np.generic]:
    """Pad the columns of an array: (..., L) -> (..., length)."""
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])], constant_values=fill)
