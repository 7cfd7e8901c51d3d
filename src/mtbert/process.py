"""Settings of a whole process, made where one begins: in the commands, never in a library call."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of <malloc.h>

# how launchers such as torchrun tell processes of each other
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # what torchrun's report of a failure quotes


def number() -> int | None:
    """Which of the processes that a launcher has started together this is; None for one that began alone."""
    return int(os.environ["RANK"]) if all(name in os.environ for name in LAUNCHED) else None


def left_alone() -> bool:
    """Whether accelerate's launcher was asked for several processes and has started this one, as it does on a CPU."""
    return number() is None and {"ACCELERATE_USE_CPU", "MASTER_ADDR"} <= os.environ.keys()


def tell_launcher(message: str) -> None:
    """Leave what went wrong for the report of a launcher, which otherwise says that it knows no reason."""
    if ERROR_FILE in os.environ:
        with suppress(OSError):
            Path(os.environ[ERROR_FILE]).write_text(json.dumps({"message": message, "timestamp": int(time.time())}))


def reuse_freed_memory(limit: int = 1 << 30) -> None:
    """Let the C library hand out large blocks again instead of returning them to the system after each use.

    Otherwise the gradient of the word embedding, tens of megabytes, is mapped and cleared page by page in every step.
    Does nothing where the C library is not glibc. A program that trains through `mtbert.train` may call this once.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, limit)
    mallopt(M_TRIM_THRESHOLD, limit)


def return_freed_memory() -> None:
    """Have the C library give back to the system what is free in its heap, also between blocks that stay.

    A server meets batches of every shape, finds no place for the next one in what the last ones left, and would grow.
    Does nothing where the C library is not glibc.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def take_turns_often(seconds: float = 0.0005) -> None:
    """Let threads of Python wait for each other no longer than this.

    A model gives the interpreter up for every product and then wants it back: at Python's own 5 ms a thread that reads
    requests leaves a model of a hundred products a pass with nothing to do for half a second.
    """
    sys.setswitchinterval(seconds)


def keep_for_good() -> None:
    """Spare what is there now, such as libraries and models, from the search for garbage, which is then soon done.

    Otherwise what an error holds on to, such as a large request, is found only when very much of it has gathered.
    """
    gc.collect()
    gc.freeze()
