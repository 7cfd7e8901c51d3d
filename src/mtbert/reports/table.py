"""Every report that is read from a run folder. Each is a command: `mtbert NAME RUN`.

A report is a module with a function `read(run) -> Report`, and a line here. The module is imported when its command
runs, so that `mtbert --help` stays quick.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtbert.reports.base import Report
    from mtbert.runs.folder import Run


@dataclass(frozen=True)
class Reader:
    """Where a report is made, and what its command says of itself."""

    module: str
    help: str

    def read(self, run: Run) -> Report:
        """The report on a run; raises Mistake where the run has not logged what the report needs."""
        report: Report = importlib.import_module(self.module).read(run)
        return report


REPORTS = {
    "info": Reader("mtbert.reports.info", "A run at a glance: tasks, progress, scores, sizes, versions."),
    "conflict": Reader(
        "mtbert.reports.conflict",
        "Which tasks of a run pulled against each other, and where: printed and drawn (needs `observe: conflict`).",
    ),
}
