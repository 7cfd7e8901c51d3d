"""Switching parts of a model between training and evaluation mode, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


def modes_of(*wholes: nn.Module) -> dict[nn.Module, bool]:
    """Each module, submodules included -> whether it is in training mode."""
    return {part: part.training for whole in wholes for part in whole.modules()}


@contextmanager
def in_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Put each part into its mode inside the block; afterwards, even after an error, all are in the mode they had."""
    before = {part: part.training for part in modes}
    try:
        _set(modes)
        yield
    finally:
        _set(before)


@contextmanager
def evaluating(*wholes: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode inside the block; afterwards every part is in the mode it had.

    Unlike `eval()` and `train()`, this restores a model of which some parts were in another mode than the rest.

    >>> model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    >>> with evaluating(model):
    ...     model.training, model[1].training
    (False, False)
    >>> model.training, model[1].training
    (True, True)
    """
    with in_modes(dict.fromkeys(modes_of(*wholes), False)):
        yield


def _set(modes: Mapping[nn.Module, bool]) -> None:
    for part, mode in modes.items():
        part.training = mode
