"""The table of kinds of tasks, by their names in a recipe."""

from __future__ import annotations

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.multilabel import Multilabel
from mtbert.data.kinds.ordinal import Ordinal
from mtbert.data.kinds.regression import Regression
from mtbert.data.kinds.tokens import Tokens
from mtbert.registry import Registry

KINDS: Registry[Task] = Registry(
    "kind of task",
    {
        "classification": Classification,
        "regression": Regression,
        "ordinal": Ordinal,
        "multilabel": Multilabel,
        "tokens": Tokens,
    },
)
