"""The optimizer: which parameters it decays, and how fast each part of the model learns."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Protocol

import torch
from pydantic import Field, Strict
from torch import Tensor, nn
from torch.optim.adamw import adamw

from mtbert.errors import Mistake, unknown
from mtbert.model.parameters.names import PARTS, layer_of, part_of, place_of
from mtbert.registry import BelowOne, NonNegative, Positive, Registry

WORDS = "encoder.word_embedding.weight"


class Optimizer(Protocol):
    """Made from named parameters; each step moves those that have a gradient."""

    lr: float  # the learning rate at a factor of 1

    def step(self, factor: float = 1.0) -> None:
        """Move the parameters once, at `factor` times the learning rate."""

    def clear(self) -> None:
        """Set all gradients to None."""

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as tensors by name."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state, to go on as the optimizer that it came from."""


class Moving(NamedTuple):
    """A parameter that a step moves, with what the step needs; four tensors of the same shape."""

    parameter: Tensor
    gradient: Tensor
    mean: Tensor  # moving average of the gradients
    square: Tensor  # moving average of their squares


class Settings(NamedTuple):
    """How a step moves a parameter. Parameters whose settings are equal are moved by the same call."""

    step: int  # which step of the parameter's own this is, counted from 1
    lr: float
    decay: float


class AdamW:
    """Adam with decoupled weight decay.

    `form` says where epsilon is added: 'torch' adds it after the bias correction of the second moment, 'starter' (the
    course's starter code) before it. Each parameter counts its own steps and rests while it has no gradient. With
    `zero_fill` a missing gradient counts as zero instead, as in old versions of torch: idle heads then keep moving on
    their momentum. Weight decay leaves vectors (biases, LayerNorms, gains) alone unless `decay_vectors` is set.

    `rates` multiplies the learning rate of parts of the model: `{heads: 10}`. `layer_decay` multiplies the learning
    rate of each encoder layer once more than that of the layer above it, and that of the embeddings once more than the
    lowest layer's; the topmost layer that learns, the pooler, heads and modules keep theirs.

    With `lazy_words`, words of the word embedding that a step does not see rest, decay and moments included, as in
    torch's SparseAdam; otherwise they go on moving on their momentum.

    Raises ValueError for a parameter that is not contiguous.

    Source: Kingma and Ba, 2015, algorithm 1, https://arxiv.org/abs/1412.6980
    Source: Loshchilov and Hutter, 2019, algorithm 2, https://arxiv.org/abs/1711.05101
    Source: Howard and Ruder, 2018, section 3.2, https://arxiv.org/abs/1801.06146
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
            if not p.is_contiguous():  # torch's kernel would pair its numbers with the wrong moments
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
        together: dict[Settings, list[Moving]] = defaultdict(list)
        for name, p in self.parameters.items():
            if p.grad is None and not self.zero_fill:
                continue
            if name not in self._means:
                self._means[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
                self._squares[name] = torch.zeros_like(p, memory_format=torch.contiguous_format)
            self._steps[name] += 1
            decay = self.weight_decay if p.ndim > 1 or self.decay_vectors else 0.0
            settings = Settings(self._steps[name], self.lr * factor * self.factors[name], decay)
            gradient = torch.zeros_like(p) if p.grad is None else p.grad.contiguous()
            moving = Moving(p, gradient, self._means[name], self._squares[name])
            if self.lazy_words and name == WORDS:
                self._move_used_rows(moving, settings)
            else:
                together[settings].append(moving)
        for settings, some in together.items():
            self._move(some, settings)

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
        moved = {name for name, steps in parts["steps"].items() if steps > 0}
        if (
            parts["steps"].keys() != self.parameters.keys()
            or not moved == parts["means"].keys() == parts["squares"].keys()
        ):
            raise ValueError("not every parameter has its count of steps and both of its moments")
        self._steps |= {name: int(steps) for name, steps in parts["steps"].items()}
        self._means, self._squares = parts["means"], parts["squares"]

    def _move_used_rows(self, moving: Moving, settings: Settings) -> None:
        """Move only the rows that have a gradient, and their moments."""
        used = moving.gradient.any(dim=1).nonzero().view(-1)
        rows = Moving(*(tensor[used] for tensor in moving))
        self._move([rows], settings)
        for tensor, moved in zip(moving, rows, strict=True):
            tensor[used] = moved

    def _move(self, some: Sequence[Moving], settings: Settings) -> None:
        """Move parameters and their moments by Adam's update and the decay."""
        if not settings.decay:
            self._add_update([moving.parameter for moving in some], some, settings)
            return
        # Update and decay are summed before the parameter takes them in: by itself, a decay below half a unit in the
        # parameter's last place would be rounded away. One parameter at a time, as the sum takes memory.
        for moving in some:
            change = torch.zeros_like(moving.parameter)
            self._add_update([change], [moving], settings)
            change.add_(moving.parameter, alpha=-settings.lr * settings.decay)
            moving.parameter.add_(change)

    def _add_update(self, targets: list[Tensor], some: Sequence[Moving], settings: Settings) -> None:
        """Update the moments and add Adam's update of each parameter, without decay, to its target.

        Torch's kernel subtracts `lr / c1 * mean / (sqrt(square) / c2 + epsilon)`. The starter's form, and the form
        without bias correction, are the same with another learning rate and epsilon.
        """
        step, lr, _ = settings
        c1, c2 = 1 - self.first**step, math.sqrt(1 - self.second**step)
        adamw(
            targets,
            [moving.gradient for moving in some],
            [moving.mean for moving in some],
            [moving.square for moving in some],
            [],
            list(torch.full((len(some),), step - 1.0, device=targets[0].device).unbind()),
            fused=True,
            amsgrad=False,
            beta1=self.first,
            beta2=self.second,
            lr=lr if self.correct_bias else lr * c1 / c2,
            weight_decay=0.0,
            eps=self.epsilon if self.form == "torch" and self.correct_bias else self.epsilon / c2,
            maximize=False,
        )


def _factors(names: Collection[str], rates: Mapping[str, float], layer_decay: float) -> dict[str, float]:
    """Name of a parameter -> the factor of its learning rate.

    Raises Mistake if `rates` names a part that does not exist or of which no parameter learns.
    """
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
