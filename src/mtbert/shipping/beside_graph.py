"""What the script beside a graph needs to know of a task: how to read its texts, and how it decides."""

from __future__ import annotations

from typing import NamedTuple

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
}


def described(task: Task, positions: int, decision: Decision) -> dict[str, object]:
    """A task as the script reads it, for a model with so many positions; what was decided on a run is obeyed.

    `reads` holds, for each order of its texts, the places of those in each sequence; `temperatures` that of the
    probabilities that are told, and that of those by which is decided.
    """
    shares, says = SAYS[getattr(task, "method", task.kind)]
    threshold = getattr(task, "thresholds", None)
    if isinstance(threshold, dict):
        threshold = [threshold.get(name, 0.5) for name in task.class_names]
    if decision.threshold is not None:
        says, threshold = "second", decision.threshold
    elif decision.offsets is not None:
        says, threshold = "offset", [decision.offsets[name] for name in task.class_names]
    elif decision.thresholds is not None:
        threshold = [decision.thresholds[name] for name in task.class_names]
    # what nobody decided is said as the task says it by itself, whatever the temperature
    by_itself = all(one is None for one in (decision.threshold, decision.offsets, decision.thresholds))
    places = list(range(len(task.text)))
    orders = [places, places[::-1]] if task.predicted_in_both_orders else [places]
    return {
        **task.model_dump(mode="json", include=READ),
        "reads": [[[place] for place in order] if task.sequences == 2 else [order] for order in orders],
        "max_length": min(task.max_length, positions),
        "shares": shares,
        "says": says,
        "threshold": threshold,
        "temperatures": [decision.temperature, 1.0 if by_itself else decision.temperature],
        "sure_from": decision.sure_from or 0.0,
        **({"ends": task.ends} if task.scored else {}),
    }
