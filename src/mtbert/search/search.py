"""Search over any keys of a recipe: trial after trial, each a run, by optuna's sampler and pruner, with a journal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.runs.extras import needed
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener, Listeners
from mtbert.runs.lock import locked
from mtbert.runs.log import Evaluation
from mtbert.runs.train import train_recipe
from mtbert.runs.writing import write_whole
from mtbert.scoring.evaluation import Scores
from mtbert.search.found import Finalist, Found
from mtbert.search.page import write_page
from mtbert.search.space import Dimension, read_space

JOURNAL, DECLARED, RECIPE, TRIALS, FINALISTS = "journal.log", "search.json", "recipe.yaml", "trials", "finalists"
UNTRIED = 5  # trials before any is pruned
TIME_IS_UP = "the end of the search's minutes"
BELOW_THE_MEDIAN = "median pruning"


@dataclass(frozen=True)
class Asked:
    """A search as a person asks for it."""

    recipe: Path
    space: Path
    trials: int
    minutes: float | None = None
    finalists: int = 3
    seeds: int = 3
    data: Path | None = None
    overrides: Sequence[str] = ()


def search(asked: Asked, out: Path, listener: Listener | None = None) -> Found:
    """Search, or go on with the search in the folder; its best recipe, a page and a journal lie there afterwards.

    Every trial is a run whose recipe differs in the keys of the space; what is cut off goes on from its checkpoint, and
    a trial is counted once. Raises Mistake for a space that does not fit the recipe, and for a folder that holds
    another search.
    """
    optuna = needed("optuna", "search")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    dimensions = read_space(asked.space)
    recipe = _recipe(asked, [])
    for dimension in dimensions:
        for assignment in dimension.outermost:
            try:
                _recipe(asked, [assignment])
            except Mistake as mistake:
                raise Mistake(f"{asked.space}: {assignment} makes no recipe: {mistake}") from None
    with locked(out):
        _declare(recipe, dimensions, out)
        return _Search(optuna, asked, recipe, dimensions, out, listener or Listener()).go()


class _Search:
    def __init__(
        self,
        optuna: Any,
        asked: Asked,
        recipe: Recipe,
        dimensions: Sequence[Dimension],
        folder: Path,
        listener: Listener,
    ) -> None:
        self._optuna, self._asked, self._recipe = optuna, asked, recipe
        self._dimensions, self._folder, self._listener = dimensions, folder, listener
        self._deadline = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
        journal = optuna.storages.journal
        self._study = optuna.create_study(
            storage=journal.JournalStorage(journal.JournalFileBackend(str(folder / JOURNAL))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNTRIED),
        )

    def go(self) -> Found:
        stopped = None
        while stopped is None and len(self._ended) < self._asked.trials:
            stopped = self._try(self._next())
        finalists: list[Finalist] = []
        for trial in [] if stopped else self._best:
            finalist, stopped = self._finalist(trial)
            if finalist is None:
                finalists = []
                break
            finalists.append(finalist)
        finalists.sort(key=lambda one: -one.mean)
        if finalists:
            write_whole(self._folder / "best.yaml", _recipe(self._asked, finalists[0].overrides).as_yaml())
        found = self._found(finalists, stopped)
        write_page(found, self._study, self._folder)
        return found

    @property
    def _states(self) -> Any:
        return self._optuna.trial.TrialState

    @property
    def _ended(self) -> list[Any]:
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @property
    def _best(self) -> list[Any]:
        whole = [trial for trial in self._ended if trial.state == self._states.COMPLETE]
        return sorted(whole, key=lambda trial: -trial.value)[: self._asked.finalists]

    def _next(self) -> Any:
        """The trial that was cut off, where there is one, or else a new one."""
        # a sampler of its own for every trial, so that an interrupted search draws what an uninterrupted one would
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == self._states.RUNNING:
                self._study.sampler = self._sampler(trial.number)
                return self._optuna.trial.Trial(self._study, trial._trial_id)
        self._study.sampler = self._sampler(len(self._ended))
        return self._study.ask()

    def _sampler(self, number: int) -> Any:
        return self._optuna.samplers.TPESampler(seed=(self._recipe.seed + number) % 2**32)

    def _try(self, trial: Any) -> str | None:
        """Run a trial to its end; why the search is to stop, where it was stopped on the way."""
        overrides = [dimension.draw(trial) for dimension in self._dimensions]
        run = Run(self._folder / TRIALS / f"{trial.number:04d}")
        told = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        pruning = _Pruning(trial, run, self._recipe.keep, told)
        self._listener.note(f"trial {trial.number}: {' '.join(overrides)}")
        try:
            stopped = self._train(overrides, run, [pruning])
        except Mistake as mistake:
            trial.set_user_attr("failure", str(mistake))
            self._study.tell(trial, state=self._states.FAIL)
            self._listener.note(f"trial {trial.number} failed: {mistake}")
            return None
        if stopped not in (None, BELOW_THE_MEDIAN):
            return stopped
        trial.set_user_attr("evaluations", len(list(run.log.only(Evaluation))))
        if stopped == BELOW_THE_MEDIAN:
            self._study.tell(trial, state=self._states.PRUNED)
        else:
            self._study.tell(trial, score_of(run, self._recipe.keep))
        run.remove_weights()
        return None

    def _finalist(self, trial: Any) -> tuple[Finalist | None, str | None]:
        overrides = [_override(dimension, trial.params) for dimension in self._dimensions]
        scores = [trial.value]
        for further in range(1, self._asked.seeds):
            name = f"{trial.number:04d}-{further}"
            done = self._folder / FINALISTS / f"{name}.json"
            if not done.exists():
                run = Run(self._folder / FINALISTS / name)
                self._listener.note(f"trial {trial.number} with seed {self._recipe.seed + further}")
                stopped = self._train([*overrides, f"seed={self._recipe.seed + further}"], run, [])
                if stopped is not None:
                    return None, stopped
                evaluations = len(list(run.log.only(Evaluation)))
                content = {"score": score_of(run, self._recipe.keep), "evaluations": evaluations}
                write_whole(done, json.dumps(content) + "\n")
                run.remove_weights()
            scores.append(json.loads(done.read_text(encoding="utf-8"))["score"])
        return Finalist(trial.number, overrides, scores), None

    def _train(self, overrides: Sequence[str], run: Run, others: Sequence[Listener]) -> str | None:
        late = _Deadline(self._deadline)
        told = Listeners([self._listener, *others, late])
        return train_recipe(_recipe(self._asked, overrides), run, resume=True, listener=told).stopped

    def _found(self, finalists: list[Finalist], stopped: str | None) -> Found:
        ended = self._ended
        several = (self._folder / FINALISTS).glob("*.json")
        scored = sum(trial.user_attrs.get("evaluations", 0) for trial in ended)
        scored += sum(json.loads(path.read_text(encoding="utf-8"))["evaluations"] for path in several)
        return Found(
            self._folder,
            self._recipe.keep,
            len(ended),
            sum(trial.state == self._states.PRUNED for trial in ended),
            sum(trial.state == self._states.FAIL for trial in ended),
            scored,
            finalists,
            stopped,
        )


class _Pruning(Listener):
    """Tells optuna every score, and ends a trial that is below the median of earlier ones."""

    def __init__(self, trial: Any, run: Run, measure: str, told: Mapping[int, float]) -> None:
        self._trial, self._run, self._measure = trial, run, measure
        self._told = set(told)  # evaluations that optuna knows already, from before a kill
        self._pruned = False

    def scores(self, scores: Scores, kept: bool) -> None:
        number = len(list(self._run.log.only(Evaluation)))
        if number not in self._told:
            self._told.add(number)
            self._trial.report(scores.measures[self._measure], number)
        self._pruned = self._trial.should_prune()

    def reason_to_stop(self) -> str | None:
        return BELOW_THE_MEDIAN if self._pruned else None


class _Deadline(Listener):
    def __init__(self, at: float | None) -> None:
        self._at = at

    def reason_to_stop(self) -> str | None:
        return TIME_IS_UP if self._at is not None and time.monotonic() > self._at else None


def score_of(run: Run, measure: str) -> float:
    """The dev score of a run's kept model by any measure of a recipe, of which more is better."""
    return Scores.of(run.recipe().tasks, run.scores["dev"]["tasks"]).measures[measure]


def _recipe(asked: Asked, overrides: Sequence[str]) -> Recipe:
    return read_recipe(asked.recipe, [*asked.overrides, *overrides], asked.data)


def _override(dimension: Dimension, params: Mapping[str, Any]) -> str:
    value = params[dimension.key]
    return f"{dimension.key}={value if isinstance(value, str) else repr(value)}"


def _declare(recipe: Recipe, dimensions: Sequence[Dimension], folder: Path) -> None:
    """Write down what is searched; raises Mistake where the folder holds something else."""
    asked = json.dumps({"recipe": recipe.as_yaml(), "space": [repr(one) for one in dimensions]}, indent=2) + "\n"
    path = folder / DECLARED
    if path.exists():
        if path.read_text(encoding="utf-8") != asked:
            raise Mistake(f"{folder} holds a search over another recipe or space; name another folder with --out")
        return
    strangers = sorted(one.name for one in folder.iterdir() if one.name != ".lock")
    if strangers:
        raise Mistake(f"{folder} holds no search (it holds {', '.join(strangers[:3])}); name another with --out")
    write_whole(path, asked)
