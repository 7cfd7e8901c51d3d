"""The house rule: imports point downward, through every room."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mtbert

SOURCE = Path(mtbert.__file__).parent

# every room, bottom first, and the rooms below it that it may import besides itself
FOUNDATIONS = {"errors", "registry", "schedules", "cost", "process"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "cost": set(),
    "process": set(),
    "registry": {"errors"},
    "schedules": {"errors", "registry"},
    "data": FOUNDATIONS,
    "model": FOUNDATIONS | {"data"},
    "training": FOUNDATIONS | {"data", "model"},
    "scoring": FOUNDATIONS | {"data", "model"},
    "recipe": FOUNDATIONS | {"data", "model", "training", "scoring"},
    "runs": FOUNDATIONS | {"data", "model", "training", "scoring", "recipe"},
    "reports": FOUNDATIONS | {"data", "model", "training", "scoring", "recipe", "runs"},
    "comparison": FOUNDATIONS | {"data", "model", "training", "scoring", "recipe", "runs", "reports"},
    "reproduction": FOUNDATIONS | {"data", "recipe", "runs", "reports", "comparison"},
    "serving": FOUNDATIONS | {"data", "model", "scoring", "recipe", "runs"},
    "server": FOUNDATIONS | {"data", "model", "serving"},
    "pages": FOUNDATIONS
    | {"data", "model", "training", "scoring", "recipe", "runs", "reports", "comparison"},
    "shipping": FOUNDATIONS | {"data", "model", "scoring", "recipe", "runs", "reports", "serving"},
    "bench": FOUNDATIONS | {"data", "model", "training", "scoring", "recipe", "runs", "serving", "shipping", "demo"},
    "start": FOUNDATIONS | {"data", "recipe"},
    "demo": set(),
    "__init__": {"runs", "serving"},
    "__main__": {"app"},
    "search": FOUNDATIONS | {"recipe", "runs", "scoring"},
    "app": FOUNDATIONS | {"data", "model", "training", "scoring", "recipe", "runs", "reports", "serving", "bench"}
    | {"comparison", "reproduction", "pages", "start", "demo", "shipping", "server", "search", "__init__"},
}  # fmt: skip


def room_of(module: str) -> str:
    return module.removeprefix("mtbert").strip(".").split(".")[0] or "__init__"


def imports_of(source: Path) -> list[tuple[str, str]]:
    """(module, module it imports) for every import of the package's own; relative ones are refused."""
    found = []
    for path in source.rglob("*.py"):
        here = ".".join(("mtbert", *path.relative_to(source).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [(here, name) for name in names if name.split(".")[0] == "mtbert"]
    return found


def upward(imports: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The imports that the rule forbids."""
    return [
        (here, there)
        for here, there in imports
        if room_of(there) != room_of(here) and room_of(there) not in MAY_IMPORT[room_of(here)]
    ]


def test_every_room_has_its_line() -> None:
    assert {room_of(".".join(path.relative_to(SOURCE).with_suffix("").parts)) for path in SOURCE.rglob("*.py")} == set(
        MAY_IMPORT
    )


def test_imports_point_downward() -> None:
    assert upward(imports_of(SOURCE)) == []


def test_the_rooms_have_an_order() -> None:
    order = list(TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError where they have none
    assert set(order) == set(MAY_IMPORT)


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for here, there in imports_of(SOURCE):
        graph.setdefault(here, set()).add(there)
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("training/trainer.py", "from mtbert.scoring.evaluation import evaluate"),
        ("data/batches.py", "from mtbert.model.encoder import Encoder"),
        ("runs/folder.py", "import mtbert.app.cli"),
        ("recipe/text.py", "def late():\n    from mtbert.runs.folder import Run"),
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    place = tmp_path / file
    place.parent.mkdir()
    place.write_text(line + "\n", encoding="utf-8")
    assert len(upward(imports_of(tmp_path))) == 1


def test_the_top_of_the_package_holds_little_beside_the_rooms() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= 7


def test_no_score_is_written_as_minus_zero() -> None:
    """`z` in a format makes 0.0000 of what rounds to -0.0000; there is no other way to write a score."""
    form = re.compile(r"[:{\"%][+]?,?\.[2346]f")
    written = {path: path.read_text(encoding="utf-8") for kind in ("*.py", "*.html") for path in SOURCE.rglob(kind)}
    assert [
        f"{path.relative_to(SOURCE)}: {found}" for path, text in written.items() for found in form.findall(text)
    ] == []
