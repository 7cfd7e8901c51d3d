"""The libraries that mtbert is measured beside."""

from __future__ import annotations

import importlib
from types import ModuleType

from mtbert.errors import Mistake


def peer(name: str, package: str = "mtbert[bench]") -> ModuleType:
    """A peer's module; raises Mistake saying what to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Mistake(f"the comparison needs {name}: pip install '{package}'") from None
