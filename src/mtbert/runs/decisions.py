"""How a run's tasks decide, kept with its model: written by `mtbert calibrate`, used by whatever loads the model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake, unknown
from mtbert.model.files import checked, naming, read_json, seal, verify, write_json
from mtbert.runs.folder import BEST, Run
from mtbert.runs.lock import locked
from mtbert.scoring.decisions import Decision, HeldOut

DECISIONS = "decisions.json"


@dataclass(frozen=True)
class Calibrated:
    """How a task decides, what was asked, and how that does on rows that it was not fitted on."""

    decision: Decision
    metric: str | None
    precision: float | None
    rows: int
    held_out: HeldOut


def read_decisions(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Calibrated]:
    """The decisions in the folder of a model with these tasks, task by task; none where nobody fitted any.

    Raises Mistake for damage, and for decisions of other tasks or classes.
    """
    path = folder / DECISIONS
    if not path.exists():
        return {}
    content = read_json(path)
    with naming(path):
        found: dict[str, Calibrated] = checked(dict[str, Calibrated], content, "")
        for name, one in found.items():
            if name not in tasks:
                raise Mistake(unknown("task", name, tasks))
            if not (tasks[name].exclusive or tasks[name].independent):
                raise Mistake(f"{name}: a task of kind {tasks[name].kind} does not say classes")
            if one.decision.threshold is not None and not tasks[name].binary:
                raise Mistake(f"{name}.decision.threshold is for two classes, not {len(tasks[name].class_names)}")
            for what, due in (("offsets", tasks[name].exclusive), ("thresholds", tasks[name].independent)):
                given: dict[str, float] | None = getattr(one.decision, what)
                if given is not None and not (due and given.keys() == set(tasks[name].class_names)):
                    raise Mistake(f"{name}.decision.{what} are not of its classes {', '.join(tasks[name].class_names)}")
    return found


def write_decisions(run: Run, decisions: Mapping[str, Calibrated]) -> None:
    """Put decisions beside the kept model of a run, in one step; those of other tasks stay.

    Raises Mistake where another process works there, and where what is there is damaged.
    """
    with locked(run.folder):
        best = run.part(BEST)
        verify(best)
        together = {**read_decisions(best, run.recipe().tasks), **decisions}
        content: dict[str, Any] = {
            name: asdict(one) | {"held_out": one.held_out._asdict()} for name, one in together.items()
        }

        def write(folder: Path) -> None:
            shutil.copytree(best, folder, dirs_exist_ok=True)
            write_json(content, folder / DECISIONS)
            seal(folder)

        run.replace(BEST, write)
