"""The tables of methods, as a reader sees them."""

from __future__ import annotations

import inspect
from typing import Any

from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.tasks import KINDS
from mtbert.model.encoders import ENCODERS
from mtbert.model.heads import FEATURES, HEADS, POOLINGS
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.registry import Registry
from mtbert.schedules import SCHEDULES
from mtbert.training.gradients import COMBINERS
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.selection import SELECTORS
from mtbert.training.stages import KEEP_RULES
from mtbert.training.weighting import WEIGHTINGS

TABLES: dict[str, Registry[Any]] = {
    "encoders": ENCODERS,
    "kinds of task": KINDS,
    "poolings": POOLINGS,
    "pair features": FEATURES,
    "heads": HEADS,
    "task modules": TASK_MODULES,
    "samplers": SAMPLERS,
    "schedules": SCHEDULES,
    "optimizers": OPTIMIZERS,
    "regularizers": REGULARIZERS,
    "combiners": COMBINERS,
    "loss weightings": WEIGHTINGS,
    "keep rules": KEEP_RULES,
    "parts to train": SELECTORS,
}


def list_methods() -> dict[str, dict[str, str]]:
    """family -> method -> what it is, in a line, with its options and their defaults."""
    return {family: {name: _line(table, name) for name in table} for family, table in TABLES.items()}


def _line(table: Registry[Any], name: str) -> str:
    summary = (inspect.getdoc(table[name]) or "").split("\n\n")[0].replace("\n", " ")
    options = ", ".join(
        option if parameter.default is inspect.Parameter.empty else f"{option}={parameter.default}"
        for option, parameter in table.options(name).items()
    )
    return f"{summary} [{options}]" if options else summary
