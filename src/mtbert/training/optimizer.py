"""AdamW, which parameters decay, and how fast each part of the model learns."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field, Strict
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mtbert.errors import Mistake, unknown
from mtbert.model.parameters.names import PARTS, layer_of, part_of, place_of
from mtbert.registry import BelowOne, NonNegative, Positive, Registry

WORDS = "encoder.word_embedding.weight"


class Optimizer(Protocol):
    """Made from named parameters; moves those that have a gradient."""

    lr: float

    def step(self, factor: float = 1.0) -> None:
        """One update at `factor` times the learning rate."""

    def clear(self) -> None:
        """Forget the gradients."""

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class AdamW:
    """Adam with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019).

    `form` says where epsilon is added: 'torch' after the second moment's bias correction, 'starter' (the course's
    starter code) before it. Each parameter counts its own steps and rests while it has no gradient; `zero_fill` takes a
    missing gradient for zero instead, as old versions of torch did: idle heads then keep moving on their momentum.
    Weight decay leaves vectors (biases, LayerNorms, gains) alone unless `decay_vectors` is set.

    `rates` multiplies the learning rate of parts of the model: `{heads: 10}`. `layer_decay` multiplies that of each
    layer of the encoder once more than that of the layer above, and that of the embeddings once more than the lowest
    layer's; the topmost layer that learns, the pooler, heads and modules keep theirs (Howard and Ruder, 2018).

    `lazy_words` moves only the rows of the word embedding that have a gradient: words that a step does not see rest,
    moments and decay too, as in torch's SparseAdam, where they would otherwise go on moving on their momentum.

    Parameters are contiguous; raises ValueError for one that is not.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: Positive = 5e-5,
        betas: Annotated[list[BelowOne], Field(min_length=2, max_length=2)] = [0.9, 0.999],  # noqa: B006
        epsilon: Positive = 1e-6,
        weight_decay: NonNegative = 0.0,
        decay_vectors: bool = False,
        correct_bias: bool = True,
        form: Literal["torch", "starter"] = "torch",
        zero_fill: bool = False,
        rates: dict[str, Positive] = {},  # noqa: B006
        layer_decay: Annotated[float, Strict(), Field(gt=0, le=1)] = 1.0,
        lazy_words: bool = False,
    ) -> None:
        self.lr = lr
        self.parameters = dict(parameters)
        for name, p in self.parameters.items():
            if not p.is_contiguous():  # torch's kernel would pair its numbers with others' moments
                raise ValueError(f"parameter '{name}' is not contiguous")
        self.factors = _factors(self.parameters, rates, layer_decay)
        self.first, self.second = betas
        self.epsilon = epsilon
        self.weight_decay = weight_decay
        self.decay_vectors = decay_vectors
        self.correct_bias = correct_bias
        self.form = form
        self.zero_fill = zero_fill
        self.lazy_words = lazy_words
        self._steps = dict.fromkeys(self.parameters, 0)
        self._means: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        alike: dict[tuple[int, float, float], list[tuple[Tensor, ...]]] = defaultdict(list)
        for name, p in self.parameters.items():
            if p.grad is None and not self.zero_fill:
                continue
            if name not in self._means:
                self._means[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
                self._squares[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            self._steps[name] += 1
            decay = self.weight_decay if p.ndim > 1 or self.decay_vectors else 0.0
            how = (self._steps[name], self.lr * factor * self.factors[name], decay)
            gradient = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
            tensors = (p, gradient, self._means[name], self._squares[name])
            if self.lazy_words and name == WORDS:
                used = gradient.any(dim=1).nonzero().view(-1)
                rows = tuple(tensor[used] for tensor in tensors)
                self._move([rows], *how)
                for tensor, moved in zip(tensors, rows, strict=True):
                    tensor[used] = moved
            else:
                alike[how].append(tensors)
        for how, some in alike.items():
            *_, decay = how
            # decay needs a copy: of one parameter at a time
            for part in [[one] for one in some] if decay else [some]:
                self._move(part, *how)

    def clear(self) -> None:
        for p in self.parameters.values():
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        state = {f"steps.{name}": torch.tensor(steps) for name, steps in self._steps.items()}
        state |= {f"means.{name}": mean for name, mean in self._means.items()}
        return state | {f"squares.{name}": square for name, square in self._squares.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"steps": {}, "means": {}, "squares": {}}
        for key, tensor in state.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor.to(self.parameters[name].device) if part != "steps" else tensor
        self._steps |= {name: int(steps) for name, steps in parts["steps"].items()}
        self._means, self._squares = parts["means"], parts["squares"]

    def _move(self, some: Sequence[tuple[Tensor, ...]], step: int, lr: float, decay: float) -> None:
        """Parameters, gradients, means and squares; all but the gradients change.

        Torch's kernel takes `lr / c1 * mean / (sqrt(square) / c2 + epsilon)` off each parameter; the starter's form and
        the one without correction are said in its terms.
        """
        c1, c2 = 1 - self.first**step, math.sqrt(1 - self.second**step)
        parameters, gradients, means, squares = map(list, zip(*some, strict=True))
        # one sum of update and decay, so that a decay below half a unit in the last place is not rounded away
        updates = [torch.zeros_like(p) for p in parameters] if decay else parameters
        adamw(
            updates,
            gradients,
            means,
            squares,
            [],
            list(torch.full((len(some),), step - 1.0, device=parameters[0].device).unbind()),
            fused=True,
            amsgrad=False,
            beta1=self.first,
            beta2=self.second,
            lr=lr if self.correct_bias else lr * c1 / c2,
            weight_decay=0.0,
            eps=self.epsilon if self.form == "torch" and self.correct_bias else self.epsilon / c2,
            maximize=False,
        )
        if decay:
            for p, update in zip(parameters, updates, strict=True):
                p.add_(update.add_(p, alpha=-lr * decay))


def _factors(names: Collection[str], rates: Mapping[str, float], layer_decay: float) -> dict[str, float]:
    """Name of a parameter -> what its learning rate is multiplied by."""
    for part in rates:
        if part not in PARTS:
            raise Mistake(unknown("part in `rates` of the optimizer:", part, PARTS))
        if part not in map(part_of, names):
            raise Mistake(f"`rates` of the optimizer names '{part}', of which nothing learns here")
    depth = max((layer for layer in map(layer_of, names) if layer is not None), default=-1) + 1

    def factor(name: str) -> float:
        rate = rates.get(part_of(name), 1.0)
        layer = layer_of(name)
        if layer is not None:
            return rate * layer_decay ** (depth - 1 - layer)
        return rate * layer_decay**depth if place_of(name) == "embeddings" else rate

    return {name: factor(name) for name in names}


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", {"adamw": AdamW})
