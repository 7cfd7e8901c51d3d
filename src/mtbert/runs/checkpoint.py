"""What training needs to go on after a kill: saved together in last/, read by a resumed run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mtbert.model.tensors import save_tensors
from mtbert.runs.folder import LAST, Run

STATE, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Facts:
    """The numbers of a checkpoint."""

    stage: int  # of the recipe's stages as they are run, counted from 0
    step: int  # optimiser steps that the stage has taken
    positions: dict[str, int]  # task -> batches that its stream has drawn
    keeper: dict[str, Any]  # what the stage's keep rule remembers
    baseline: dict[str, float] | None  # the measures that the stage's entry in the recipe began with
    log_size: int  # bytes of the log that belong to it


@dataclass(frozen=True)
class Checkpoint:
    """The numbers and the tensors of one instant of training."""

    facts: Facts
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, run: Run) -> Checkpoint | None:
        """The last one that the run saved, or None."""
        if not run.has(LAST):
            return None
        folder = run.part(LAST)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return cls(Facts(**facts), load_file(folder / STATE))

    def write(self, run: Run) -> None:
        """Put it in the place of the run's last one; a kill leaves either the old or the new one."""

        def write(folder: Path) -> None:
            save_tensors(self.tensors, folder / STATE)
            (folder / FACTS).write_text(json.dumps(asdict(self.facts), indent=2) + "\n", encoding="utf-8")

        run.replace(LAST, write)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors that were saved under 'name.', without it; none where the checkpoint has no such part."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}


def named(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under 'name.', as `Checkpoint.part` finds them."""
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}
