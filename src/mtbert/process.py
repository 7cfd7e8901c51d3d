"""Settings of a whole process, made where one begins: in the commands, never in a library call."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of <malloc.h>


# how launchers such as torchrun tell processes of each other
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def number() -> int | None:
    """Which of the processes that a launcher has started together this is; None for one that began alone."""
    return int(os.environ["RANK"]) if all(name in os.environ for name in LAUNCHED) else None


def reuse_freed_memory(limit: int = 1 << 30) -> None:
    """Let the C library hand out large blocks again instead of returning them to the system after each use.

    Otherwise the gradient of the word embedding, tens of megabytes, is mapped and cleared page by page in every step, and so are the
    states of every batch that is predicted.
    Does nothing where the C library is not glibc. A program that trains through `mtbert.train` may call this once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, limit)
    mallopt(M_TRIM_THRESHOLD, limit)
