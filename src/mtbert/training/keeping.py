"""Keep rules: after each evaluation of a stage they decide whether its model is kept.

The kept model is the one that is saved as the run's best and that the next stage begins with. A stage's `keep:` in the
recipe names its rule. The recipe's own `keep:` names a measure instead, the score that rules judge by: 'overall' unless
it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mtbert.errors import Mistake, unknown
from mtbert.registry import Registry, Share

Measures = Mapping[
    str, float
]  # each task's main metric by the task's name, their 'overall' and 'mean', and `task.metric`


class KeepRule:
    """Decides after each evaluation whether the model is kept in place of the model kept before.

    `kept` holds the measures of the model that the stage begins with, `baseline` those of the model that the stage's
    entry in the recipe began with; both are None in a first stage. `tasks` are the stage's, and `measure` is the name
    of the measure that the recipe judges by.
    """

    needs_earlier_stage = False  # whether the rule compares with an earlier stage, and so cannot be in the first
    reverts = False  # whether training goes back to the kept model whenever a model is not kept

    def __init__(self, kept: Measures | None, baseline: Measures | None, tasks: Sequence[str], measure: str) -> None:
        self.kept = dict(kept or {})
        self.tasks = list(tasks)
        self.measure = measure

    def accepts(self, measures: Measures) -> bool:
        """Whether a model with these measures is to be kept."""
        raise NotImplementedError

    def take(self, measures: Measures) -> bool:
        """Decide on a model by its measures, and remember them if it is kept."""
        kept = self.accepts(measures)
        if kept:
            self.kept = dict(measures)
        return kept

    def facts(self) -> dict[str, Any]:
        """What the rule remembers, to be saved in a checkpoint."""
        return {"kept": self.kept}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.kept = dict(facts["kept"])


class Best(KeepRule):
    """Keep a model that is strictly better than the one kept so far, by `by` or else by the recipe's `keep`."""

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
    """Keep a model that is the best so far on any of the tasks, whatever it loses on the others.

    Source: report 'MultiBERT'
    """

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
    """Keep every model, so that the stage ends with the last of them."""

    def accepts(self, measures: Measures) -> bool:
        return True


class Threshold(KeepRule):
    """Keep a model that is better on the stage's own tasks and retains `share` of the baseline on every other task;
    undo the training since the kept model otherwise.

    The baseline is the model that the stage's entry in the recipe begins with, so this rule cannot be in the first
    stage. A task's score may fall to baseline - (1 - share) * |baseline|, which is below a negative baseline too. With
    `literal` it may fall to share * baseline, as the report writes it: a negative baseline is then itself not enough.

    Source: report 'MultiBERT'
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
        literal: bool = False,
    ) -> None:
        if kept is None or baseline is None:
            raise Mistake("keep rule 'threshold' compares with an earlier stage, and there is none before this one")
        super().__init__(kept, baseline, tasks, measure)
        others = {task: score for task, score in _by_task(baseline).items() if task not in tasks}
        self.floors = {
            task: share * score if literal else score - (1 - share) * abs(score) for task, score in others.items()
        }

    def accepts(self, measures: Measures) -> bool:
        before = sum(self.kept[task] for task in self.tasks)
        now = sum(measures[task] for task in self.tasks)
        return now > before and all(measures[task] >= floor for task, floor in self.floors.items())


KEEP_RULES: Registry[KeepRule] = Registry(
    "keep rule", {"best": Best, "any_task": AnyTask, "last": Last, "threshold": Threshold}
)


class Keeper:
    """Applies a stage's keep rule, and says when `patience` evaluations in a row have not been kept."""

    def __init__(self, rule: KeepRule, patience: int | None = None) -> None:
        self.rule = rule
        self.patience = patience
        self.waited = 0

    def take(self, measures: Measures) -> bool:
        """Whether the model with these measures is kept."""
        kept = self.rule.take(measures)
        self.waited = 0 if kept else self.waited + 1
        return kept

    def take_beside(self, measures: Measures) -> bool:
        """Whether another model of the evaluation taken last is kept: then that was none without a better one."""
        kept = self.rule.take(measures)
        self.waited = 0 if kept else self.waited
        return kept

    @property
    def satisfied(self) -> bool:
        """Whether the stage should stop, as its patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def facts(self) -> dict[str, Any]:
        """What keeper and rule remember, to be saved in a checkpoint."""
        return self.rule.facts() | {"waited": self.waited}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.rule.load(facts)
        self.waited = facts["waited"]


def _by_task(measures: Measures) -> dict[str, float]:
    """The measures of single tasks."""
    return {name: score for name, score in measures.items() if name not in ("overall", "mean") and "." not in name}
