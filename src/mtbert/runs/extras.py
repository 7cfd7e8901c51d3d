"""Libraries that only some commands need."""

from __future__ import annotations

import importlib
from types import ModuleType

from mtbert.errors import Mistake


def needed(library: str, extra: str) -> ModuleType:
    """A library of an extra; raises Mistake saying what to install where it is missing."""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise Mistake(f"this needs {library}: pip install 'mtbert[{extra}]'") from None
