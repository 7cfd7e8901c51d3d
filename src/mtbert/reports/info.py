"""A run at a glance: what it trains, how far it is, what came of it, and on what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from mtbert.model.checkpoints import ENSEMBLE, ORIGINAL
from mtbert.recipe.schema import Recipe
from mtbert.reports.base import Report, grid, plain
from mtbert.runs.checkpoint import Facts, read_facts
from mtbert.runs.folder import BEST, LAST, LOG, Run
from mtbert.runs.lock import holder
from mtbert.runs.resume import CHANGES

SIZED = (BEST, f"{BEST}/{ORIGINAL}", LAST, LOG)  # best/original is the frozen copy that features beside the vector need


@dataclass(frozen=True)
class Info(Report):
    """What a run folder says of itself."""

    folder: str
    state: str  # finished, stopped, under way or cut off, in words
    finished: bool
    encoder: str
    stages: int
    stage: int | None  # counted from 0; None before the first checkpoint
    step: int | None  # of the stage
    steps: int | None  # that the stage has
    tasks: dict[str, dict[str, Any]]  # task -> kind, rows, and its main metric on dev
    overall: float | None
    sizes: dict[str, int]  # in bytes
    environment: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def shown(self) -> Iterable[RenderableType]:
        yield plain(f"{self.folder}: {self.state}")
        if self.stage is not None:
            yield plain(f"stage {self.stage + 1} of {self.stages}, step {self.step:,}" + self._of_steps)
        yield plain(f"encoder: {self.encoder}")
        columns = ["kind", "train rows", "dev rows", "metric", "dev score"]
        yield grid("task", columns, list(self.tasks), [list(map(_cell, one.values())) for one in self.tasks.values()])
        if self.overall is not None:
            yield plain(f"overall: {self.overall:z.4f}")
        yield plain("sizes: " + ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in self.sizes.items()))
        yield from map(plain, self._made_on)

    @property
    def _of_steps(self) -> str:
        return "" if self.steps is None else f" of {self.steps:,}"

    @property
    def _made_on(self) -> list[str]:
        here = self.environment
        versions = ", ".join(f"{name} {version}" for name, version in here.get("versions", {}).items())
        machine = [here.get(name) for name in ("device", "processor", "capability")]
        threads = f"{here.get('threads', '?')} threads"
        lines = [f"versions: {versions}", f"machine: {', '.join([*(str(one) for one in machine if one), threads])}"]
        changes = here.get(CHANGES, [])
        return [*lines, *(f"resumed with other {', '.join(change)}" for change in changes)]


def read(run: Run) -> Info:
    """What is to be known of a run; raises Mistake where a file that says it is damaged."""
    recipe, facts = run.recipe(), read_facts(run.part(LAST)) if run.has(LAST) else None
    scores = run.scores["dev"] if run.has(BEST) else None
    finished = facts is not None and _finished(recipe, facts)
    environment = run.environment
    return Info(
        folder=str(run.folder),
        state=_state(run, finished),
        finished=finished,
        encoder=recipe.encoder.name,
        stages=len(recipe.unrolled()),
        stage=None if facts is None else facts.stage,
        step=None if facts is None else facts.step,
        steps=None if facts is None else facts.steps,
        tasks={name: _task(recipe, name, environment.get("data", {}), scores) for name in recipe.tasks},
        overall=None if scores is None else scores["overall"],
        sizes={name: _size(run.folder / name) for name in SIZED if (run.folder / name).exists()},
        environment={name: value for name, value in environment.items() if name != "data"},
    )


def _finished(recipe: Recipe, facts: Facts) -> bool:
    stages = recipe.unrolled()
    patience = stages[-1][1].patience if facts.stage == len(stages) - 1 else None
    impatient = patience is not None and facts.keeper["waited"] >= patience
    return facts.stage == len(stages) - 1 and (facts.step == facts.steps or impatient)


def _state(run: Run, finished: bool) -> str:
    working = holder(run.folder)
    if working is not None:
        return f"under way: {working.removesuffix(',')}"
    if (run.folder / BEST / ENSEMBLE).exists():
        return "an ensemble of other runs"
    if finished:
        return "finished"
    reason = run.stopped
    return f"stopped by {reason}; --resume goes on" if reason else "cut off; --resume goes on"


def _task(
    recipe: Recipe, name: str, data: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Any] | None
) -> dict[str, Any]:
    task = recipe.tasks[name]
    found = {} if scores is None else scores["tasks"].get(name, {})
    rows = {split: data.get(f"{name}.{split}", {}).get("rows") for split in ("train", "dev")}
    return {"kind": task.kind, **rows, "metric": task.main, "score": found.get(task.main)}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:z.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _size(path: Path) -> int:
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in found)
