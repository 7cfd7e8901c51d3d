"""Training and evaluation mode, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


def modes_of(*wholes: nn.Module) -> dict[nn.Module, bool]:
    """Each part -> whether it is in training mode."""
    return {part: part.training for whole in wholes for part in whole.modules()}


@contextmanager
def in_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """These modes, after which every part is in the mode it had, whatever happens."""
    before = {part: part.training for part in modes}
    try:
        _set(modes)
        yield
    finally:
        _set(before)


@contextmanager
def evaluating(*wholes: nn.Module) -> Iterator[None]:
    """Evaluation mode, after which every part is in the mode it had, whatever happens."""
    with in_modes(dict.fromkeys(modes_of(*wholes), False)):
        yield


def _set(modes: Mapping[nn.Module, bool]) -> None:
    for part, mode in modes.items():
        part.training = mode
