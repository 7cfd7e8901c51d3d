"""Examples of one task as padded batches, and endless, length-bucketed, resumable streams of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.tables import Rows
from mtbert.data.tasks import Task
from mtbert.data.tokenizer import Tokenizer, Tokens

BUCKET = 50  # batches sorted by length together: padding falls to a few per cent, order stays random beyond


@dataclass(frozen=True)
class Batch:
    """B examples of one task as S = B * sequences token sequences of length L.

    Where a pair is encoded apart the first B sequences are the first texts, the last B the second ones.
    """

    task: str
    tokens: Tensor  # (S, L) int64
    segments: Tensor  # (S, L) int64
    mask: Tensor  # (S, L) bool, True where a token stands
    targets: Tensor | None  # (B,)
    rows: NDArray[np.int64]  # (B,) where in the set each example stands
    sequences: int

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        return replace(
            self,
            tokens=self.tokens.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            targets=None if self.targets is None else self.targets.to(device, non_blocking=True),
        )


class ExampleSet(Protocol):
    """Examples of one task and split: any rows of them become a Batch."""

    task: Task
    labels: NDArray[np.float64] | None
    lengths: NDArray[np.int64]

    def __len__(self) -> int: ...

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Collate B rows."""

    def in_order_of_length(self, batch_size: int) -> Iterator[Batch]:
        """Every example once, longest first: the batches for evaluation."""

    @property
    def orders(self) -> Sequence[ExampleSet]:
        """The sets whose outputs are averaged: this one, and where pairs are symmetric the one with texts swapped."""


class Examples:
    """All examples of one task and split, tokenised; any rows of them become a Batch."""

    def __init__(
        self,
        task: Task,
        texts: Sequence[Tokens],
        tokenizer: Tokenizer,
        positions: int,
        labels: NDArray[np.float64] | None = None,
    ) -> None:
        self.task = task
        self.labels = labels
        self.max_length = min(task.max_length, positions)
        self._texts = tuple(texts)
        self._tokenizer = tokenizer
        self._special = tokenizer.first, tokenizer.separator, tokenizer.padding
        self.targets = None if labels is None else task.targets(labels)

        lengths = [text.lengths for text in texts]
        self.full_lengths = self._sequence_lengths(lengths)  # before truncation
        self._kept = self._truncated(lengths)
        self.lengths = self._sequence_lengths(self._kept)

    @classmethod
    def from_rows(cls, task: Task, rows: Rows, tokenizer: Tokenizer, positions: int) -> Self:
        """Tokenise rows, through the cache."""
        return cls(task, [tokenizer.encode_once(column) for column in rows.texts], tokenizer, positions, rows.labels)

    @classmethod
    def from_texts(cls, task: Task, texts: Sequence[Sequence[str]], tokenizer: Tokenizer, positions: int) -> Self:
        """Tokenise columns of texts that are not worth remembering."""
        return cls(task, [tokenizer.encode(column) for column in texts], tokenizer, positions)

    def __len__(self) -> int:
        return len(self._texts[0])

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Collate B rows, without a loop over examples."""
        chosen = np.asarray(rows, dtype=np.int64)
        pieces = [(text, kept[chosen]) for text, kept in zip(self._texts, self._kept, strict=True)]
        if self.task.sequences == 2:
            sides = [self._sequences(chosen, [piece]) for piece in pieces]
            length = max(tokens.shape[1] for tokens, _, _ in sides)
            tokens, segments, mask = (
                np.concatenate([_widened(side[part], length, fill) for side in sides])
                for part, fill in ((0, self._special[2]), (1, 0), (2, False))
            )
        else:
            tokens, segments, mask = self._sequences(chosen, pieces)
        return Batch(
            self.task.name,
            torch.from_numpy(tokens),
            torch.from_numpy(segments),
            torch.from_numpy(mask),
            None if self.targets is None else self.targets[torch.from_numpy(chosen)],
            chosen,
            self.task.sequences,
        )

    def in_order_of_length(self, batch_size: int) -> Iterator[Batch]:
        """Every example once, longest first: the batches for evaluation."""
        order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(self), batch_size):
            yield self.batch(order[start : start + batch_size])

    @property
    def orders(self) -> list[Examples]:
        """This set, and where its pairs are symmetric the same one with the texts swapped."""
        if not self.task.symmetric:
            return [self]
        return [self, Examples(self.task, self._texts[::-1], self._tokenizer, self.max_length, self.labels)]

    def _sequences(
        self, rows: NDArray[np.int64], pieces: list[tuple[Tokens, NDArray[np.int64]]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """[CLS] a [SEP], or [CLS] a [SEP] b [SEP]: tokens, segments and mask, each (B, L)."""
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
            tokens[row_of, within + np.repeat(column, kept)] = text.flat[within + np.repeat(text.starts[rows], kept)]
            tokens[example, column + kept] = separator
            if segment == 1 and self.task.segments == "pair":
                positions = np.arange(tokens.shape[1])
                segments[(positions >= column[:, None]) & (positions <= (column + kept)[:, None])] = 1
            column = column + kept + 1
        return tokens, segments, np.arange(tokens.shape[1]) < lengths[:, None]

    def _truncated(self, lengths: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Tokens kept of each text; a joint pair loses tokens from its longer text first."""
        if len(lengths) == 1 or self.task.sequences == 2:
            return [np.minimum(length, self.max_length - 2) for length in lengths]
        room = self.max_length - 3
        first, second = lengths
        longer_half, shorter_half = (room + 1) // 2, room // 2
        keep_first = np.minimum(first, np.maximum(room - second, longer_half))
        keep_second = np.minimum(second, np.maximum(room - first, shorter_half))
        return [keep_first, keep_second]

    def _sequence_lengths(self, lengths: list[NDArray[np.int64]]) -> NDArray[np.int64]:
        if self.task.sequences == 2:
            return np.maximum(*lengths) + 2
        return np.asarray(sum(lengths) + len(lengths) + 1)


