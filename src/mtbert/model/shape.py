"""The size of an encoder."""

from __future__ import annotations

from dataclasses import dataclass

from mtbert.errors import Mistake


@dataclass(frozen=True)
class Shape:
    """The size of an encoder; the defaults are BERT-base's. Raises Mistake if the heads do not divide the width.

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805
    """

    layers: int = 12
    width: int = 768
    heads: int = 12
    inner: int = 3072  # width of the hidden layer of the feed-forward network
    vocabulary: int = 30_522
    positions: int = 512  # the longest sequence, in tokens
    segments: int = 2
    epsilon: float = 1e-12  # of the LayerNorms
    dropout: float = 0.1
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise Mistake(f"{self.heads} heads do not divide a width of {self.width}")
