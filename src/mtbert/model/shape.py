"""The size of an encoder."""

from __future__ import annotations

from dataclasses import dataclass

from mtbert.errors import Mistake


@dataclass(frozen=True)
class Shape:
    """The size of an encoder, with BERT-base's numbers as defaults."""

    layers: int = 12
    width: int = 768
    heads: int = 12
    inner: int = 3072
    vocabulary: int = 30_522
    positions: int = 512
    segments: int = 2
    epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise Mistake(f"{self.heads} heads do not divide a width of {self.width}")
