"""The table of loggers, by their names in a recipe: those here, and those that other packages bring.

A package brings a logger by an entry point of the group `mtbert.loggers`: its name is the recipe's word, its object a
class like `Logger`.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from mtbert.errors import Mistake
from mtbert.registry import Registry
from mtbert.training.loggers.base import Logger
from mtbert.training.loggers.mlflow import MLflow
from mtbert.training.loggers.tensorboard import TensorBoard

GROUP = "mtbert.loggers"


def brought(point: EntryPoint) -> type[Logger]:
    """The logger of another package; where that cannot be loaded, one that says so to the recipe that names it."""
    try:
        logger: type[Logger] = point.load()
    except Exception as error:  # of a package that nobody here knows
        said = f"logger '{point.name}' ({point.value}) cannot be loaded: {type(error).__name__}: {error}"

        class Unloadable(Logger):
            """A logger of another package that cannot be loaded."""

            @classmethod
            def check(cls) -> None:
                raise Mistake(said)

        return Unloadable
    return logger


LOGGERS: Registry[Logger] = Registry(
    "logger",
    {point.name: brought(point) for point in entry_points(group=GROUP)}
    | {"tensorboard": TensorBoard, "mlflow": MLflow},
)
