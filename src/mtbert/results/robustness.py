"""How much of a model's score survives typos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mtbert.data.batches import Examples
from mtbert.data.perturbation import perturbed
from mtbert.data.tables import Rows
from mtbert.data.tokenizer import Tokenizer
from mtbert.model.multitask import MultiTask
from mtbert.results.evaluation import Scores, evaluate


@dataclass(frozen=True)
class Robustness:
    """A model's scores on texts as they are and on the same texts perturbed."""

    clean: Scores
    perturbed: Scores

    @property
    def drop(self) -> dict[str, float]:
        """What each task's normalised main metric loses, and 'overall' their mean."""
        drops = {task: score - self.perturbed.normalised[task] for task, score in self.clean.normalised.items()}
        return {"overall": self.clean.overall - self.perturbed.overall, **drops}


def robustness(model: MultiTask, tokenizer: Tokenizer, rows: Mapping[str, Rows], seed: int = 0) -> Robustness:
    """Score a model on labelled rows of each task, and once more with typos and changed case in their texts."""
    changed = {task: perturbed(one, seed) for task, one in rows.items()}
    return Robustness(_score(model, tokenizer, rows), _score(model, tokenizer, changed))


def _score(model: MultiTask, tokenizer: Tokenizer, rows: Mapping[str, Rows]) -> Scores:
    positions = model.encoder.shape.positions
    return evaluate(
        model, {task: Examples.from_rows(model.tasks[task], one, tokenizer, positions) for task, one in rows.items()}
    )
