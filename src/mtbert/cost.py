"""What work costs: its seconds, and the memory that the process has reached."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Call `work` once and return the seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_memory_gib() -> float | None:
    """The most resident memory that this process has had so far, in GiB; None on systems that do not keep count."""
    try:
        import resource
    except ImportError:  # Windows has no such module
        return None
    # kilobytes on Linux, bytes on a Mac
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
