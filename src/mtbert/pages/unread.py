"""What a page lacks because it could not be read, said also where the page is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from mtbert.runs.folder import Run

NOTES = logging.getLogger("mtbert")


def note_unread(run: Run, why: Iterable[str]) -> None:
    """Note in one line what of a run could not be read, each thing once; nothing where all of it could."""
    said = dict.fromkeys(line for one in why for line in one.splitlines())
    if said:
        NOTES.warning("%s could be read in part only, as its page says: %s", run.folder, "; ".join(said))
