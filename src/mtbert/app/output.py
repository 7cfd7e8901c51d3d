"""What a program reads: JSON on standard output."""

from __future__ import annotations

import json
import math
from typing import Any

import typer


def print_json(content: Any) -> None:
    """Print it as any reader of JSON takes it: a number that is none, for which JSON has no word, is null."""
    typer.echo(json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
