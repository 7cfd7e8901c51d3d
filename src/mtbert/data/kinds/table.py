"""The table of kinds of tasks, by their names in a recipe."""

from __future__ import annotations

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.registry import Registry

KINDS: Registry[Task] = Registry("kind of task", {"classification": Classification, "regression": Regression})