class Stream:
    """Batches of one task without end, as a function of how many have been drawn.

    Every pass is a new shuffle, cut into buckets of similar length. `position` is the whole state. With a `limit` all
    passes are over the same so many examples, chosen once by the seed.
    """

    def __init__(self, examples: ExampleSet, batch_size: int, seed: Sequence[int], limit: int | None = None) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.position = 0
        self._seed = list(seed)
        self._rows = np.arange(len(examples))
        if limit is not None and limit < len(examples):
            # numpy takes a seed [a] for [a, 0]: without the 1 this would be the first pass's shuffle
            self._rows = np.random.default_rng([*seed, 0, 1]).permutation(self._rows)[:limit]
        self._plan: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def reshuffled(self, seed: Sequence[int]) -> Self:
        """A stream of its own over the same rows, in another order."""
        other = copy(self)
        other.position, other._seed, other._plan = 0, list(seed), (-1, [])
        return other

    @property
    def batches_per_pass(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    def draw(self) -> Batch:
        """The next batch."""
        epoch, index = divmod(self.position, self.batches_per_pass)
        if self._plan[0] != epoch:
            self._plan = epoch, self._bucketed(np.random.default_rng([*self._seed, epoch]))
        self.position += 1
        return self.examples.batch(self._plan[1][index])

    def _bucketed(self, generator: np.random.Generator) -> list[NDArray[np.int64]]:
        order = generator.permutation(self._rows)
        chunk = self.batch_size * BUCKET
        batches = []
        for start in range(0, len(order), chunk):
            near = order[start : start + chunk]
            near = near[np.argsort(self.examples.lengths[near], kind="stable")]
            batches += [near[i : i + self.batch_size] for i in range(0, len(near), self.batch_size)]
        return [batches[index] for index in generator.permutation(len(batches))]


def _widened(array: NDArray[np.generic], length: int, fill: int | bool) -> NDArray[np.generic]:
    return np.pad(array, ((0, 0), (0, length - array.shape[1])), constant_values=fill)
