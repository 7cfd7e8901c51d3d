"""The passes of one batch that penalties compare, and what makes two of them comparable.

Two passes differ by their noise alone where dropout, random state and precision are the same. A penalty asks for the
clean side `under` these conditions and goes through the model `again` under the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mtbert.data.batches import Batch
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask

# off: the model in evaluation mode, a clean pass of its own; same_mask: the masks of the loss's pass once more;
# independent: the loss's pass as it is, and fresh masks
Dropout = Literal["off", "same_mask", "independent"]


class RandomState(NamedTuple):
    """Where torch's generators stand."""

    cpu: Tensor
    cuda: Tensor | None


class Pass(NamedTuple):
    """One way through the model, or from a layer on."""

    states: list[Tensor]  # what entered each layer, and what left the last: each (S, L, D)
    outputs: Tensor  # (B, outputs)
    random: list[RandomState]  # where the generators stood when the state was there, and at the end


class Passes:
    """The pass that the task's loss is taken from, and others made when first asked for."""

    def __init__(self, model: MultiTask, batch: Batch) -> None:
        self.model = model
        self.batch = batch
        self.task = model.tasks[batch.task]
        self.device = batch.tokens.device
        self.before = random_state(self.device)
        self.clean = go_through(model, batch, model.embed(batch))
        self._comparisons: dict[tuple[Dropout, bool], Comparison] = {}

    @classmethod
    def together(cls, model: MultiTask, batches: Sequence[Batch]) -> list[Passes]:
        """Those of several tasks that are given the same texts and are served by the same modules: their clean passes
        are one as far as the last layer.

        The heads draw their masks from where the first one did.
        """
        first = cls(model, batches[0])
        return [first, *map(first._of, batches[1:])]

    @property
    def drew_masks(self) -> bool:
        """Whether there was dropout on the way."""
        return any(
            before is not None and after is not None and not torch.equal(before, after)
            for before, after in zip(self.before, self.clean.random[-1], strict=True)
        )

    def under(self, dropout: Dropout, finest: float) -> Comparison:
        """The clean pass under these conditions, and how to repeat it with another input.

        Where noise as small as `finest` would be rounded away in half precision, both sides are float32.
        """
        kind = self.device.type
        # a unit is about 1: noise below a few steps of its rounding is lost
        exact = torch.is_autocast_enabled(kind) and finest < 4 * torch.finfo(torch.get_autocast_dtype(kind)).eps
        if (dropout, exact) not in self._comparisons:
            self._comparisons[dropout, exact] = Comparison(self, dropout, exact)
        return self._comparisons[dropout, exact]

    def _of(self, batch: Batch) -> Passes:
        """The same for another task."""
        other = copy(self)
        other.batch, other.task, other._comparisons = batch, self.model.tasks[batch.task], {}
        *on_the_way, before_head, _ = self.clean.random
        with replaying(before_head, self.device):
            outputs = self.model.resume(self.clean.states[-1], batch, len(on_the_way))
            random = [*on_the_way, before_head, random_state(self.device)]
        other.clean = Pass(self.clean.states, outputs, random)
        return other


class Comparison:
    """A clean pass, and the conditions under which another one differs from it by its input alone.

    The clean pass is the loss's own where it can be: with dropout, in the loss's precision.
    """

    def __init__(self, passes: Passes, dropout: Dropout, exact: bool) -> None:
        self.passes = passes
        self.dropout = dropout
        self.exact = exact
        # with masks of their own two passes differ by far more than small noise does
        self.by_noise_alone = dropout != "independent" or not passes.drew_masks
        self.clean = passes.clean
        if dropout == "off" or exact:
            with self.conditions(passes.clean.random[0]):
                x = passes.model.embed(passes.batch) if dropout == "off" else passes.clean.states[0]
                self.clean = go_through(passes.model, passes.batch, x)

    def again(self, x: Tensor, start: int = 0) -> Pass:
        """Go on from another state (S, L, D) that enters layer `start`."""
        with self.conditions(self.clean.random[start]):
            return go_through(self.passes.model, self.passes.batch, x, start)

    def anew(self, embed: Callable[[], Tensor]) -> Pass:
        """The whole way with other embeddings, which are made under the same conditions."""
        return self.again(self.embedded(embed))

    def embedded(self, embed: Callable[[], Tensor]) -> Tensor:
        """Other embeddings (S, L, D), made under the same conditions."""
        with self.conditions(self.passes.before):
            return embed()

    @cached_property
    def open(self) -> Pass:
        """The clean pass with a graph from its embeddings on; where these are frozen, a pass of its own."""
        if self.clean.states[0].requires_grad:
            return self.clean
        return self.again(self.clean.states[0].detach().requires_grad_())

    def distance(self, outputs: Tensor, stop_clean: bool = False) -> Tensor:
        """The mean divergence of outputs (B, outputs) from the clean ones, by the task's own measure."""
        clean = self.clean.outputs.detach() if stop_clean else self.clean.outputs
        return self.passes.task.divergence(outputs, clean).mean()

    @contextmanager
    def conditions(self, random: RandomState) -> Iterator[None]:
        """What the passes have in common."""
        with ExitStack() as stack:
            if self.exact:
                stack.enter_context(torch.autocast(self.passes.device.type, enabled=False))
            if self.dropout == "off":
                stack.enter_context(evaluating(self.passes.model))
            if self.dropout == "same_mask":
                stack.enter_context(replaying(random, self.passes.device))
            yield


def go_through(model: MultiTask, batch: Batch, x: Tensor, start: int = 0) -> Pass:
    """From the state that enters layer `start` to the outputs, keeping what stood between."""
    states, random = [x], [random_state(x.device)]
    for state in model.states(x, batch, start):
        states.append(state)
        random.append(random_state(x.device))
    outputs = model.resume(states[-1], batch, start + len(states) - 1)
    return Pass(states, outputs, [*random, random_state(x.device)])


def random_state(device: torch.device) -> RandomState:
    """Where the generators stand that decide over this device."""
    return RandomState(torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None)


@contextmanager
def replaying(random: RandomState, device: torch.device) -> Iterator[None]:
    """Draw once more what was drawn from here on; the generators are then left where they stood."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(random.cpu)
        if random.cuda is not None:
            torch.cuda.set_rng_state(random.cuda, device)
        yield
