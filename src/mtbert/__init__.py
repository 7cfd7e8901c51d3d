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
    from mtbert.growth import add_task
    from mtbert.results.predictions import Predictor
    from mtbert.running import train

    load = Predictor.load

__all__ = ["add_task", "load", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from mtbert.running import train

        return train
    if name == "add_task":
        from mtbert.growth import add_task

        return add_task
    if name == "load":
        from mtbert.results.predictions import Predictor

        return Predictor.load
    raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
