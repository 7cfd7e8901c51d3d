"""The rows of the five reports: what each prints, and the recipes that repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mtbert.errors import Mistake, unknown

PRINTED = Path(__file__).parent / "printed.yaml"
INSTALLED = Path(__file__).parent / "recipes"  # where a wheel has the repository's recipes/reports
Cells = Mapping[str, float]  # task, or `overall` -> what the report prints


@dataclass(frozen=True)
class Row:
    """A row of a report's table."""

    report: str
    row: str
    title: str  # as the report calls it
    table: str
    recipes: Sequence[str]  # the names of their files; several are one model a task
    dev: Cells
    test: Cells
    seconds: float | None  # an epoch, on the report's machine

    @property
    def name(self) -> str:
        """As a person asks for it: R1/split1_10ep."""
        return f"{self.report}/{self.row}"

    def files(self, folder: Path) -> dict[str, Path]:
        """The name of each recipe -> its file; raises Mistake where there is none."""
        found = {name: folder / self.report / f"{name}.yaml" for name in self.recipes}
        for path in found.values():
            if not path.is_file():
                raise Mistake(f"there is no recipe {path}; --recipes names a folder with one folder a report")
        return found


def shipped() -> Path:
    """The folder of the recipes that came with this installation, or that stand in its repository."""
    return INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[3] / "recipes" / "reports"


def rows() -> list[Row]:
    """All rows, report by report."""
    content = yaml.safe_load(PRINTED.read_text(encoding="utf-8"))
    return [
        Row(
            report,
            name,
            given["name"],
            given["table"],
            given.get("recipes", [name]),
            given.get("dev", {}),
            given.get("test", {}),
            given.get("seconds"),
        )
        for report, section in content.items()
        for name, given in section["rows"].items()
    ]


def chosen(asked: Sequence[str]) -> list[Row]:
    """The rows of these names, `R1` for all of a report; all rows where none is named.

    Raises Mistake for a name that there is not, with the nearest.
    """
    found = rows()
    for name in asked:
        valid = dict.fromkeys([*(row.report for row in found), *(row.name for row in found)])
        if name not in valid:
            report = name.partition("/")[0]
            near = [one for one in valid if one.startswith(f"{report}/")] or [one for one in valid if "/" not in one]
            raise Mistake(unknown("row", name, near))
    return [row for row in found if not asked or row.name in asked or row.report in asked]
