"""Batches answered in parallel: on a CPU one on each thread, so that no product waits for another thread's part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from typing import TypeVar

import torch

B = TypeVar("B")  # a batch, or a batch and whose it is
T = TypeVar("T")
AHEAD = 2  # batches that wait for each thread


def in_parallel(ask: Callable[[B], T], batches: Iterable[B], device: torch.device) -> Generator[tuple[B, T]]:
    """Each batch and what `ask` says of it, in the order of the batches; nothing is kept for gradients.

    On a CPU with several threads, as many batches are asked at a time, each on a thread of its own: a product that
    threads share waits for the slowest of them, and waits long where other programs want the cores too. `ask` has to
    allow for that, and the memory that it takes is taken for each thread. A single batch is shared among the threads;
    otherwise what is said does not depend on their number. Raises what `ask` raises.
    """
    coming = iter(batches)
    first = list(islice(coming, 2))  # enough to see whether there is more than one
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(first) < 2:
        for batch in chain(first, coming):
            yield batch, _asked(ask, batch)
        return
    casts, precision = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def begin() -> None:
        """Set what torch keeps for each thread by itself."""
        torch.get_num_threads()  # a thread that has not asked takes at its first product what was set last, anywhere
        torch.set_num_threads(1)
        # never left: to leave it would drop the rounded weights of all threads, which the caller's own block does
        ExitStack().enter_context(torch.autocast("cpu", precision, enabled=casts))

    asked: deque[tuple[B, Future[T]]] = deque()
    pool = ThreadPoolExecutor(threads, "answers", begin)
    try:
        for batch in chain(first, coming):
            asked.append((batch, pool.submit(_asked, ask, batch)))
            if len(asked) > AHEAD * threads:
                yield _next(asked)
        while asked:
            yield _next(asked)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what was set last, in any thread, is what a thread that begins later has


def _asked(ask: Callable[[B], T], batch: B) -> T:
    with torch.inference_mode():
        return ask(batch)


def _next(asked: deque[tuple[B, Future[T]]]) -> tuple[B, T]:
    batch, answer = asked.popleft()
    return batch, answer.result()
