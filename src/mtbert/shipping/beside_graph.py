"""What the script beside a graph needs to know of a task: how to read its texts, and how it decides."""

from __future__ import annotations

from typing import NamedTuple

from mtbert.data.kinds.base import Task
from mtbert.scoring.decisions import Decision

READ = {"kind", "text", "pairs", "segments", "classes", "range"}


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
    """A task as the script reads it, for a model with so many positions; what was decided on a run is obeyed."""
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
    fitted = (decision.threshold, decision.offsets, decision.thresholds)
    return {
        **task.model_dump(mode="json", include=READ),
        "symmetric": task.predicted_in_both_orders,
        "max_length": min(task.max_length, positions),
        "shares": shares,
        "says": says,
        "threshold": threshold,
        "decided": any(one is not None for one in fitted),  # on probabilities at the temperature
        "temperature": decision.temperature,
        "sure_from": decision.sure_from or 0.0,
        **({"ends": task.ends} if task.scored else {}),
    }
