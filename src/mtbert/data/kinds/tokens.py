"""A label for each word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from mtbert.data.formats.base import Table
from mtbert.data.kinds.base import ReadLabels, curvature_of_softmax
from mtbert.data.kinds.class_scores import ClassScore, ClassScores, class_scores
from mtbert.data.kinds.imbalance import weighed_loss, weights_of
from mtbert.data.kinds.metrics import CLASSES, Metric
from mtbert.data.kinds.named_classes import NamedClasses
from mtbert.data.kinds.spans import OUTSIDE, PREFIXES, Scheme, Tags, shared
from mtbert.data.kinds.spelling import class_names_in, counted, listed
from mtbert.data.label_cells import ListCells
from mtbert.data.labels import Labels, Ragged
from mtbert.errors import Mistake
from mtbert.registry import Named

OF_SPANS = Metric(lambda predictions, labels: np.nan)  # which the task takes, not from single words
NO_LABEL = -1  # a target where no word stands


class Tokens(NamedClasses):
    """A label for each word: names, parts of speech, by cross-entropy. The first piece of a word carries its label
    (Devlin et al., 2019); the loss of a text is the mean over its words.

    Words and labels are lists of a row, texts that white space parts, or the columns of a CoNLL file. With
    `scheme: IOB2` or `BIOES` the labels are tags of spans, `O` and `B-PER`, checked against the scheme and scored by
    their spans as seqeval does; with `none` they are classes of words. Words beyond `max_length` get no label.

    `class_weights`, `focal` and `label_smoothing` are as for `classification`, of the labels of words.

    Source: Devlin et al., 2019, section 5.3, https://arxiv.org/abs/1810.04805
    Source: Tjong Kim Sang and Buchholz, 2000, https://doi.org/10.3115/1117601.1117631
    """

    usual = ("span_f1", "span_precision", "span_recall", "accuracy")
    reads_words = True
    target_type = torch.int64
    kind: Literal["tokens"] = "tokens"
    scheme: Scheme = "IOB2"
    pooling: Named = "words"

    @property
    def main(self) -> str:
        return self.metric or self._usual[0]

    @property
    def reported(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.main, *self._usual, *self.report)))

    @property
    def _usual(self) -> tuple[str, ...]:
        return ("accuracy", "macro_f1") if self.scheme == "none" else self.usual

    @model_validator(mode="after")
    def _one_text_and_its_tags(self) -> Self:
        if len(self.text) != 1:
            raise Mistake("a task of words reads one column: its words")
        if self.scheme != "none" and self.classes:
            if OUTSIDE not in self.classes:
                raise Mistake(f"the tags of {self.scheme} have '{OUTSIDE}' for words outside of spans")
            odd = self._tags.oddity()
            if odd:
                known = ", ".join(f"{prefix}-..." for prefix in PREFIXES[self.scheme])
                raise Mistake(f"'{odd}' is no tag of {self.scheme} (O, {known}); for other labels: `scheme: none`")
        return self

    def completed(self, cells: Mapping[str, int]) -> Self:
        names = class_names_in(cells)
        if len(names) < 2:
            raise Mistake(f"needs two or more different labels of words; the file holds {counted(cells)}")
        if self.scheme != "none":
            tags = Tags(names, self.scheme)
            if tags.oddity():
                known = ", ".join(f"{prefix}-..." for prefix in PREFIXES[self.scheme])
                none = "set `scheme`, to `none` for labels that mark no spans"
                raise Mistake(f"holds '{tags.oddity()}', which is no tag of {self.scheme} (O, {known}): {none}")
            names = tags.whole()
        return self.model_copy(update={"classes": names})

    def stand_in(self, cells: Mapping[str, int]) -> Self | None:
        made = super().stand_in(cells)
        return None if made is None else made.model_copy(update={"scheme": "none"})  # which the tags may not be of

    def read(self, table: Table, words: NDArray[np.int64] | None) -> ReadLabels:
        (column,) = self.label_columns
        cells = ListCells.of(table, column, " ")
        entries = cells.entries
        task = self if self.complete else self.found(entries.counted(), table.name, column)
        places, bad = [], {}
        for code, cell in enumerate(entries.distinct):
            try:
                places.append(task.read_label(cell))
            except Mistake as mistake:
                places.append(np.nan)
                bad[code] = str(mistake)
        labels = Ragged(np.array([*places, np.nan])[entries.codes], cells.starts)
        lost, at = np.flatnonzero(np.isnan(labels.flat)), dict[int, tuple[int, str]]()
        for row, entry in zip(cells.rows_of(lost), lost, strict=True):
            message = bad.get(int(entries.codes[entry]), "the label is missing")
            at.setdefault(int(row), (int(entry - cells.starts[row]), message))
        if task.scheme != "none":
            for row, found in task._tags.broken(labels).items():
                at.setdefault(row, found)
        wrong = {row: f"column '{column}': {message}" for row, message in cells.wrong.items()}
        wrong |= {row: f"column '{column}', word {word + 1}: {why}" for row, (word, why) in at.items()}
        missing = [int(row) for row in np.flatnonzero(cells.missing) if int(row) not in wrong]
        if words is not None:
            for row in np.flatnonzero((labels.lengths != words) & ~cells.missing):
                said = f"{labels.lengths[row]} labels for {words[row]} words of column '{self.text[0]}'"
                wrong.setdefault(int(row), f"column '{column}': {said}")
        proposal = task.proposal(entries.counted()) if bad else ""
        words_at = {row: word for row, (word, _) in at.items()}
        return ReadLabels(task, labels, wrong, missing, entries.counted(list(bad)), proposal, words_at)

    def strata(self, labels: Labels) -> NDArray[np.int64]:
        """Texts with a span, or a rarer label than the commonest, and those without."""
        common = self.constant(labels)
        return np.array([int((row != common).any()) for row in labels], dtype=np.int64)

    def stratum(self, number: int) -> str:
        return ("the commonest label alone", "other labels too")[number]

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()  # probabilities are those of words, not of a text

    def placed(self, outputs: Tensor, words: Tensor | None) -> Tensor:
        """Each word's logits behind a mark: 1 for a word, 0 for none, -1 for one beyond the end: (B, W, 1 + C)."""
        assert words is not None  # a batch of a task that reads words has them
        mark = words.sign().to(outputs.dtype)[:, :, None]
        return torch.cat([mark, outputs * (mark > 0)], dim=-1)

    def targets(self, labels: Labels) -> Tensor:
        """(N, W), NO_LABEL behind the last word."""
        return torch.from_numpy(_ragged(labels).padded(NO_LABEL).astype(np.int64))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs[:, : targets.shape[1]]  # texts without labels may be the longest of a batch
        seen = outputs[..., 0] > 0
        wanted = targets.where(seen, NO_LABEL)
        logits = outputs[..., 1:].float()
        if self.counts_all_alike:
            losses = F.cross_entropy(logits.mT, wanted, reduction="none", ignore_index=NO_LABEL)
        else:
            classes = wanted.clamp(min=0)  # of what is not seen: left out of the mean
            hot = F.one_hot(classes, logits.shape[-1])
            losses = weighed_loss(logits.log_softmax(-1), hot, classes, self._weights, self.focal, self.label_smoothing)
        return _mean(losses, seen)

    def learn_from(self, labels: Labels) -> None:
        self._weights = weights_of(self.class_weights, self.classes, _ragged(labels).flat)

    def divergence(self, outputs: Tensor, others: Tensor) -> Tensor:
        """The mean over the words of the symmetric Kullback-Leibler divergence, KL(p||q) + KL(q||p)."""
        log_p, log_q = (one[..., 1:].float().log_softmax(-1) for one in (outputs, others))
        return _mean(((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1), outputs[..., 0] > 0)

    def curvature(self, outputs: Tensor, tangent: Tensor) -> Tensor:
        """That of each word's softmax, by the number of words."""
        seen = outputs[..., 0] > 0
        moved = curvature_of_softmax(outputs[..., 1:], tangent[..., 1:])
        return F.pad(moved * (seen / _count(seen)[:, None])[..., None], (1, 0))

    def decode(self, outputs: Tensor) -> Labels:
        """The likeliest label of each word, nan for one beyond the end."""
        mark = outputs[..., 0].cpu().numpy()
        said = outputs[..., 1:].argmax(-1).double().cpu().numpy()
        there = mark != 0
        return Ragged.cut(np.where(mark > 0, said, np.nan)[there], there.sum(1))

    def mean_of(self, several: Sequence[Tensor]) -> Tensor:
        """Of the probabilities of each word's labels."""
        logarithms = torch.stack([outputs[..., 1:].float().log_softmax(-1) for outputs in several])
        return torch.cat([several[0][..., :1].float(), logarithms.logsumexp(0) - math.log(len(several))], -1)

    def say(self, prediction: Any) -> list[str]:
        unsaid = "" if self.scheme == "none" else OUTSIDE
        return [unsaid if np.isnan(one) else self.classes[int(one)] for one in prediction]

    @property
    def meaning(self) -> str:
        spans = self.scheme != "none"
        return f"{'spans' if spans else 'words'} of {listed(self._tags.types if spans else self.classes, 8)}"

    def answers(self, outputs: Tensor) -> list[str]:
        return [" ".join(self.say(one)) for one in self.decode(outputs)]

    def written(self, predictions: Labels) -> list[list[str]]:
        return [self.say(one) for one in predictions]

    @property
    def all_metrics(self) -> Mapping[str, Metric]:
        """Of the labels of words as of any classes, those of spans before."""
        return CLASSES if self.scheme == "none" else {**dict.fromkeys(self.usual[:3], OF_SPANS), **CLASSES}

    def metrics(self, predictions: Labels, labels: Labels) -> dict[str, float]:
        said, there = _ragged(predictions), _ragged(labels)
        spans = {} if self.scheme == "none" else self._span_metrics(said, there)
        tags = np.nan_to_num(said.flat, nan=len(self.classes))  # a word that nothing is said of is wrong
        return {
            name: spans[name] if name in spans else self.all_metrics[name].take(tags, there.flat)
            for name in self.reported
        }

    def _span_metrics(self, said: Ragged, there: Ragged) -> dict[str, float]:
        right, found, true = (len(spans) for spans in self._spans(said, there))
        return {name: float(value) for name, value in _of_spans(right, found, true).items()}

    def tallies(self, predictions: Labels, labels: Labels) -> NDArray[np.float64] | None:
        """Spans that are rightly found, found, and there; or words that are right, and all of them."""
        said, there = _ragged(predictions), _ragged(labels)
        if self.main == "accuracy":
            ends = np.concatenate([np.zeros(1), np.cumsum(said.flat == there.flat)])
            return np.stack([np.diff(ends[there.starts]), there.lengths], axis=1).astype(np.float64)
        if self.main not in self._span_metrics(said[:0], there[:0]):
            return None
        rows = [self._tags.rows_of(spans, there) for spans in self._spans(said, there)]
        return np.stack([np.bincount(some, minlength=len(there)) for some in rows], axis=1).astype(np.float64)

    def of_tallies(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.main == "accuracy":
            return np.asarray(sums[..., 0] / np.maximum(sums[..., 1], 1))
        right, found, true = np.moveaxis(sums, -1, 0)
        return np.asarray(_of_spans(right, found, true)[self.main])

    def class_scores(self, predictions: Labels, labels: Labels) -> ClassScores:
        """Of each type of spans, or of each class of words."""
        said, there = _ragged(predictions), _ragged(labels)
        if self.scheme == "none":
            return class_scores(self.classes, np.nan_to_num(said.flat, nan=len(self.classes)), there.flat)
        kinds = len(self._tags.types)
        right, found, true = (np.bincount(spans[:, 2], minlength=kinds) for spans in self._spans(said, there))
        rows = zip(self._tags.types, right.tolist(), found.tolist(), true.tolist(), strict=True)
        return ClassScores(
            [
                ClassScore(name, hits / max(some, 1), hits / max(all_, 1), 2 * hits / max(some + all_, 1), all_)
                for name, hits, some, all_ in rows
            ],
            None,
        )

    def constant(self, labels: Labels) -> float:
        """The commonest label."""
        return float(np.bincount(_ragged(labels).flat.astype(np.int64)).argmax())

    def constantly(self, learned: Labels, labels: Labels) -> Labels:
        there = _ragged(labels)
        return Ragged(np.full_like(there.flat, self.constant(learned)), there.starts)

    def constant_outputs(self, labels: Labels) -> Tensor:
        """Logarithms of the labels' shares, moved so that their mean is 0, each counted once more."""
        logits = np.log(np.bincount(_ragged(labels).flat.astype(np.int64), minlength=len(self.classes)) + 1)
        return torch.from_numpy(logits - logits.mean()).float()

    def describe_labels(self, labels: Labels) -> str:
        there = _ragged(labels)
        counts = np.bincount(there.flat.astype(np.int64), minlength=len(self.classes))
        said = listed([f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)])
        return f"{len(there.flat):,} words: {said}"

    def absent(self, labels: Labels) -> list[str]:
        """Classes of words, or tags of spans of which there is none: what a scheme has beside is nobody's wish."""
        counts = np.bincount(_ragged(labels).flat.astype(np.int64), minlength=len(self.classes))
        absent = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if self.scheme == "none":
            return absent
        there = Tags(tuple(name for name in self.classes if name not in absent), self.scheme)
        return [name for name in absent if name not in there.whole()]

    @cached_property
    def _tags(self) -> Tags:
        return Tags(self.classes, self.scheme)

    def _spans(self, said: Ragged, there: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The spans that are rightly found, found, and there."""
        found, true = self._tags.spans(said), self._tags.spans(there)
        return shared(found, true), found, true


def _of_spans(right: Any, found: Any, true: Any) -> dict[str, Any]:
    """From how many spans are rightly found, found, and there."""
    return {
        "span_f1": 2 * right / np.maximum(found + true, 1),
        "span_precision": right / np.maximum(found, 1),
        "span_recall": right / np.maximum(true, 1),
    }


def _ragged(labels: Labels) -> Ragged:
    assert isinstance(labels, Ragged)
    return labels


def _count(seen: Tensor) -> Tensor:
    return seen.sum(-1).clamp(min=1)


def _mean(values: Tensor, seen: Tensor) -> Tensor:
    """The mean over the words that are seen: (B, W) -> (B,)."""
    return values.where(seen, 0.0).sum(-1) / _count(seen)
