"""Event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mtbert.training.loggers.base import Logger, needed


class TensorBoard(Logger):
    """Event files in RUN/logs/tensorboard: `tensorboard --logdir RUN` shows losses, rates and scores (extra
    `tensorboard`).
    """

    @classmethod
    def check(cls) -> None:
        needed("tensorboard", "tensorboard")

    def __init__(self, folder: Path, run: str, step: int) -> None:
        super().__init__(folder, run, step)
        writer = needed("torch.utils.tensorboard", "tensorboard").SummaryWriter
        # what an interrupted run wrote behind the checkpoint that it goes on from is dropped
        self._writer = writer(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
