"""What a stage keeps, and when it has had enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtbert.errors import Mistake, unknown
from mtbert.registry import Registry, Share

Measures = Mapping[str, float]  # a task's main metric under its name, and 'overall' and 'mean' of them all


class KeepRule:
    """Says of each evaluation whether its model is kept; the next stage begins from the model kept last.

    Made from the measures of the model that the stage begins with and of the one its baseline was taken from (none in a
    first stage), the stage's tasks, and the measure that the recipe judges by.
    """

    needs_earlier_stage = False  # whether it compares with one, so that it cannot be a recipe's first
    reverts = False  # whether training goes back to the model kept last after each one that was not kept

    def __init__(self, kept: Measures | None, baseline: Measures | None, tasks: Sequence[str], measure: str) -> None:
        self.kept = dict(kept or {})
        self.tasks = list(tasks)
        self.measure = measure

    def accepts(self, measures: Measures) -> bool:
        """Whether this model is to be kept."""
        raise NotImplementedError

    def take(self, measures: Measures) -> bool:
        """Judge one evaluation, and remember the measures of what is kept."""
        kept = self.accepts(measures)
        if kept:
            self.kept = dict(measures)
        return kept

    def facts(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint."""
        return {"kept": self.kept}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.kept = dict(facts["kept"])


class Best(KeepRule):
    """Keep a model that is strictly better than all before it, by `by` or else by the recipe's `keep`."""

    def __init__(
        self,
        kept: Measures | None,
        baseline: Measures | None,
        tasks: Sequence[str],
        measure: str,
        *,
        by: str | None = None,
    ) -> None:
        super().__init__(kept, baseline, tasks, by or measure)

    def accepts(self, measures: Measures) -> bool:
        if self.measure not in measures:
            raise Mistake(unknown("measure", self.measure, measures))
        return measures[self.measure] > self.kept.get(self.measure, -math.inf)


class AnyTask(KeepRule):
    """Keep a model that is the best so far on any of the tasks, whatever the others lose (report 'MultiBERT')."""

    def __init__(self, kept: Measures | None, baseline: Measures | None, tasks: Sequence[str], measure: str) -> None:
        super().__init__(kept, baseline, tasks, measure)
        self.best = dict(kept or {})

    def accepts(self, measures: Measures) -> bool:
        better = [task for task, score in _by_task(measures).items() if score > self.best.get(task, -math.inf)]
        self.best |= {task: measures[task] for task in better}
        return bool(better)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"best": self.best}

    def load(self, facts: Mapping[str, Any]) -> None:
        super().load(facts)
        self.best = dict(facts["best"])


class Last(KeepRule):
    """Keep every model, so that the stage ends with its last one."""

    def accepts(self, measures: Measures) -> bool:
        return True


class Threshold(KeepRule):
    """Keep a model that is better on the stage's own tasks and holds `share` of the baseline on every other one; undo
    any other (report 'MultiBERT').

    The baseline is the model that the recipe's entry begins with, so it comes after another stage. The floor of a task
    is baseline - (1 - share) * |baseline|, which lies below a negative baseline too.
    """

    needs_earlier_stage = True
    reverts = True

    def __init__(
        self,
        kept: Measures | None,
        baseline: Measures | None,
        tasks: Sequence[str],
        measure: str,
        *,
        share: Share = 0.9,
    ) -> None:
        if kept is None or baseline is None:
            raise Mistake("keep rule 'threshold' compares with an earlier stage, and there is none before this one")
        super().__init__(kept, baseline, tasks, measure)
        self.floors = {
            task: score - (1 - share) * abs(score) for task, score in _by_task(baseline).items() if task not in tasks
        }

    def accepts(self, measures: Measures) -> bool:
        before = sum(self.kept[task] for task in self.tasks)
        now = sum(measures[task] for task in self.tasks)
        return now > before and all(measures[task] >= floor for task, floor in self.floors.items())


KEEP_RULES: Registry[KeepRule] = Registry(
    "keep rule", {"best": Best, "any_task": AnyTask, "last": Last, "threshold": Threshold}
)


class Keeper:
    """Asks the rule of a stage; stops it after `patience` evaluations that were not kept."""

    def __init__(self, rule: KeepRule, patience: int | None = None) -> None:
        self.rule = rule
        self.patience = patience
        self.waited = 0

    def take(self, measures: Measures) -> bool:
        """Whether the model of this evaluation is kept."""
        kept = self.rule.take(measures)
        self.waited = 0 if kept else self.waited + 1
        return kept

    @property
    def satisfied(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def facts(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint."""
        return self.rule.facts() | {"waited": self.waited}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rule.load(facts)
        self.waited = facts["waited"]


def _by_task(measures: Measures) -> dict[str, float]:
    return {name: score for name, score in measures.items() if name not in ("overall", "mean")}
