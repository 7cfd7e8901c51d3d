"""The libraries of the extra `serve`, asked for when a server is to begin."""

from __future__ import annotations

import importlib
from types import ModuleType

from mtbert.errors import Mistake


def server_parts() -> ModuleType:
    """The module that serves; raises Mistake saying what to install where its libraries are missing."""
    try:
        return importlib.import_module("mtbert.server.run")
    except ImportError as error:
        raise Mistake(f"serving needs {error.name}: pip install 'mtbert[serve]'") from None
