"""Recipes as files, one that goes on from another, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe


def recipe_file(folder: Path, text: str, like: str | None = None) -> Path:
    """A recipe of this text, or one beside it that says `like` it and then what else it says."""
    (folder / "base.yaml").write_text(text, encoding="utf-8")
    if like is None:
        return folder / "base.yaml"
    (folder / "own.yaml").write_text(f"like: base.yaml\n{like}", encoding="utf-8")
    return folder / "own.yaml"


def complaint(path: Path | dict[str, Any], *overrides: str) -> str:
    """The message with which a recipe is refused."""
    with pytest.raises(Mistake) as caught:
        read_recipe(path, overrides)
    return str(caught.value)
