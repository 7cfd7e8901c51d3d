"""Each kind of task: labels, loss, divergence, decoding and metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sklearn.metrics
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import rel_entr, softmax
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

from mtbert.data.formats.base import Table, row_numbers
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.regression import Regression
from mtbert.data.kinds.table import KINDS
from mtbert.data.labels import Labels, Ragged, plain, same
from mtbert.errors import Mistake
from mtbert.scoring.evaluation import Scores
from tests.support.toy_kind import Counts

Floats = NDArray[np.float64]


def classify(classes: Any = 5, **settings: Any) -> Task:
    return KINDS["classification"](**{"name": "mood", "text": "text", "label": "label", "classes": classes} | settings)


def score(low: float = 0, high: float = 5, **settings: Any) -> Task:
    return KINDS["regression"](**{"name": "near", "text": "text", "label": "label", "range": [low, high]} | settings)


def ordinal(method: str = "corn", classes: Any = 5, **settings: Any) -> Task:
    given = {"name": "stars", "text": "text", "label": "label", "classes": classes, "method": method}
    return KINDS["ordinal"](**given | settings)


def several(classes: Any = ("fun", "short", "old"), **settings: Any) -> Task:
    return KINDS["multilabel"](**{"name": "topics", "text": "text", "label": "label", "classes": classes} | settings)


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def of_words(classes: Any = TAGS, **settings: Any) -> Task:
    return KINDS["tokens"](**{"name": "ner", "text": "words", "label": "tags", "classes": classes} | settings)


THREE = [0.0, 2, 1, 2, 1, 0, 2, 1]
# a task of every kind and every way that a kind has, and labels of eight rows
EXAMPLES: dict[str, tuple[Task, Labels]] = {
    "classification": (classify(["low", "mid", "high"]), np.array(THREE)),
    "regression": (score(-1, 4), np.array([0, 3.5, -1, 4, 1, 2, 0.25, 3])),
    "ordinal": (ordinal(classes=3), np.array(THREE)),
    "ordinal, cumulative": (ordinal("cumulative", 3), np.array(THREE)),
    "ordinal, soft": (ordinal("soft", 3), np.array(THREE)),
    "ordinal, plain": (ordinal("plain", 3), np.array(THREE)),
    "multilabel": (several(), np.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]] * 2)),
    "tokens": (of_words(), Ragged.of([[0, 1, 2], [3], [0, 0, 3, 4, 4], [1, 3], [0], [0, 1], [3, 3, 1], [0, 0]])),
    "tokens, classes": (
        of_words(["DET", "NOUN"], scheme="none"),
        Ragged.of([[0, 1], [1], [0, 1, 1], [0], [1, 1], [0, 1], [1, 0, 1], [1]]),
    ),
    "a new kind": (Counts(name="n", text=("text",), label="n"), np.array([0.0, 3, 1, 7, 2, 2, 0, 1])),
}


def example(kind: str) -> tuple[Task, Labels]:
    return EXAMPLES[kind]


def outputs_for(task: Task, count: int, seed: int = 0) -> torch.Tensor:
    """Random outputs, each within what the kind can have: thresholds descend, words have a mark."""
    generator = torch.Generator().manual_seed(seed)
    if task.reads_words:
        _, labels = next(pair for pair in EXAMPLES.values() if pair[0] is task)
        assert isinstance(labels, Ragged)
        counts = torch.from_numpy(labels.lengths).repeat(-(-count // len(labels)))[:count]
        words = (torch.arange(int(counts.max())) < counts[:, None]).long()
        return task.placed(torch.randn(*words.shape, task.outputs, generator=generator), words)
    outputs = torch.randn(count, task.outputs, generator=generator)
    return outputs.sort(-1, descending=True).values if task.ordered else outputs


def test_every_kind_has_an_example() -> None:
    assert {name.split(",")[0] for name in EXAMPLES} == {*KINDS, "a new kind"}


def test_texts_with_other_labels_than_the_commonest_are_told_apart_in_words() -> None:
    task, labels = example("tokens")
    alone = [set(row) <= {0} for row in ([0, 1, 2], [3], [0, 0, 3, 4, 4], [1, 3], [0], [0, 1], [3, 3, 1], [0, 0])]
    said = [task.stratum(int(number)) for number in task.strata(labels)]
    assert said == ["the commonest label alone" if one else "other labels too" for one in alone]


# ---- what holds for every kind


@pytest.mark.parametrize("kind", EXAMPLES)
def test_divergence_is_zero_from_itself_positive_from_others_and_symmetric(kind: str) -> None:
    task, _ = example(kind)
    one, other = outputs_for(task, 50), outputs_for(task, 50, seed=1)
    assert torch.equal(task.divergence(one, one), torch.zeros(50))
    assert (task.divergence(one, other) > 0).all()
    assert torch.equal(task.divergence(one, other), task.divergence(other, one))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_losses_and_divergences_are_one_per_example_and_do_not_mix_examples(kind: str) -> None:
    task, labels = example(kind)
    outputs, others = outputs_for(task, len(labels)), outputs_for(task, len(labels), seed=1)
    targets = task.targets(labels)
    losses, divergences = task.losses(outputs, targets), task.divergence(outputs, others)
    assert losses.shape == divergences.shape == (len(labels),)
    for i in range(len(labels)):
        here = slice(i, i + 1)
        torch.testing.assert_close(task.losses(outputs[here], targets[here])[0], losses[i])
        torch.testing.assert_close(task.divergence(outputs[here], others[here])[0], divergences[i])


@pytest.mark.parametrize("kind", EXAMPLES)
def test_losses_and_divergences_are_computed_in_float32(kind: str) -> None:
    task, labels = example(kind)
    outputs = outputs_for(task, len(labels)).bfloat16()
    assert task.losses(outputs, task.targets(labels)).dtype == torch.float32
    assert task.divergence(outputs, outputs.flip(0)).dtype == torch.float32


@pytest.mark.parametrize("kind", EXAMPLES)
def test_descending_the_loss_finds_the_labels(kind: str) -> None:
    task, labels = example(kind)
    fixed = 0 * outputs_for(task, len(labels))  # outputs of 0, with the marks of words; thresholds a step of 2 apart
    if task.reads_words:
        fixed[..., 0] = outputs_for(task, len(labels))[..., 0]
    if task.ordered:
        fixed += torch.arange(task.outputs - 1, -task.outputs, -2)
    free = torch.zeros_like(fixed[..., :1] if task.ordered else fixed, requires_grad=True)
    targets = task.targets(labels)
    for _ in range(300):
        (slope,) = torch.autograd.grad(task.losses(fixed + free, targets).sum(), free)
        free = (free - 0.2 * slope).detach().requires_grad_()
    found = task.decode((fixed + free).detach())
    assert same(found, labels).all() or np.allclose(plain(found), plain(labels), atol=1e-5)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_perfect_predictions_score_one(kind: str) -> None:
    task, labels = example(kind)
    metrics = task.metrics(labels, labels)
    assert next(iter(metrics)) == task.main
    assert task.normalised(metrics) == pytest.approx(1)
    assert all(isinstance(value, float) for value in metrics.values())


@pytest.mark.parametrize("kind", EXAMPLES)
def test_the_constant_prediction_is_a_label_and_scores_less_than_one(kind: str) -> None:
    task, labels = example(kind)
    constant = task.constant(labels)
    metrics = task.metrics(task.constantly(labels, labels), labels)
    numbers = labels.flat if isinstance(labels, Ragged) else labels
    assert numbers.min() <= constant <= numbers.max()
    assert all(math.isfinite(value) for value in metrics.values())
    assert 0 <= task.normalised(metrics) < 1


@pytest.mark.parametrize("kind", EXAMPLES)
def test_decoded_predictions_are_labels_that_can_be_said_and_read_again(kind: str) -> None:
    task, _ = example(kind)
    decoded = task.decode(5 * outputs_for(task, 40) if not task.reads_words else outputs_for(task, 40))
    assert len(decoded) == 40
    said = [task.say(prediction) for prediction in decoded]
    column = pa.table({"text": ["a"] * 40, "label": said, "tags": said, "words": said, "n": said})
    lengths = decoded.lengths if isinstance(decoded, Ragged) else None
    if kind == "tokens":  # random tags break the scheme
        assert [[task.read_label(tag) for tag in tags] for tags in said] == [row.tolist() for row in decoded]
        return
    again = task.read(Table("t", column, column.column_names, [], row_numbers, typed=True), lengths)
    assert not again.wrong
    assert same(again.labels, decoded).all()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_probabilities_are_of_the_classes_and_favour_the_decoded_one(kind: str) -> None:
    task, _ = example(kind)
    outputs = outputs_for(task, 40)
    columns = task.probabilities(outputs)
    assert list(columns) == list(task.class_names)
    if not task.exclusive:
        assert all(((column >= 0) & (column <= 1)).all() for column in columns.values())
        return
    table = np.stack(list(columns.values()), axis=1)
    np.testing.assert_allclose(table.sum(1), 1)
    decoded = plain(task.decode(outputs)).astype(int)
    median = (table.cumsum(1) < 0.5).sum(1)
    assert decoded.tolist() == (median if task.ordered or kind == "ordinal" else table.argmax(1)).tolist()
    assert [list(columns)[i] for i in decoded] == [task.say(i) for i in decoded]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_curvature_is_half_the_hessian_of_the_divergence(kind: str) -> None:
    task, _ = example(kind)
    outputs = outputs_for(task, 3)
    tangent = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    found = task.curvature(outputs, tangent)
    assert found.shape == outputs.shape
    step = 1e-2  # along the tangent the divergence is tangent F tangent, to third order
    along = tangent.clone()
    if task.reads_words:
        along[..., 0] = 0  # the mark stays
    moved = [outputs + step * along, outputs - step * along]
    rise = sum(task.divergence(one, outputs).double() for one in moved) / (2 * step**2)
    through = (found.double() * along.double()).flatten(1).sum(1)
    torch.testing.assert_close(rise, through, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_head_begins_where_no_other_constant_outputs_have_less_loss(kind: str) -> None:
    task, labels = example(kind)
    start = task.constant_outputs(labels)
    assert start.shape == (task.outputs,)
    targets = task.targets(labels)

    def loss(one: Tensor) -> float:
        if task.reads_words:
            words = (targets >= 0).long()
            return float(task.losses(task.placed(one.expand(*words.shape, -1), words), targets).mean())
        return float(task.losses(one.expand(len(labels), -1), targets).mean())

    generator = torch.Generator().manual_seed(3)
    others = [start + 0.8 * torch.randn(start.shape, generator=generator) for _ in range(20)]
    better = [one for one in others if loss(one.sort(descending=True).values if task.ordered else one) < loss(start)]
    assert len(better) <= 2  # each class is counted once more, which costs a little


@pytest.mark.parametrize("kind", [kind for kind in EXAMPLES if example(kind)[0].kind not in ("multilabel", "tokens")])
@pytest.mark.parametrize("cell", ["nothing of the kind", "", None, "nan", "-17", "1e400", True])
def test_a_cell_that_is_no_label_is_shown(kind: str, cell: object) -> None:
    with pytest.raises(Mistake, match=f"(?i)label '{cell}'"):
        example(kind)[0].read_label(cell)


# ---- classification


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    # closed forms, methods.md 10
    [
        ([0.5, 0.5], [0.9, 0.1], 0.87888983),
        (softmax([1, 2, 3]), softmax([1.5, 1.5, 3]), 0.07734895),
        ([1 - 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-0.5))], [1 / (1 + math.exp(-0.3)), 0.425557483], 0.15752148),
    ],
)
def test_divergence_of_classes_is_the_symmetric_kullback_leibler(p: Any, q: Any, expected: float) -> None:
    divergence = classify(len(p)).divergence(torch.log(torch.tensor([[*p]])), torch.log(torch.tensor([[*q]])) + 7)
    assert divergence.item() == pytest.approx(expected, abs=1e-6)
    assert divergence.item() == pytest.approx(rel_entr(p, q).sum() + rel_entr(q, p).sum(), abs=1e-6)


def test_divergence_of_tiny_changes_survives_float32() -> None:
    logits, change = torch.tensor([[1.0, -0.5, 0.25]]), torch.tensor([[1e-3, -2e-3, 5e-4]])
    p = softmax(logits.double().numpy()[0])
    # to second order the symmetric divergence is the variance of the change under p
    d = change.double().numpy()[0]
    expected = (p * d**2).sum() - (p * d).sum() ** 2
    assert classify(3).divergence(logits, logits + change).item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("classes", [2, 3, 5, 17])
def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes(classes: int) -> None:
    task = classify(classes)
    losses = task.losses(torch.zeros(4, classes), task.targets(np.array([0.0, 1, 1, 0])))
    torch.testing.assert_close(losses, torch.full((4,), math.log(classes)))
    assert math.log(5) == pytest.approx(1.609438, abs=1e-6)


def test_cross_entropy_of_two_logits_is_the_binary_one_of_their_difference() -> None:
    task = classify(2)
    losses = task.losses(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), task.targets(np.array([1.0, 1.0])))
    torch.testing.assert_close(losses, torch.tensor([0.693147, 0.126928]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("classes", "cell", "expected"),
    [
        (["low", "mid", "high"], "mid", 1),
        (["low", "mid", "high"], " high ", 2),
        (["low", "mid", "high"], "2", 2),
        (["low", "mid", "high"], 0, 0),
        (["low", "mid", "high"], 1.0, 1),
        (5, "3", 3),
        (5, 3, 3),
        (2, "1.0", 1),
        (2, 0.0, 0),
        ([1, 2, 3], "1", 0),  # the name before the index
        ([1, 2, 3], 3.0, 2),
        (["yes", "no"], "no", 1),
    ],
)
def test_labels_are_class_names_or_their_index(classes: Any, cell: object, expected: int) -> None:
    assert classify(classes).read_label(cell) == expected


@pytest.mark.parametrize(
    ("classes", "cell", "words"),
    [
        (["low", "high"], "middle", "label 'middle' is not one of low, high, nor an index from 0 to 1"),
        (["low", "high"], "2", "label '2' is not one of low, high, nor an index"),
        (["low", "high"], "0.5", "label '0.5'"),
        (["low", "high"], "-1", "label '-1'"),
        (["low", "high"], "Low", "label 'Low'"),
        ([1, 2, 3], "0", "label '0' is not one of 1, 2, 3$"),  # numbers are names here, never an index
        (5, "7", "label '7' is not one of 0, 1, 2, 3, 4$"),
    ],
)
def test_a_label_of_no_class_is_shown_with_those_there_are(classes: Any, cell: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        classify(classes).read_label(cell)


def test_a_number_of_classes_names_them_by_their_index() -> None:
    assert classify(3).classes == ("0", "1", "2")  # type: ignore[attr-defined]
    assert classify(3).outputs == 3


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a", "b", "a"], "class 'a' is named twice"),
        (["1", 1], "class '1' is named twice"),
        (["a", " a"], "class 'a' is named twice"),
        (1, "needs at least two classes, not 1"),
        ([], "needs at least two classes, not 0"),
        ("low", "give the class names as a list, or how many there are"),
        (True, "give the class names as a list, or how many there are"),
        ([0.5, 1.5], "put everything else in quotes"),
        ([True, "true"], "class 'true' is named twice"),
        (10**12, "takes at most 1,000,000 classes, not 1,000,000,000,000"),
    ],
)
def test_bad_classes_are_explained(classes: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        classify(classes)


def confusion(predictions: Floats, labels: Floats, classes: int) -> NDArray[np.int64]:
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (labels.astype(int), predictions.astype(int)), 1)
    return table


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_and_macro_f1_follow_from_the_confusion_matrix(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, predictions = generator.integers(0, 4, (2, 60)).astype(float)
    table = confusion(predictions, labels, 4)
    metrics = classify(4).metrics(predictions, labels)
    assert metrics["accuracy"] == pytest.approx(np.trace(table) / 60)
    assert metrics["macro_f1"] == pytest.approx((2 * np.diag(table) / (table.sum(0) + table.sum(1))).mean())
    assert metrics["accuracy"] == sklearn.metrics.accuracy_score(labels, predictions)
    assert metrics["macro_f1"] == sklearn.metrics.f1_score(labels, predictions, average="macro")


def test_the_best_constant_class_is_the_commonest() -> None:
    # the dev set of SST: 139/289/229/279/165, floor 0.2625 (methods.md 1)
    labels = np.repeat(np.arange(5.0), [139, 289, 229, 279, 165])
    task = classify(5)
    assert task.constant(labels) == 1
    assert task.metrics(np.full_like(labels, 1), labels)["accuracy"] == pytest.approx(0.2625, abs=1e-4)
    assert task.describe_labels(labels) == "0 139, 1 289, 2 229, 3 279, 4 165"


def test_classes_without_a_label_are_named() -> None:
    task = classify(["low", "mid", "high"])
    assert task.absent(np.array([0.0, 2, 2])) == ["mid"]
    assert task.absent(np.array([0.0, 1, 2])) == []
    assert task.describe_labels(np.array([0.0, 2, 2])) == "low 1, mid 0, high 2"


# ---- regression


def test_pearson_is_the_published_value_and_keeps_to_lines() -> None:
    labels, predictions = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 5])
    task = score()
    assert task.metrics(predictions, labels)["pearson"] == pytest.approx(0.8315218406)
    assert task.metrics(predictions, -2 * labels + 1)["pearson"] == pytest.approx(-0.8315218406)
    assert task.metrics(3 * predictions + 2, labels)["pearson"] == pytest.approx(0.8315218406)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_and_rmse_agree_with_their_definitions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 6, 50).astype(float)  # with ties
    predictions = labels + generator.normal(size=50)
    metrics = score().metrics(predictions, labels)
    assert metrics["pearson"] == pytest.approx(np.corrcoef(predictions, labels)[0, 1])
    assert metrics["pearson"] == pytest.approx(pearsonr(predictions, labels)[0])
    assert metrics["spearman"] == pytest.approx(spearmanr(predictions, labels)[0])
    assert metrics["rmse"] == pytest.approx(math.sqrt(sklearn.metrics.mean_squared_error(labels, predictions)))


@pytest.mark.parametrize("constant", [0.0, 2.7, 5.0])
def test_constant_predictions_correlate_with_nothing(constant: float) -> None:
    labels = np.array([0.0, 1, 2, 5])
    metrics = score().metrics(np.full(4, constant), labels)
    assert metrics["pearson"] == metrics["spearman"] == 0.0
    assert metrics["rmse"] == pytest.approx(math.sqrt(np.mean((labels - constant) ** 2)))


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_of_constant_labels_correlate_with_nothing(count: int) -> None:
    metrics = score().metrics(np.arange(count, dtype=float), np.full(count, 2.0))
    assert metrics["pearson"] == metrics["spearman"] == 0.0


def test_predictions_that_differ_by_rounding_alone_are_constant() -> None:
    predictions = np.array([3.0, np.nextafter(3.0, 4), 3.0, 3.0])
    metrics = score().metrics(predictions, np.array([0.0, 1, 2, 5]))
    assert metrics["pearson"] == pytest.approx(0.0, abs=1e-6)


def test_scores_are_scaled_to_the_range_and_back() -> None:
    task = score(0, 5)
    labels = np.array([0.0, 1, 2.5, 5])
    assert task.targets(labels).tolist() == pytest.approx([0, 0.2, 0.5, 1])
    assert task.targets(labels).dtype == torch.float32
    np.testing.assert_allclose(plain(task.decode(task.targets(labels)[:, None])), labels)
    assert score(-1, 1).targets(np.array([-1.0, 0, 1])).tolist() == [0, 0.5, 1]


def test_decoded_scores_stay_inside_the_range() -> None:
    assert score(1, 3).decode(torch.tensor([[-4.0], [0.5], [9.0]])).tolist() == [1, 2, 3]
    assert score(1, 3).measured(torch.tensor([[-4.0], [0.5], [9.0]])).tolist() == [-7, 2, 19]  # what metrics see


def test_squared_error_does_not_broadcast() -> None:
    # prediction (2, 1) against target (2,): 0 for a perfect one, not the mean over all four pairs
    task = score(0, 5)
    assert task.losses(torch.tensor([[0.2], [0.4]]), task.targets(np.array([1.0, 2.0]))).tolist() == [0, 0]
    assert task.losses(torch.tensor([[1.2], [0.4]]), task.targets(np.array([1.0, 2.0]))).tolist() == pytest.approx(
        [1, 0]
    )


def test_divergence_of_scores_is_their_squared_distance() -> None:
    divergence = score().divergence(torch.tensor([[0.5], [2.0]]), torch.tensor([[-0.3], [2.0]]))
    assert divergence.tolist() == pytest.approx([0.64, 0])


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("5.01", "label '5.01' is outside the range 0 to 5"),
        ("-0.1", "label '-0.1' is outside the range 0 to 5"),
        ("nan", "label 'nan' is not a finite number"),
        ("inf", "label 'inf' is not a finite number"),
        ("high", "label 'high' is not a number"),
        ("4,6", "label '4,6' is not a number"),
    ],
)
def test_a_score_outside_the_range_is_shown_with_it(cell: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        score().read_label(cell)


def test_the_best_constant_score_is_the_mean() -> None:
    labels = np.array([0.0, 1, 5])
    assert score().constant(labels) == 2
    errors = {c: score().metrics(np.full(3, c), labels)["rmse"] for c in (1.9, 2.0, 2.1)}
    assert min(errors, key=errors.__getitem__) == 2.0


def test_the_distribution_of_scores_shows_range_and_quartiles() -> None:
    assert score().describe_labels(np.array([0.0, 1, 2, 3, 5])) == "0 to 5 in a range of 0 to 5, quartiles 1, 2, 3"


@pytest.mark.parametrize("ends", [(5, 0), (3, 3), (0, math.inf), (math.nan, 1)])
def test_a_range_ascends(ends: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="the lower end must come first"):
        score(*ends)


# ---- tasks together


@pytest.mark.parametrize(
    ("sentiment", "paraphrase", "similarity", "expected"),
    # methods.md 2: a published row, perfection, and the constant predictor
    [(0.496, 0.680, 0.293, 0.6075), (1, 1, 1, 1), (0.2625, 0.6247, 0, 0.4624)],
)
def test_the_overall_score_is_the_mean_with_pearson_halved_and_raised(
    sentiment: float, paraphrase: float, similarity: float, expected: float
) -> None:
    metrics = {
        "sentiment": {"accuracy": sentiment, "macro_f1": 0.0},
        "paraphrase": {"accuracy": paraphrase, "macro_f1": 0.0},
        "similarity": {"pearson": similarity, "spearman": 0.0, "rmse": 0.0},
    }
    tasks = {"sentiment": classify(5), "paraphrase": classify(2), "similarity": score()}
    scores = Scores(metrics, {name: tasks[name].normalised(metrics[name]) for name in tasks})
    assert scores.overall == pytest.approx(expected, abs=5e-5)
    assert scores.measures["overall"] == scores.overall


# ---- settings


@pytest.mark.parametrize(
    ("settings", "sequences"),
    [
        ({"text": "a"}, 1),
        ({"text": "a", "pairs": "separate"}, 1),
        ({"text": ["a", "b"]}, 1),
        ({"text": ["a", "b"], "pairs": "separate"}, 2),
    ],
)
def test_only_a_pair_encoded_apart_is_two_sequences(settings: dict[str, Any], sequences: int) -> None:
    assert classify(**settings).sequences == sequences


@pytest.mark.parametrize("name", ["mood", "sts-b", "task_2", "Größe", "2"])
def test_names_that_torch_and_files_can_bear_are_fine(name: str) -> None:
    torch.nn.ModuleDict({name: torch.nn.Identity()})
    assert classify(name=name).name == name


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a/b", "-a", "keys", "train", "forward", "overall", "shared"])
def test_names_that_would_clash_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"'{name}' cannot name a task"):
        classify(name=name)


@pytest.mark.parametrize("kind", ["classification", "ordinal", "tokens"])
@pytest.mark.parametrize("z", [[0.5, 1.0, -1.0], [9.0, -9.0, 0.0], [0.0, 0.0], [20.0, -3.0]], ids=str)
def test_the_curvature_of_classes_is_half_the_hessian_of_their_divergence_however_sure_they_are(
    z: list[float], kind: str
) -> None:
    settings = {"classification": {}, "ordinal": {"method": "soft"}, "tokens": {"scheme": "none"}}[kind]
    classes = [str(place) for place in range(len(z))]
    task = KINDS[kind](name="classes", text="text", label="label", classes=classes, **settings)
    clean, tangent = torch.tensor(z, dtype=torch.float64), torch.randn(len(z), dtype=torch.float64)
    q = clean.log_softmax(-1)

    def divergence(outputs: Tensor) -> Tensor:
        p = outputs.log_softmax(-1)
        return ((p.exp() - q.exp()) * (p - q)).sum()

    hessian: Tensor = torch.autograd.functional.hessian(divergence, clean)
    expected = hessian @ tangent / 2
    if task.reads_words:  # one word, behind its mark
        mark = torch.ones(1)
        found = task.curvature(*(torch.cat([mark, x.float()])[None, None] for x in (clean, tangent)))[0, 0, 1:]
    else:
        found = task.curvature(clean[None].float(), tangent[None].float())[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


def test_the_curvature_of_scores_is_the_tangent() -> None:
    task = Regression(name="score", text="text", label="label", range=(0, 1))
    tangent = torch.randn(4, 1)
    assert torch.equal(task.curvature(torch.randn(4, 1), tangent), tangent)


def test_an_unscaled_score_is_learned_and_told_in_the_units_of_its_labels() -> None:
    scaled, raw = score(-1, 4), score(-1, 4, scaled=False)
    labels = np.array([-1.0, 0.25, 4.0])
    outputs = torch.tensor([[0.0], [0.5], [1.5]])
    assert raw.targets(labels).tolist() == [-1.0, 0.25, 4.0]
    assert scaled.targets(labels).tolist() == [0.0, 0.25, 1.0]
    assert raw.decode(outputs * 5 - 1).tolist() == scaled.decode(outputs).tolist() == [-1.0, 1.5, 4.0]  # cut at the top
    # the loss is in squared units: 5^2 times that of the share of the range
    ours, theirs = (
        raw.losses(outputs * 5 - 1, raw.targets(labels)),
        scaled.losses(outputs, scaled.targets(labels)),
    )
    torch.testing.assert_close(ours, 25 * theirs)


def test_a_limit_is_of_training_rows_unless_it_names_the_split() -> None:
    found = [classify(limit=limit) for limit in (None, 7, {"train": 7, "dev": 3}, {"dev": 3})]
    assert [(task.at_most("train"), task.at_most("dev")) for task in found] == [
        (None, None),
        (7, None),
        (7, 3),
        (None, 3),
    ]
    with pytest.raises(ValidationError):
        classify(limit={"tests": 3})


def test_a_head_of_classes_begins_at_their_shares_and_at_0_where_they_are_equal() -> None:
    task = classify(3)
    assert task.constant_outputs(np.array([0.0, 1, 2] * 4)).tolist() == [0, 0, 0]
    uneven = task.constant_outputs(np.array([0.0] * 7 + [1.0] * 3 + [2.0] * 1))
    torch.testing.assert_close(uneven.softmax(0), torch.tensor([8.0, 4.0, 2.0]) / 14)  # each counted once more
    assert uneven.mean().item() == pytest.approx(0, abs=1e-6)
