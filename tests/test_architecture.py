"""The house rule: imports point left."""

from __future__ import annotations

import ast
from pathlib import Path

import mtbert

SOURCE = Path(mtbert.__file__).parent

# a room may import itself and the rooms named here
MAY_IMPORT = {
    "errors": set(),
    "registry": {"errors"},
    "schedules": {"errors", "registry"},
    "data": {"errors", "registry", "schedules"},
    "model": {"errors", "registry", "schedules", "data"},
    "training": {"errors", "registry", "schedules", "data", "model"},
    "results": {"errors", "registry", "schedules", "data", "model"},
    "recipe_text": {"errors"},
    "demo": set(),
}
ON_TOP = {
    *("recipe", "methods", "experiment", "running", "growth", "check", "affinity", "conflict", "console", "cli"),
    *("__init__", "bench"),
}


def room(module: str) -> str:
    return module.removeprefix("mtbert").strip(".").split(".")[0] or "__init__"


def imports() -> list[tuple[str, str]]:
    found = []
    for path in SOURCE.rglob("*.py"):
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [(here, room(name)) for name in names if name.split(".")[0] == "mtbert"]
    return found


def test_every_room_is_known() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")}
    assert rooms == set(MAY_IMPORT) | ON_TOP


def test_imports_point_left() -> None:
    wrong = [
        (here, there) for here, there in imports() if here in MAY_IMPORT and there not in MAY_IMPORT[here] | {here}
    ]
    assert not wrong


def test_nothing_below_experiment_sees_a_recipe() -> None:
    assert not [(here, there) for here, there in imports() if there == "recipe" and here not in ON_TOP]
