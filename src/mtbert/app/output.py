"""What a program reads: JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
