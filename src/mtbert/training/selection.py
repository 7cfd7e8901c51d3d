"""Which parameters of a model a stage trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mtbert.model.multitask import MultiTask
from mtbert.registry import Registry


def everything(name: str) -> bool:
    """Every parameter."""
    return True


def heads(name: str) -> bool:
    """The tasks' heads."""
    return name.startswith("heads.")


def modules(name: str) -> bool:
    """The task modules."""
    return name.startswith("modules_by_task.")


SELECTORS: Registry[bool] = Registry("part to train", {"all": everything, "heads": heads, "modules": modules})


def select(model: MultiTask, parts: Sequence[str], frozen: Collection[str] = ()) -> list[str]:
    """Let these parts learn, but for the names that are `frozen`, and freeze the rest; the names of what learns."""
    chosen: list[Callable[[str], bool]] = [SELECTORS[part] for part in parts]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen and any(takes(name) for takes in chosen))
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def only_heads(names: Sequence[str]) -> bool:
    """Whether nothing in or before the encoder learns, so that what the heads read never changes."""
    return all(heads(name) for name in names)
