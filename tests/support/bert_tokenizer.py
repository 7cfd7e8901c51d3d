"""Hugging Face's tokenizer over a vocabulary of ours: the oracle of the tests of data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import BertTokenizerFast


def bert_tokenizer(pieces: Sequence[str], folder: Path) -> BertTokenizerFast:
    """Read from a file, which old and new transformers understand alike."""
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return BertTokenizerFast.from_pretrained(folder)
