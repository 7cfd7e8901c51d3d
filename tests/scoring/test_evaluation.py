"""Scores against published formulas; evaluation leaves order and mode as they were."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch, Examples
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.labels import plain
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.scoring.evaluation import Scores, constant_scores, evaluate, outputs_of

SST = Classification(name="sst", text="a", label="y", classes=5)
QUORA = Classification(name="quora", text=("a", "b"), label="y", classes=2)
STS = Regression(name="sts", text=("a", "b"), label="y", range=(0, 5))


def scores(sst: float, quora: float, sts: float) -> Scores:
    tasks = {"sst": {"accuracy": sst}, "quora": {"accuracy": quora}, "sts": {"pearson": sts}}
    by_name: dict[str, Task] = {"sst": SST, "quora": QUORA, "sts": STS}
    return Scores(tasks, {name: by_name[name].normalised(metrics) for name, metrics in tasks.items()})


def labelled(task: Task, labels: list[float]) -> Examples:
    """As many examples as labels, of differing lengths."""
    tokenizer = Tokenizer.from_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    texts = [tokenizer.encode(["a " * (1 + row * 5 % 7) for row in range(len(labels))]) for _ in task.text]
    return Examples(task, texts, tokenizer, 512, np.array(labels, dtype=np.float64))


class Oracle(nn.Module):
    """Answers each row with the outputs it was given."""

    def __init__(self, task: Task, outputs: Tensor) -> None:
        super().__init__()
        self.tasks = {task.name: task}
        self.outputs = nn.Parameter(outputs)

    def forward(self, batch: Batch) -> Tensor:
        return self.outputs[torch.from_numpy(batch.rows)]


@pytest.fixture
def experiment(small_recipe: dict[str, Any]) -> Experiment:
    return build(read_recipe(small_recipe))


@pytest.mark.parametrize(
    ("metrics", "overall"),
    [
        ((0.496, 0.680, 0.293), 0.6075),  # R4, Top + Parallel (Same)
        ((1, 1, 1), 1.0),
        ((0.2625, 0.6247, 0), 0.4624),  # constant predictors
        ((0, 0, -1), 0.0),
    ],
)
def test_overall_is_the_leaderboards_formula(metrics: tuple[float, float, float], overall: float) -> None:
    assert scores(*metrics).overall == pytest.approx(overall, abs=5e-5)


def test_a_keep_rule_sees_the_overall_score_and_each_tasks_metric() -> None:
    found = scores(0.496, 0.680, 0.293).measures
    assert [found[name] for name in ("overall", "sst", "sts")] == pytest.approx([0.6075, 0.496, 0.293], abs=5e-5)


@pytest.mark.parametrize(("predicted", "r"), [([1, 3, 2, 5], 0.8315218406), ([4, 0, 2, -4], -0.8315218406)])
def test_pearson_is_taken_over_the_whole_split_at_once(predicted: list[float], r: float) -> None:
    # [4, 0, 2, -4] is 6 - 2 * [1, 3, 2, 5]; a wide range keeps clamping out of it
    task = Regression(name="sts", text="a", label="y", range=(-10, 10))
    model = Oracle(task, (torch.tensor(predicted, dtype=torch.float32)[:, None] + 10) / 20)
    found = evaluate(model, {"sts": labelled(task, [1, 2, 3, 4])})  # type: ignore[arg-type]
    assert found.tasks["sts"]["pearson"] == pytest.approx(r, abs=1e-6)
    assert found.overall == pytest.approx((r + 1) / 2, abs=1e-6)


def test_accuracy_counts_the_rows_answered_right() -> None:
    answers = [3, 0, 4, 4, 1, 2, 2]
    model = Oracle(SST, nn.functional.one_hot(torch.tensor(answers), 5).float())
    found = evaluate(model, {"sst": labelled(SST, [3, 0, 4, 0, 1, 2, 1])})  # type: ignore[arg-type]
    assert found.tasks["sst"]["accuracy"] == pytest.approx(5 / 7)


def test_the_floor_is_the_commonest_training_class_and_the_training_mean() -> None:
    train = {"quora": labelled(QUORA, [1, 1, 1, 0]), "sts": labelled(STS, [1, 2, 3])}
    dev = {"quora": labelled(QUORA, [0, 0, 1, 0]), "sts": labelled(STS, [0, 5])}
    floor = constant_scores({"quora": QUORA, "sts": STS}, train, dev)
    assert floor.tasks["quora"]["accuracy"] == 0.25
    assert floor.tasks["sts"]["pearson"] == 0.0
    assert floor.tasks["sts"]["rmse"] == pytest.approx(np.sqrt((4 + 9) / 2))
    assert floor.overall == pytest.approx((0.25 + 0.5) / 2)


@pytest.mark.parametrize("task", ["mood", "same", "near"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_outputs_keep_the_examples_order_whatever_the_batches(
    experiment: Experiment, task: str, batch_size: int
) -> None:
    examples = experiment.sets["train"][task]
    experiment.model.eval()
    with torch.no_grad():
        alone = torch.cat([experiment.model(examples.batch([row])) for row in range(len(examples))])
    torch.testing.assert_close(outputs_of(experiment.model, examples, batch_size), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_restores_the_mode_it_found(experiment: Experiment, training: bool) -> None:
    experiment.model.train(training)
    evaluate(experiment.model, experiment.sets["dev"])
    assert {module.training for module in experiment.model.modules()} == {training}


def test_an_evaluation_that_fails_restores_training_mode(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(experiment.model, "resume", broken)
    experiment.model.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        outputs_of(experiment.model, experiment.sets["dev"]["mood"])
    assert experiment.model.training


def test_evaluation_has_no_dropout_and_draws_no_random_number(experiment: Experiment) -> None:
    experiment.model.train()
    state = torch.get_rng_state()
    first = outputs_of(experiment.model, experiment.sets["dev"]["near"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, outputs_of(experiment.model, experiment.sets["dev"]["near"]))


def test_evaluation_leaves_no_gradient_and_lets_training_go_on(experiment: Experiment) -> None:
    evaluate(experiment.model, experiment.sets["dev"])
    assert all(p.grad is None and not p.is_inference() for p in experiment.model.parameters())
    experiment.stage(0).trainer.take_step()


def test_rows_without_labels_cannot_be_scored(experiment: Experiment) -> None:
    task = experiment.recipe.tasks["mood"]
    unlabelled = Examples.from_texts(task, [["good film"]], experiment.tokenizer, 512)
    with pytest.raises(Mistake, match="task 'mood' has no labels"):
        evaluate(experiment.model, {"mood": unlabelled})


@pytest.mark.parametrize("pairs", ["joint", "separate"])
def test_predictions_of_a_symmetric_task_do_not_depend_on_the_order_of_a_pair(
    small_recipe: dict[str, Any], pairs: str
) -> None:
    small_recipe["tasks"]["near"] |= {"symmetric": True, "pairs": pairs}
    experiment = build(read_recipe(small_recipe))
    swapped = copy.deepcopy(small_recipe)
    swapped["tasks"]["near"]["text"] = ["b", "a"]
    there = outputs_of(experiment.model, experiment.sets["dev"]["near"])
    back = outputs_of(experiment.model, build(read_recipe(swapped)).sets["dev"]["near"])
    torch.testing.assert_close(there, back, rtol=0, atol=1e-6)

    small_recipe["tasks"]["near"]["symmetric"] = False
    one_way = outputs_of(experiment.model, build(read_recipe(small_recipe)).sets["dev"]["near"])
    assert (there - one_way).abs().max() > 1e-4


def test_tasks_that_do_not_count_are_scored_and_left_out_of_the_whole() -> None:
    tasks: dict[str, Task] = {"sst": SST, "film": SST.model_copy(update={"name": "film", "counts": False}), "sts": STS}
    found = Scores.of(tasks, {"sst": {"accuracy": 0.5}, "film": {"accuracy": 0.9}, "sts": {"pearson": 0.2}})
    assert found.overall == pytest.approx((0.5 + 0.6) / 2)
    main = {"sst": 0.5, "film": 0.9, "sts": 0.2, "overall": 0.55, "mean": 0.35}
    every = {"sst.accuracy": 0.5, "film.accuracy": 0.9, "sts.pearson": 0.2}
    assert found.measures == pytest.approx(main | every)
    alone = Scores.of(tasks, {"film": {"accuracy": 0.9}})  # where nothing else is scored
    assert alone.overall == alone.measures["mean"] == 0.9


def test_a_limited_dev_set_is_the_same_for_every_seed(small_recipe: dict[str, Any]) -> None:
    whole = build(read_recipe(small_recipe)).rows["dev"]["near"]
    small_recipe["tasks"]["near"]["limit"] = {"dev": 5}
    found = [build(read_recipe(small_recipe | {"seed": seed})) for seed in (1, 2)]
    ids = [one.rows["dev"]["near"].ids for one in found]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 5
    kept = [whole.ids.index(one) for one in ids[0]]
    assert kept == sorted(kept)
    labels = [found[0].rows["dev"]["near"].labels, whole.labels]
    assert labels[0] is not None
    assert labels[1] is not None
    assert plain(labels[0]).tolist() == plain(labels[1])[kept].tolist()
    assert [column.to_pylist() for column in found[0].rows["dev"]["near"].texts] == [
        [column.to_pylist()[row] for row in kept] for column in whole.texts
    ]
    assert len(found[0].sets["train"]["near"]) == 40
    assert evaluate(found[0].model, found[0].sets["dev"]).tasks["near"]


def test_a_correlation_is_that_of_raw_scores_also_outside_of_their_range(small_recipe: dict[str, Any]) -> None:
    from scipy.stats import pearsonr

    experiment = build(read_recipe(small_recipe))
    head: Any = experiment.model.heads["near"]
    with torch.no_grad():  # half of the scores below their range
        outputs = outputs_of(experiment.model, experiment.sets["dev"]["near"])
        head.output.bias -= outputs.median()
    raw = outputs_of(experiment.model, experiment.sets["dev"]["near"]).double().squeeze(-1).numpy()
    assert raw.min() < 0 < raw.max()
    labels = experiment.sets["dev"]["near"].labels
    assert labels is not None
    found = evaluate(experiment.model, {"near": experiment.sets["dev"]["near"]}).tasks["near"]["pearson"]
    assert found == pytest.approx(float(pearsonr(raw, labels).statistic), abs=1e-9)
    assert found != pytest.approx(float(pearsonr(raw.clip(0, 1), labels).statistic), abs=1e-3)
