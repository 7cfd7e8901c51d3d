"""A logger hands what a run logs on to another program, while it trains."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake
from mtbert.training.trainer import Record


class Logger:
    """Is handed numbers by name. A logger overrides `write`, and `close` where something is to be closed.

    `folder` is its own, in the run's; `run` is the name of the run's folder; `step` the number of steps that the run
    has taken before.
    """

    def __init__(self, folder: Path, run: str, step: int) -> None:
        self.folder = folder
        self.run = run

    @classmethod
    def check(cls) -> None:
        """Raise Mistake where what it hands to is not installed; asked before a run begins."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Note these values at a step, counted on through the stages."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing more will come."""

    def record(self, step: int, record: Record) -> None:
        """An optimiser step has been taken."""
        terms = {f"{term}/{task}": value for task, by_term in record.terms.items() for term, value in by_term.items()}
        self.write(step, terms | {"train/lr": record.lr, "train/gradient_norm": record.gradient_norm})

    def scores(self, step: int, overall: float, tasks: Mapping[str, Mapping[str, float]]) -> None:
        """The model has been scored on the dev sets."""
        metrics = {
            f"dev/{task}/{metric}": value for task, by_metric in tasks.items() for metric, value in by_metric.items()
        }
        self.write(step, metrics | {"dev/overall": overall})


def needed(module: str, extra: str) -> Any:
    """A module of an extra; raises Mistake saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Mistake(f"`log: {extra}` needs the extra '{extra}': pip install 'mtbert[{extra}]'") from None
