"""BERT, written out in full so that task modules can change what passes at its taps.

Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtbert.data.batches import Batch
from mtbert.model.attention import attend
from mtbert.model.dropout import Dropout
from mtbert.model.modes import in_modes, modes_of
from mtbert.model.shape import Shape
from mtbert.model.taps import Taps


class Layer(nn.Module):
    """Self-attention and a feed-forward network, each added to its input and normalised (post-LN)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_dropout = shape.attention_dropout
        self.to_qkv = nn.Linear(shape.width, 3 * shape.width)
        self.mix_heads = nn.Linear(shape.width, shape.width)
        self.attention_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.expand = nn.Linear(shape.width, shape.inner)
        self.contract = nn.Linear(shape.inner, shape.width)
        self.output_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.dropout = Dropout(shape.dropout)

    def forward(self, x: Tensor, layer: int, batch: Batch, taps: Taps) -> Tensor:
        """The output of the layer with this number, which the taps are told: (S, L, D) -> (S, L, D)."""
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = taps.qkv(q, k, v, x, layer, batch)
        mixed = attend(q, k, v, batch.mask, self.heads, self.attention_dropout if self.training else 0.0)
        update = self.dropout(self.mix_heads(mixed))
        h = self.attention_norm(x + taps.after_attention(update, x, layer, batch))
        h = taps.after_attention_norm(h, layer, batch)
        update = self.dropout(self.contract(F.gelu(self.expand(h))))
        y: Tensor = self.output_norm(h + taps.after_ffn(update, x, layer, batch))
        return taps.after_layer(y, layer, batch)


def compute(layer: nn.Module, x: Tensor, index: int, batch: Batch, taps: Taps) -> Tensor:
    """A layer's output, with everything that its backward pass needs kept in memory."""
    y: Tensor = layer(x, index, batch, taps)
    return y


def compute_again(layer: nn.Module, x: Tensor, index: int, batch: Batch, taps: Taps) -> Tensor:
    """A layer's output, of which only the input is kept: the backward pass computes the layer again.

    This takes less memory and about a third more time. Gradients are the same, because dropout draws again from the
    same random state and every part is put back into the mode that it was in.

    Source: Chen et al., 2016, https://arxiv.org/abs/1604.06174
    """
    modes = modes_of(layer, *taps.parts())

    def output(x: Tensor) -> Tensor:
        with in_modes(modes):
            y: Tensor = layer(x, index, batch, taps)
            return y

    y: Tensor = checkpoint(output, x, use_reentrant=False)
    return y


class Encoder(nn.Module):
    """BERT's embeddings, layers and pooler; layers are run by `compute`, or by `compute_again` to save memory."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.word_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embedding = nn.Embedding(shape.positions, shape.width)
        self.segment_embedding = nn.Embedding(shape.segments, shape.width)
        self.embedding_norm = nn.LayerNorm(shape.width, shape.epsilon)
        self.dropout = Dropout(shape.dropout)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.pooler = nn.Linear(shape.width, shape.width)
        self.run = compute
        self.apply(_initialise)

    def embed(self, batch: Batch) -> Tensor:
        """Words, positions and segments as the first hidden state: (S, L, D)."""
        words = self.word_embedding(batch.tokens)
        positions = self.position_embedding.weight[: batch.tokens.shape[1]]
        x: Tensor = self.dropout(self.embedding_norm(words + positions + self.segment_embedding(batch.segments)))
        return x

    def states(self, x: Tensor, batch: Batch, taps: Taps, start: int = 0) -> Iterator[Tensor]:
        """The hidden states after layers start, start + 1, ..., each (S, L, D) and computed only when asked for."""
        for index in range(start, len(self.layers)):
            x = self.run(self.layers[index], x, index, batch, taps)
            yield x

    def pool(self, first: Tensor) -> Tensor:
        """BERT's pooler on the states of [CLS]: (S, D) -> (S, D) in (-1, 1)."""
        return torch.tanh(self.pooler(first))


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: N(0, 0.02), biases 0, LayerNorm 1 and 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
