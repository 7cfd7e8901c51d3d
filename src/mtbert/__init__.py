"""One small BERT, many text tasks.

    run = mtbert.train("recipe.yaml", data="data", out="RUN")
    model = mtbert.load("RUN")
    model.predict("similarity", [("a", "b")])
    mtbert.add_task("RUN", "new_task.yaml", out="RUN2")

Nothing heavy is imported before one of these is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbert.runs.add_task import add_task
    from mtbert.runs.train import train
    from mtbert.serving.predictor import Predictor

    load = Predictor.load

__all__ = ["add_task", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from mtbert.runs.train import train

        return train
    if name == "add_task":
        from mtbert.runs.add_task import add_task

        return add_task
    if name == "load":
        from mtbert.serving.predictor import Predictor

        return Predictor.load
    raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
