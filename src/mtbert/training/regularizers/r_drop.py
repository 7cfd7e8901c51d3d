"""R-Drop: two passes with different dropout masks should agree."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.passes import Passes


@dataclass(kw_only=True)
class RDrop(Regularizer):
    """Half the divergence between two passes with different dropout masks: R-Drop (Wu et al., 2021).

    The paper adds up the losses of both passes; here it is that of the first, half of it in expectation, so that a
    weight here is half of the paper's alpha: 0.05, 0.25 and 0.5 for its 0.1, 0.5 and 1 in fine-tuning BERT. Exactly
    zero where the model has no dropout.
    """

    def penalty(self, passes: Passes) -> Tensor:
        second: Tensor = passes.model(passes.batch)
        return passes.task.divergence(second, passes.clean.outputs).mean() / 2
