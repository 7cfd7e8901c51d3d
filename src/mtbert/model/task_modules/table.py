"""The table of task modules, by their names in a recipe."""

from __future__ import annotations

from mtbert.model.task_modules.adapters import Adapter
from mtbert.model.task_modules.base import TaskModule
from mtbert.model.task_modules.lora import LoRA
from mtbert.model.task_modules.pals import LowRank, PALs
from mtbert.model.task_modules.relational import Relational
from mtbert.model.task_modules.vectors import LHUC, EmBERT, LayerNorm
from mtbert.registry import Registry

TASK_MODULES: Registry[TaskModule] = Registry(
    "task module",
    {
        "adapter": Adapter,
        "lhuc": LHUC,
        "pals": PALs,
        "low_rank": LowRank,
        "embert": EmBERT,
        "relational": Relational,
        "lora": LoRA,
        "layer_norm": LayerNorm,
    },
)
