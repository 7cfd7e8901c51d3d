"""Texts as vectors: what the encoder that all tasks share makes of a text, without any task's modules or head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtbert.data.batches import Batch, Examples
from mtbert.data.kinds.regression import Regression
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.model.encoder import Encoder
from mtbert.model.heads.pooling import Mean
from mtbert.model.modes import evaluating
from mtbert.model.parallel import in_parallel
from mtbert.model.taps import Fold

SENTENCE = Regression(name="sentence", text=("text",), label="label", range=(0, 1))  # no task: how one text is read


def sentence_vectors(
    encoder: Encoder,
    tokens: Tokens,
    tokenizer: Tokenizer,
    batch_size: int = 64,
    told: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """The mean of the last states of each text's tokens: (N, D) on the CPU, not normalised.

    `told` hears, after each batch, how many texts it held.

    Source: Reimers and Gurevych, 2019, section 3, https://arxiv.org/abs/1908.10084
    """
    examples = Examples(SENTENCE, [tokens], tokenizer, encoder.shape.positions)
    device = next(encoder.parameters()).device
    vectors = torch.empty(len(tokens), encoder.shape.width)
    with evaluating(encoder):
        batches = examples.in_order_of_length(batch_size)
        for batch, means in in_parallel(lambda batch: means_of(encoder, batch.to(device)).cpu(), batches, device):
            vectors[torch.from_numpy(batch.rows)] = means
            told(len(batch))
    return vectors


def means_of(encoder: Encoder, batch: Batch) -> Tensor:
    """The mean of the last states of each sequence's tokens: (S, D) in float32."""
    x = encoder.embed(batch)
    for state in encoder.states(x, batch, Fold([])):
        x = state
    return Mean()(x, batch, encoder).float()


def cosines(encoder: Encoder, pairs: Sequence[Tokens], tokenizer: Tokenizer) -> Tensor:
    """The cosine between the vectors of the two texts of each pair: (N,) in float64."""
    first, second = (sentence_vectors(encoder, tokens, tokenizer).double() for tokens in pairs)
    return torch.nn.functional.cosine_similarity(first, second, dim=-1)
