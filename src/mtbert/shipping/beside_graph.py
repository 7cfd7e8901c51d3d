"""What the script beside a graph needs to know of a task: how to read its texts, and how it decides."""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

import numpy as np

from mtbert.data.kinds.base import Task
from mtbert.scoring.decisions import Decision

READ = {"kind", "text", "segments", "classes", "range"}


class Says(NamedTuple):
    """How outputs become probabilities, and these what is said: names of the tables in `standalone.py`."""

    shares: str | None
    says: str


# by the kind of a task, or its method where it has several
SAYS = {
    "classification": Says("softmax", "likeliest"),
    "soft": Says("softmax", "likeliest"),
    "plain": Says("softmax", "likeliest"),
    "corn": Says("corn", "median"),
    "cumulative": Says("cumulative", "median"),
    "multilabel": Says("sigmoid", "each"),
    "regression": Says(None, "score"),
    "tokens": Says(None, "words"),
}


def described(task: Task, positions: int, decision: Decision, alone: int = 0) -> dict[str, object]:
    """A task as the script reads it, for a model with so many positions; what was decided on a run is obeyed.

    `alone` is how many tokens of each text the original encoder reads by itself; 0 where the head asks for none.

    `reads` holds, for each order of its texts, the places of those in each sequence; `temperatures` that of the
    probabilities that are told, and that of those by which is decided; `by` the offsets of their logarithms, or their
    thresholds; `unsaid` what a word beyond the end is given.
    """
    shares, says = SAYS[getattr(task, "method", task.kind)]
    by: Any = getattr(task, "thresholds", 0.0)
    if isinstance(by, dict):
        by = [by.get(name, 0.5) for name in task.class_names]
    if decision.threshold is not None:
        says, by = "likeliest", _from(decision.threshold)
    elif decision.offsets is not None:
        says, by = "likeliest", [decision.offsets[name] for name in task.class_names]
    elif decision.thresholds is not None:
        by = [decision.thresholds[name] for name in task.class_names]
    # what nobody decided is said as the task says it by itself, whatever the temperature
    by_itself = all(one is None for one in (decision.threshold, decision.offsets, decision.thresholds))
    places = list(range(len(task.text)))
    orders = [places, places[::-1]] if task.predicted_in_both_orders else [places]
    return {
        **task.model_dump(mode="json", include=READ),
        "reads": [[[place] for place in order] if task.sequences == 2 else [order] for order in orders],
        "max_length": min(task.max_length, positions),
        "alone": alone,
        "shares": shares,
        "says": says,
        "by": by,
        "temperatures": [decision.temperature, 1.0 if by_itself else decision.temperature],
        "sure_from": decision.sure_from or 0.0,
        **({"ends": task.ends} if task.scored else {}),
        **({"unsaid": task.say([np.nan])[0]} if task.reads_words else {}),
    }


def _from(threshold: float) -> list[float]:
    """Offsets under which the second of two classes is the likeliest from this probability on."""
    first, second = (log(max(share, 1e-300)) for share in (threshold, 1 - threshold))
    return [first, second + 1e-12]  # where both are equally likely, the second is said
