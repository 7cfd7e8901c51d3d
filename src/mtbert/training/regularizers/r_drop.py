"""R-Drop: two passes with different dropout masks should agree."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes


@dataclass(kw_only=True)
class RDrop(Regularizer):
    """Half the divergence between two passes with different dropout masks: R-Drop (Wu et al., 2021).

    The paper's loss is the mean over both passes; here it is that of the first, which has the same expectation. Exactly
    zero where the model has no dropout. For fine-tuning BERT the paper's weights are 0.1, 0.5 and 1.
    """

    def penalty(self, passes: Passes) -> Tensor:
        second: Tensor = passes.model(passes.batch)
        return passes.task.divergence(second, passes.clean.outputs).mean() / 2
