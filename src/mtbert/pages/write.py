"""Pages into files: a run's page into its folder, and any page where a person says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtbert.errors import Mistake
from mtbert.pages.run_page import run_page
from mtbert.pages.side_by_side import side_by_side
from mtbert.runs.folder import BESIDE, PAGE, Run
from mtbert.runs.output import Output


def write_page(runs: Sequence[Run], out: Path | None = None, data: str | Path | None = None) -> Path:
    """Write the page of a run, or of several side by side, and return its path.

    Without `out` it lies in the folder of the first run. Raises Mistake where it cannot be written, for an `out` that a
    run wrote itself or that does not end in .html, and for a run whose recipe cannot be read.
    """
    first, *others = runs
    place = Output(out) if out is not None else None
    if place is not None and not place.streams and place.path.suffix.lower() not in (".html", ".htm"):
        raise Mistake(f"{out}: a page is HTML; let its name end in .html")
    page = side_by_side(runs, data) if others else run_page(first, data)
    if place is not None:
        place.write(page)
        return place.path
    name = BESIDE if others else PAGE
    try:
        first.write(name, page)
    except Mistake as error:
        raise Mistake(f"{error}; --out FILE.html writes the page elsewhere") from None
    return first.folder / name
