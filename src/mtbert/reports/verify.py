"""Whether a run can be made again: its first steps replayed, and its kept model scored once more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from rich.console import RenderableType

from mtbert.errors import Mistake
from mtbert.model import files
from mtbert.model.checkpoints import load_model
from mtbert.model.frozen import FrozenModel
from mtbert.reports.base import Report, plain
from mtbert.runs.build import Experiment
from mtbert.runs.environment import bits_changes, data_changes, environment
from mtbert.runs.folder import BEST, LAST, Run
from mtbert.runs.log import Settled, Step
from mtbert.runs.resume import commit_then
from mtbert.runs.train import prepare
from mtbert.scoring.evaluation import evaluate


@dataclass(frozen=True)
class Verification(Report):
    """What was done again, and where it first came out otherwise."""

    steps: int  # of the first stage, replayed
    scored: bool  # whether the run has a kept model to score
    differences: list[str]  # the first one of each: data, steps, scores
    notes: list[str]  # what may explain them

    @property
    def equal(self) -> bool:
        """Whether everything came out as it was, to the last bit."""
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        return {"equal": self.equal, **asdict(self)}

    def shown(self) -> Iterable[RenderableType]:
        done = f"replayed {self.steps} steps" + (
            ", scored the kept model" if self.scored else ", no model was kept yet"
        )
        yield plain(f"{done}: {'equal' if self.equal else 'not equal'}")
        yield from map(plain, [*self.differences, *self.notes])


def verify(run: Run, steps: int = 3) -> Verification:
    """Replay the first steps of a run and score its kept model; raises Mistake where its files are damaged or gone."""
    for name in (BEST, LAST):
        if run.has(name):
            files.verify(run.part(name))
    logged = list(islice((line for line in run.log.only(Step) if line.stage == 0), steps))
    if not logged:
        raise Mistake(f"{run.folder} has logged no step yet")
    # of a stage that is minutes long: after which step it was found to have how many
    settled = {line.step: line.steps for line in run.log.only(Settled) if line.stage == 0}
    then = run.environment
    experiment = prepare(run.recipe(), commit=commit_then(run)).taught_in(run)
    now = environment(experiment.model, experiment.rows, experiment.tokenizer, experiment.commit)
    moved = bits_changes(then, now)
    found = [
        *data_changes(then.get("data", {}), now["data"]),
        *_first_step_that_differs(experiment, logged, settled),
        *(_first_score_that_differs(experiment, run) if run.has(BEST) else []),
    ]
    notes = [f"this is another environment ({'; '.join(moved)}), so that the last bits may differ"] if moved else []
    return Verification(len(logged), run.has(BEST), found, notes)


def _first_step_that_differs(experiment: Experiment, logged: list[Step], settled: Mapping[int, int]) -> list[str]:
    trainer = experiment.stage(0).trainer
    trainer.begin()
    for before in logged:
        if trainer.step in settled:
            trainer.settle(settled[trainer.step])
        record = trainer.take_step()
        differs = _first_difference(asdict(before), asdict(Step(0, **asdict(record))) | {"seconds": before.seconds})
        if differs:
            return [f"step {before.step}: {differs}"]
    return []


def _first_score_that_differs(experiment: Experiment, run: Run) -> list[str]:
    """Score the kept model as its stage did, on features computed once where that stage had them."""
    kept, _ = load_model(run.part(BEST))
    experiment.model.load_state_dict(kept.state_dict())
    prepared = experiment.stage(run.scores["stage"])
    trained = prepared.trainer.objective.model
    found = evaluate(trained if isinstance(trained, FrozenModel) else experiment.model, prepared.dev)
    differs = _first_difference(run.scores["dev"], found.as_dict())
    return [f"the kept model: {differs}"] if differs else []


def _first_difference(then: Any, now: Any, place: str = "") -> str:
    """Where two nested values first differ, and how; empty where they do not."""
    if isinstance(then, Mapping) and isinstance(now, Mapping) and then.keys() == now.keys():
        found = (_first_difference(then[key], now[key], f"{place}.{key}" if place else str(key)) for key in then)
        return next((one for one in found if one), "")
    return "" if then == now else f"{place} was {then} and is {now}"
