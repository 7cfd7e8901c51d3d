"""One of several classes in an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from mtbert.data.kinds.base import curvature_of_softmax
from mtbert.data.kinds.class_scores import ClassScores, class_scores
from mtbert.data.kinds.imbalance import weighed_loss, weights_of
from mtbert.data.kinds.metrics import ORDERED, Metric
from mtbert.data.kinds.named_classes import NamedClasses
from mtbert.data.kinds.spelling import (
    classes_of,
    counted,
    is_number,
    listed,
)
from mtbert.data.labels import Labels, plain
from mtbert.data.views import Confusion, Reliability, View
from mtbert.errors import Mistake
from mtbert.registry import Positive


class Ordinal(NamedClasses):
    """One of several classes in an order, from the lowest to the highest: stars, degrees, levels.

    With `method: corn` (Shi et al., 2021) logit k says whether the class lies above k, given that it is k at least; the
    loss is the negative logarithm of the class's probability, which is the paper's, a sum over the conditions that
    apply. With `cumulative` (McCullagh, 1980) logit k says whether the class lies above k at all, by one score and
    thresholds in ascending order (`head: thresholds`). With `soft` (Diaz and Marathe, 2019) the softmax learns a target
    in which the neighbours of the class have a share, e^(-sharpness * distance); with `plain` it learns the class
    alone, as classification does.

    The prediction of the first two is the median of the classes' probabilities, that of the others the likeliest class.
    `class_weights`, `focal` and `label_smoothing` are as for `classification`, of the probabilities of the classes.

    Classes that a recipe leaves out are the numbers in the training file; names have to be given in their order.

    Source: Shi et al., 2021, https://arxiv.org/abs/2111.08851
    Source: McCullagh, 1980, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x
    Source: Diaz and Marathe, 2019, https://doi.org/10.1109/CVPR.2019.00487
    """

    exclusive = True
    target_type = torch.int64
    kind: Literal["ordinal"] = "ordinal"
    miss = "classes away"
    usual = ("qwk", "accuracy", "off_by_one", "mean_absolute_error")
    method: Literal["corn", "cumulative", "soft", "plain"] = "corn"
    sharpness: Positive = 1.0

    @model_validator(mode="before")
    @classmethod
    def _usual_head(cls, given: Any) -> Any:
        return {"head": cls.usual_method("head", given), **given} if isinstance(given, Mapping) else given

    @classmethod
    def usual_method(cls, word: str, given: Mapping[str, Any]) -> Any:
        """Cumulative logits have one score and thresholds."""
        cumulative = word == "head" and given.get("method") == "cumulative"
        return "thresholds" if cumulative else super().usual_method(word, given)

    @model_validator(mode="after")
    def _fitting_head(self) -> Self:
        name = self.head if isinstance(self.head, str) else self.head.get("name")
        if self.ordered and name != "thresholds":
            raise Mistake(f"`method: cumulative` has one score and thresholds: `head: thresholds`, not '{name}'")
        return self

    @property
    def ordered(self) -> bool:
        return self.method == "cumulative"

    def completed(self, cells: Mapping[str, int]) -> Self:
        names = classes_of(cells)
        if not all(map(is_number, names)):
            raise Mistake(f"holds {counted(cells)}, in no order: name the `classes` from the lowest to the highest")
        return self.model_copy(update={"classes": names})

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """The classes themselves."""
        return plain(labels).astype(np.int64)

    def stratum(self, number: int) -> str:
        return self.classes[number]

    def misses(self, predictions: Labels, labels: Labels) -> NDArray[np.float64]:
        """How many classes away."""
        return np.abs(plain(predictions) - plain(labels))

    def views(self, outputs: Tensor, said: Labels, labels: Labels) -> Sequence[View]:
        classes, true = plain(said), plain(labels)
        shares = self._log_shares(outputs.double()).exp().cpu().numpy()
        taken = replace(Confusion.of(self.classes, classes, true), ordered=True)
        return taken, Reliability(shares[np.arange(len(classes)), classes.astype(np.int64)], classes == true)

    @property
    def width(self) -> float:
        return float(len(self.classes) - 1)

    @property
    def outputs(self) -> int:
        return len(self.classes) - (not self._by_softmax)

    def targets(self, labels: Labels) -> Tensor:
        return torch.from_numpy(plain(labels).astype(np.int64))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        log_p = self._log_shares(outputs)
        if self.counts_all_alike and not self._by_softmax:
            return -log_p.gather(-1, targets[:, None]).squeeze(-1)
        wanted = self._soft(targets) if self._by_softmax else F.one_hot(targets, len(self.classes))
        return weighed_loss(log_p, wanted, targets, self._weights, self.focal, self.label_smoothing)

    def learn_from(self, labels: Labels) -> None:
        self._weights = weights_of(self.class_weights, self.classes, plain(labels))

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """Symmetric Kullback-Leibler divergence of the classes' probabilities, KL(p||q) + KL(q||p)."""
        log_p, log_q = self._log_shares(outputs), self._log_shares(others)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        """J^T diag(p) J * tangent, with J the derivative of the logarithms of the classes' probabilities p."""
        z, t = outputs.float(), tangent.float()
        if self._by_softmax:
            return curvature_of_softmax(z, t)
        if self.method == "corn":  # each condition is a coin of its own, thrown as often as the class reaches it
            return self._reached(z).exp() * torch.sigmoid(z) * torch.sigmoid(-z) * t
        slope = torch.sigmoid(z) * torch.sigmoid(-z)
        moved = F.pad(slope * t, (1, 1))
        by_share = (moved[..., :-1] - moved[..., 1:]) / self._log_shares(z).exp().clamp(min=1e-30)
        return slope * (by_share[..., 1:] - by_share[..., :-1])

    def decode(self, outputs: Tensor) -> Labels:
        if self._by_softmax:
            return outputs.argmax(-1).double().cpu().numpy()
        above = outputs.float().sigmoid()
        if self.method == "corn":
            above = above.cumprod(-1)
        return (above > 0.5).sum(-1).double().cpu().numpy()

    def log_probabilities(self, outputs: Tensor) -> Tensor | None:
        return outputs.float().log_softmax(-1) if self._by_softmax else None

    def mean_of(self, several: Sequence[Tensor]) -> Tensor:
        """Of the classes' probabilities."""
        if self._by_softmax:
            return super().mean_of(several)
        above = [outputs.double().sigmoid() for outputs in several]  # that the class is a higher one than k
        if self.method == "cumulative":
            return torch.stack(above).mean(0).logit(eps=1e-15).float()
        mean = torch.stack([one.cumprod(-1) for one in above]).mean(0)  # each was on condition of the one before
        return (mean / F.pad(mean[..., :-1], (1, 0), value=1.0).clamp(min=1e-300)).logit(eps=1e-15).float()

    def probabilities(self, outputs: Tensor) -> dict[str, NDArray[np.float64]]:
        columns = self._log_shares(outputs.double()).exp().cpu().numpy().T
        return dict(zip(self.classes, columns, strict=True))

    def say(self, prediction: float) -> str:
        return self.classes[int(prediction)]

    @property
    def meaning(self) -> str:
        return " < ".join(self.classes) if len(self.classes) <= 8 else f"{self.classes[0]} to {self.classes[-1]}"

    def answers(self, outputs: Tensor) -> list[str]:
        sure = self._log_shares(outputs.double()).exp().cpu().numpy()
        return [f"{self.say(one)} ({sure[row, int(one)]:.0%})" for row, one in enumerate(plain(self.decode(outputs)))]

    def class_scores(self, predictions: Labels, labels: Labels) -> ClassScores:
        return class_scores(self.classes, plain(predictions), plain(labels))

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        return ORDERED

    def constant(self, labels: Labels) -> float:
        """The median, which is off by the least."""
        return float(np.quantile(plain(labels), 0.5, method="lower"))

    def constant_outputs(self, labels: Labels) -> Tensor:
        """Those of the classes' shares, each class counted once more, so that one without labels is no infinity."""
        counts = np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes)) + 1.0
        if self._by_softmax:
            shares = counts / counts.sum() @ self._soft(torch.arange(len(counts))).double().numpy()
            logits = np.log(shares) - np.log(shares).mean()
        else:
            above = counts[::-1].cumsum()[::-1][1:]
            logits = np.log(above / (counts[:-1] if self.method == "corn" else counts.sum() - above))
        return torch.from_numpy(logits).float()

    def describe_labels(self, labels: Labels) -> str:
        counts = np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes))
        return listed([f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)])

    def absent(self, labels: Labels) -> list[str]:
        counts = np.bincount(plain(labels).astype(np.int64), minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]

    @property
    def _by_softmax(self) -> bool:
        return self.method in ("soft", "plain")

    def _log_shares(self, outputs: Tensor) -> Tensor:
        """Logarithms of the classes' probabilities, nothing subtracted that is nearly equal: (B, classes)."""
        z = outputs if outputs.dtype == torch.float64 else outputs.float()
        if self._by_softmax:
            return z.log_softmax(-1)
        if self.method == "corn":  # the class is reached, and not left behind
            return torch.cat([self._reached(z) + F.logsigmoid(-z), F.logsigmoid(z).sum(-1, keepdim=True)], -1)
        low, high = z[..., :-1], z[..., 1:]  # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a))
        between = F.logsigmoid(low) + F.logsigmoid(-high) + torch.log(-torch.expm1(high - low))
        return torch.cat([F.logsigmoid(-z[..., :1]), between, F.logsigmoid(z[..., -1:])], -1)

    def _reached(self, z: Tensor) -> Tensor:
        """The logarithm of the probability that the class is k at least, for each logit k of CORN."""
        return F.pad(F.logsigmoid(z[..., :-1]).cumsum(-1), (1, 0))

    def _soft(self, targets: Tensor) -> Tensor:
        """What the softmax learns in the place of each class: (B,) -> (B, classes)."""
        if self.method == "plain":
            return F.one_hot(targets, len(self.classes)).float()
        distance = (torch.arange(len(self.classes), device=targets.device) - targets[:, None]).abs()
        return (-self.sharpness * distance.float()).softmax(-1)
