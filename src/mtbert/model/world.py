"""The processes that train one model together: each computes a part of every batch, and all take the same step.

Nothing here wraps the model. Several backward passes a step, and heads that a step does not use, are what torch's
DistributedDataParallel stumbles over; sums of gradients, task by task, are all that is needed.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mtbert.errors import Mistake
from mtbert.process import left_alone, number

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # how long the others are waited for, such as while one reads its data
SMALL = 1 << 16  # numbers of a tensor that is copied, so that many are added up in one round
TALL = 16  # rows a column, from which on a tensor may be the gradient of a table
OWN = "random_of_process."


class World:
    """One process alone, for which there is nothing to agree upon."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether it is this process that writes and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor, written over this one's; the same bits in all of them."""
        return tensor

    def sum_all(self, tensors: Iterable[Tensor]) -> None:
        """`sum` for many tensors, in as few rounds as their sizes allow."""

    def any(self, fact: bool) -> bool:
        """Whether it holds in any of the processes."""
        return fact

    def wait(self) -> None:
        """Go on when all have come so far."""

    @contextmanager
    def alike(self) -> Iterator[None]:
        """Mistakes that are made inside the block are made by all: each raises the first one's, and none waits."""
        yield

    @contextmanager
    def own_random(self) -> Iterator[None]:
        """Draw from a random state of the process's own, as for dropout; outside of the block all draw the same."""
        yield

    def random_states(self) -> dict[str, Tensor]:
        """The processes' own random states, for the checkpoint that the first one writes."""
        return {}

    def load_random(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint's; another number of processes than wrote it begins with fresh ones."""


ALONE = World()


class Together(World):
    """This process among others, which torch.distributed has joined."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._own: Tensor | None = None

    def sum(self, tensor: Tensor) -> Tensor:
        _asked(lambda: dist.all_reduce(tensor))
        return tensor

    def sum_all(self, tensors: Iterable[Tensor]) -> None:
        small: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            if tensor.numel() > SMALL:
                self._sum_large(tensor)
            else:
                small.setdefault(tensor.dtype, []).append(tensor)
        for some in small.values():
            together = self.sum(torch.cat([tensor.reshape(-1) for tensor in some]))
            for tensor, part in zip(some, torch.split(together, [tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def _sum_large(self, tensor: Tensor) -> None:
        """The sum of a tensor; of a tall table in which few rows are not zero, as in the gradient of word embeddings,
        only these rows are sent.
        """
        if tensor.dim() != 2 or tensor.shape[0] < TALL * tensor.shape[1]:
            self.sum(tensor)
            return
        rows = self.sum(tensor.any(1).int()).nonzero().squeeze(1)
        if 2 * len(rows) > len(tensor):
            self.sum(tensor)
        else:
            tensor[rows] = self.sum(tensor[rows])

    def any(self, fact: bool) -> bool:
        return bool(self.sum(torch.tensor(int(fact))))

    def wait(self) -> None:
        _asked(dist.barrier)

    @contextmanager
    def alike(self) -> Iterator[None]:
        mistake: Mistake | None = None
        try:
            yield
        except Mistake as made:
            mistake = made
        said: list[str | None] = [None] * self.size
        _asked(lambda: dist.all_gather_object(said, None if mistake is None else str(mistake)))
        if mistake is not None:
            raise mistake
        other = next((one for one in said if one is not None), None)
        if other is not None:
            raise Mistake(other)

    @contextmanager
    def own_random(self) -> Iterator[None]:
        common = torch.get_rng_state()
        torch.set_rng_state(self._state)
        try:
            yield
        finally:
            self._own = torch.get_rng_state()
            torch.set_rng_state(common)

    def random_states(self) -> dict[str, Tensor]:
        states = [torch.empty_like(self._state) for _ in range(self.size)]
        _asked(lambda: dist.all_gather(states, self._state))
        return {f"{OWN}{rank}": state for rank, state in enumerate(states)}

    def load_random(self, saved: Mapping[str, Tensor]) -> None:
        own = [name for name in saved if name.startswith(OWN)]
        self._own = saved[f"{OWN}{self.rank}"].clone() if len(own) == self.size else self._fresh(len(own))

    @property
    def _state(self) -> Tensor:
        if self._own is None:
            self._own = self._fresh(0)
        return self._own

    def _fresh(self, before: int) -> Tensor:
        """A state that no other process has, nor the `before` that wrote a checkpoint."""
        seed = torch.initial_seed() + 1_000_003 * (before + self.rank + 1)
        return torch.Generator().manual_seed(seed % 2**63).get_state()


def world() -> World:
    """The processes that a launcher such as torchrun started together with this one, joined when first asked for.

    Raises Mistake where a launcher was asked for several and has started one.
    """
    if left_alone():
        raise Mistake(
            "accelerate's launcher was asked for several processes, but starts a single one on a CPU; "
            "give it --multi_gpu (which needs no GPU) in place of --cpu, or use torchrun --nproc-per-node"
        )
    if not dist.is_available() or (number() is None and not dist.is_initialized()):
        return ALONE
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        _asked(lambda: dist.init_process_group(timeout=PATIENCE))
        atexit.register(dist.destroy_process_group)
    return Together() if dist.get_world_size() > 1 else ALONE


def _asked(ask: Callable[[], T]) -> T:
    """What the others have to answer; raises Mistake where one of them is gone."""
    try:
        return ask()
    except (dist.DistError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise Mistake(
            f"another of the processes that train together has ended ({reason}); what was saved is intact: begin all "
            "of them again with --resume"
        ) from None
