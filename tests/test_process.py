"""What a process asks of the C library."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

HOLES = """
import resource, sys
from mtbert.process import return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "returns":
    return_freed_memory()
bytearray(20 << 20)  # freed at once: the library learns that such blocks come and go
before = resident()
large, small = [], []
for _ in range(20):
    large.append(bytearray(5 << 20))
    small.append(bytearray(64 << 10))  # stays, between large ones
del large
print((resident() - before) >> 20)
"""


def grown(how: str) -> int:
    """Mebibytes that a process has kept after it freed a hundred of them, with small blocks in between."""
    return int(subprocess.run([sys.executable, "-c", HOLES, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="glibc alone does so"
)
def test_large_blocks_go_back_to_the_system_although_small_ones_between_them_stay() -> None:
    assert grown("keeps") > 80
    assert grown("returns") < 10
