"""A kind of task that mtbert does not have, as a person would add it: one file, and one line in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.metrics import Metric, mean_absolute_error, off_by_one
from mtbert.data.labels import Labels, plain
from mtbert.errors import Mistake


class Counts(Task):
    """How many there are, by the Poisson likelihood: the output is the logarithm of the expected number."""

    usual = ("off_by_one", "mean_absolute_error")
    kind: Literal["counts"] = "counts"
    most: int = 1000

    @property
    def complete(self) -> bool:
        return True

    def completed(self, cells: Mapping[str, int]) -> Self:
        return self

    def proposal(self, cells: Mapping[str, int]) -> str:
        return "write whole numbers"

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        return np.minimum(plain(labels), 1).astype(np.int64)

    @property
    def outputs(self) -> int:
        return 1

    def read_label(self, cell: object) -> float:
        text = str(cell).strip()
        if not text.isdecimal() or int(text) > self.most:
            raise Mistake(f"label '{cell}' is no whole number from 0 to {self.most}")
        return float(text)

    def targets(self, labels: Labels) -> Tensor:
        return torch.from_numpy(plain(labels)).float()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logarithm = outputs.float().squeeze(-1)
        return logarithm.exp() - targets * logarithm

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        x, y = outputs.float().squeeze(-1), others.float().squeeze(-1)
        return (x.exp() - y.exp()) * (x - y)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        return outputs.float().exp() * tangent.float()

    def decode(self, outputs: Tensor) -> Labels:
        return outputs.double().squeeze(-1).exp().round().clamp(max=self.most).cpu().numpy()

    def say(self, prediction: float) -> int:
        return int(prediction)

    @property
    def meaning(self) -> str:
        return "how many"

    def answers(self, outputs: Tensor) -> list[str]:
        return [f"{self.say(one)} of them" for one in plain(self.decode(outputs))]

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        return {"off_by_one": Metric(off_by_one), "mean_absolute_error": Metric(mean_absolute_error, "error")}

    def constant(self, labels: Labels) -> float:
        return float(np.median(plain(labels)).round())

    def constant_outputs(self, labels: Labels) -> Tensor:
        return torch.tensor([np.log(plain(labels).mean() + 1e-3)]).float()

    def describe_labels(self, labels: Labels) -> str:
        return f"{plain(labels).mean():.2f} on average"
