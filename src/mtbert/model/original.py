"""The encoder as it was before training: what heads read beside the vector comes from a frozen copy of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.model.devices import best_device
from mtbert.model.encoder import Encoder
from mtbert.model.sentences import sentence_vectors


class Original:
    """A frozen encoder, which reads each text by itself; copies of a model share it, and no checkpoint holds it."""

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer) -> None:
        self.encoder = encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def same_as(self, other: Original) -> bool:
        """Whether the two make the same vectors of every text."""
        ours, theirs = self.encoder.state_dict(), other.encoder.state_dict()
        return ours.keys() == theirs.keys() and all(
            ours[name].shape == theirs[name].shape and torch.equal(ours[name].cpu(), theirs[name].cpu())
            for name in ours
        )

    @property
    def parameters(self) -> int:
        """How many there are."""
        return sum(p.numel() for p in self.encoder.parameters())

    def vectors(self, tokens: Tokens, told: Callable[[int], None] = lambda done: None) -> Tensor:
        """The mean of the last states of each text's tokens, scaled to a mean square of 1: (N, D) in float16.

        The mean of the product of two such vectors is their cosine, and from numbers around 1 a new layer learns as
        fast as from the states of the encoder. `told` hears, after each batch, how many texts it held.
        """
        self.encoder.to(best_device())
        return scaled(sentence_vectors(self.encoder, tokens, self.tokenizer, told=told))


def scaled(vectors: Tensor) -> Tensor:
    """Each scaled to a mean square of 1: (N, D), in float16."""
    return (vectors / vectors.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)).half()
