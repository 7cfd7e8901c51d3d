"""The table of loggers, by their names in a recipe: those here, and those that other packages bring.

A package brings a logger by an entry point of the group `mtbert.loggers`: its name is the recipe's word, its object a
class like `Logger`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from mtbert.registry import Registry
from mtbert.training.loggers.base import Logger
from mtbert.training.loggers.mlflow import MLflow
from mtbert.training.loggers.tensorboard import TensorBoard

GROUP = "mtbert.loggers"

LOGGERS: Registry[Logger] = Registry(
    "logger",
    {point.name: point.load() for point in entry_points(group=GROUP)} | {"tensorboard": TensorBoard, "mlflow": MLflow},
)
