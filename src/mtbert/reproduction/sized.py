"""A recipe of a report within a budget, where the budget is less than an epoch of it, too."""

from __future__ import annotations

from collections.abc import Mapping

from mtbert.comparison.budget import Budget, TooShort, lengths, spent, within
from mtbert.comparison.methods import Content
from mtbert.recipe.reading import read_recipe


def share_of_rows(content: Content, rows: Mapping[str, int], budget: Budget, name: str) -> float:
    """The share of every task's training rows that a budget leaves to a recipe: 1, unless it is less than an epoch.

    A sampler that takes the tasks one after the other needs a whole epoch. Where the budget is less, it is one over
    fewer rows of every task. How many rows fit into seconds is not known before a rate is measured: all are left.
    """
    if budget.currency == "seconds":
        return 1.0
    try:
        within(content, rows, budget, name)
    except TooShort:
        assert budget.amount is not None
        stages = lengths(read_recipe(content), rows)
        whole = spent(stages, budget.currency)
        share = min(1.0, *(budget.amount / whole * stage.steps / stage.epoch for stage in stages))
        return _fitting(share, content, rows, budget, name)
    return 1.0


def _fitting(share: float, content: Content, rows: Mapping[str, int], budget: Budget, name: str) -> float:
    """The share, or what is left of it where a task's last batch, which is not full, is more than the budget has."""
    while share * max(rows.values()) >= 1:
        try:
            within(with_share(content, rows, share), rows, budget, name)
        except TooShort:
            share *= 0.9
        else:
            break
    return share


def with_share(content: Content, rows: Mapping[str, int], share: float) -> Content:
    """A recipe with this share of the training rows that each task uses."""
    if share == 1:
        return content
    tasks = {}
    for name, task in content["tasks"].items():
        limits = task["limit"] if isinstance(task["limit"], dict) else {"train": task["limit"]}
        used = min(rows[name], limits.get("train") or rows[name])
        tasks[name] = {**task, "limit": {**limits, "train": max(1, int(used * share))}}
    return {**content, "tasks": tasks}
