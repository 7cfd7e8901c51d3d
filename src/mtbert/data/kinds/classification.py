"""One of two or more classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mtbert.data.kinds.base import curvature_of_softmax
from mtbert.data.kinds.class_scores import ClassScores, class_scores
from mtbert.data.kinds.imbalance import weighed_loss, weights_of
from mtbert.data.kinds.metrics import BINARY, CLASSES, RANKED, Metric
from mtbert.data.kinds.named_classes import NamedClasses
from mtbert.data.kinds.spelling import classes_of, listed
from mtbert.data.labels import Labels, plain
from mtbert.data.views import Confusion, Reliability, View

SAID = 8  # classes that its meaning names


class Classification(NamedClasses):
    """One of two or more classes, by cross-entropy. Labels in files are class names, or their index where no class has
    a number for a name. True and false, in whatever case, and 1 and 0 are the same.

    Classes that a recipe leaves out are the labels of the training file, numbers in their order, names by the alphabet.

    `class_weights: balanced` lets every class count alike, however rare, and `{fraud: 10}` some of them more;
    `focal: 2` lets examples count less that are already told (Lin et al., 2017), and `label_smoothing: 0.1` spreads a
    part of the target over all classes (Szegedy et al., 2016).

    Binary tasks have two logits: a softmax over one logit would make every divergence exactly 0. A head with one logit
    (`one_logit`) gives it beside a second that is 0.

    Source: Lin et al., 2017, equation 4, https://arxiv.org/abs/1708.02002
    Source: Szegedy et al., 2016, section 7, https://arxiv.org/abs/1512.00567
    """

    usual = ("accuracy", "macro_f1")
    exclusive = True
    target_type = torch.int64
    kind: Literal["classification"] = "classification"

    def completed(self, cells: Mapping[str, int]) -> Self:
        return self.model_copy(update={"classes": classes_of(cells)})

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """The classes themselves."""
        return plain(labels).astype(np.int64)

    def stratum(self, number: int) -> str:
        return self.classes[number]

    def views(self, outputs: Tensor, said: Labels, labels: Labels) -> Sequence[View]:
        classes, true = plain(said), plain(labels)
        shares = outputs.double().softmax(-1).cpu().numpy()
        sure = shares[np.arange(len(classes)), classes.astype(np.int64)]
        return Confusion.of(self.classes, classes, true), Reliability(sure, classes == true)

    def targets(self, labels: Labels) -> Tensor:
        return torch.from_numpy(plain(labels).astype(np.int64))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.counts_all_alike:
            return F.cross_entropy(outputs.float(), targets, reduction="none")
        log_p = self.log_probabilities(outputs)
        wanted = F.one_hot(targets, log_p.shape[-1])
        return weighed_loss(log_p, wanted, targets, self._weights, self.focal, self.label_smoothing)

    def learn_from(self, labels: Labels) -> None:
        self._weights = weights_of(self.class_weights, self.classes, plain(labels))

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Symmetric Kullback-Leibler divergence, KL(p||q) + KL(q||p) (Jiang et al., 2020)."""
        log_p, log_q = self.log_probabilities(outputs), self.log_probabilities(others)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        return curvature_of_softmax(outputs, tangent)

    def decode(self, outputs: Tensor) -> NDArray[np.float64]:
        return outputs.argmax(-1).double().cpu().numpy()

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.float().log_softmax(-1)

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        columns = outputs.double().softmax(-1).cpu().numpy().T
        return dict(zip(self.classes, columns, strict=True))

    def say(self, prediction: float) -> str:
        return self.classes[int(prediction)]

    @property
    def meaning(self) -> str:
        more = f" and {len(self.classes) - SAID:,} more" if len(self.classes) > SAID else ""
        return ", ".join(self.classes[:SAID]) + more

    def answers(self, outputs: Tensor) -> list[str]:
        sure = outputs.double().softmax(-1).cpu().numpy()
        return [f"{self.say(one)} ({sure[row, int(one)]:.0%})" for row, one in enumerate(self.decode(outputs))]

    def class_scores(self, predictions: Labels, labels: Labels) -> ClassScores:
        return class_scores(self.classes, plain(predictions), plain(labels))

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        return {**CLASSES, **(BINARY if len(self.classes) in (0, 2) else {}), **RANKED}

    def constant(self, labels: Labels) -> float:
        return float(np.bincount(plain(labels).astype(np.int64)).argmax())

    def constant_outputs(self, labels: Labels) -> Tensor:
        """Logarithms of the classes' shares, moved so that their mean is 0: classes of equal size begin at 0.

        Each class is counted once more, so that one without labels is no infinity.
        """
        logits = np.log(np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes)) + 1)
        return torch.from_numpy(logits - logits.mean()).float()

    def describe_labels(self, labels: Labels) -> str:
        counts = np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes))
        return listed([f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)])

    def absent(self, labels: Labels) -> list[str]:
        counts = np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]
