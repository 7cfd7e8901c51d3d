"""Texts for tests: short, and the same for the same number."""

from __future__ import annotations

WORDS = ["good", "bad", "film", "plot", "warm", "cold", "slow", "quick", "bright", "dull", "tea", "river", "garden"]


def sentence(number: int, length: int = 5) -> str:
    """A text that depends on its number alone."""
    return " ".join(WORDS[(number * 7 + step * step * 3 + step) % len(WORDS)] for step in range(1 + number % length))
