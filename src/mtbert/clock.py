"""How long work takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Call `work` once and return the seconds that it took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
