"""What training needs to go on after a kill: saved together in last/, read by a resumed run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict
from torch import Tensor

from mtbert.model.files import checked, naming, read_json, read_tensors, seal, verify, write_json
from mtbert.model.tensors import save_tensors
from mtbert.runs.folder import LAST, Run

STATE, FACTS = "state.safetensors", "state.json"


Number = Annotated[int, Strict(), Field(ge=0)]
Part = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Kept:
    """What a stage's keeper remembers of the model kept last: its measures, and evaluations without a better one."""

    kept: dict[str, float]
    waited: Number


@dataclass(frozen=True)
class Facts:
    """The numbers of a checkpoint."""

    stage: Number  # of the recipe's stages as they are run, counted from 0
    step: Number  # optimiser steps that the stage has taken
    positions: dict[str, Number]  # task -> batches that its stream has drawn
    keeper: dict[str, Any]  # what the stage's keep rule remembers
    baseline: dict[str, float] | None  # the measures that the stage's entry in the recipe began with
    log_size: Number  # bytes of the log that belong to it
    steps: Number | None = None  # that the stage will have taken at its end; format 1 does not say
    since: Number = 0  # the step at which that was settled
    progress: Part = 0.0  # at that step
    spent: Seconds = 0.0  # that the stage has taken; of a stage that is `minutes` long


@dataclass(frozen=True)
class Checkpoint:
    """The numbers and the tensors of one instant of training."""

    facts: Facts
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, run: Run) -> Checkpoint | None:
        """The last one that the run saved, or None; raises Mistake where it is damaged."""
        if not run.has(LAST):
            return None
        folder = run.part(LAST)
        verify(folder)
        return cls(read_facts(folder), read_tensors(folder / STATE))

    def write(self, run: Run) -> None:
        """Put it in the place of the run's last one; a kill leaves either the old or the new one."""

        def write(folder: Path) -> None:
            save_tensors(self.tensors, folder / STATE)
            write_json(asdict(self.facts), folder / FACTS)
            seal(folder)

        run.replace(LAST, write)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors that were saved under 'name.', without it; none where the checkpoint has no such part."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}


def read_facts(folder: Path) -> Facts:
    """The numbers of the checkpoint in a folder; raises Mistake where they are damaged."""
    path = folder / FACTS
    content = read_json(path)
    with naming(path):
        facts: Facts = checked(Facts, content, "")
        checked(Kept, facts.keeper, "keeper")
    return facts


def named(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under 'name.', as `Checkpoint.part` finds them."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}
