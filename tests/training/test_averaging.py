"""Averages of the weights, beside means that numpy takes of the weights as they were logged by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

import mtbert
import mtbert.runs.stage
from mtbert.errors import Mistake
from mtbert.model.files import seal
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.runs.folder import Run
from mtbert.runs.log import Evaluation
from mtbert.scoring.evaluation import Scores
from mtbert.training.averaging import AVERAGES, follow, holding
from mtbert.training.trainer import Trainer
from tests.support.cut_off import Kill, Killed, assert_same_run

Passed = list[dict[str, NDArray[np.float32]]]


def with_average(recipe: dict[str, Any], **average: Any) -> dict[str, Any]:
    stage = recipe["stages"][0] | {"average": average, "optimizer": {"lr": 0.01}}
    return recipe | {"stages": [stage]}


def trained(recipe: dict[str, Any]) -> tuple[Trainer, Passed]:
    """A trainer at its end, and the weights after each of its steps."""
    trainer = build(read_recipe(recipe)).stage(0).trainer
    return trainer, [{name: p.detach().numpy().copy() for name, p in trainer.learning.items()} for _ in trainer]


def by_hand(passed: Passed, weights: list[float]) -> dict[str, NDArray[np.float32]]:
    """The weighted mean of the weights that were passed: in float64, rounded once at the end."""
    return {
        name: np.average([one[name].astype(np.float64) for one in passed], axis=0, weights=weights).astype(np.float32)
        for name in passed[0]
    }


def assert_same_bits(average: dict[str, Tensor] | None, expected: dict[str, NDArray[np.float32]]) -> None:
    assert average is not None
    assert average.keys() == expected.keys()
    assert [name for name in expected if not np.array_equal(average[name].numpy(), expected[name])] == []


def test_last_is_the_mean_over_the_last_share_of_the_stage_to_the_bit(small_recipe: dict[str, Any]) -> None:
    trainer, passed = trained(with_average(small_recipe, name="last", share=0.5, every=2))
    assert len(passed) == 12
    taken = [passed[step - 1] for step in (8, 10, 12)]
    assert_same_bits(trainer.average.now(), by_hand(taken, [1, 1, 1]))


@pytest.mark.parametrize("every", [1, 3])
def test_ema_is_the_weighted_mean_of_all_that_was_passed_to_the_bit(small_recipe: dict[str, Any], every: int) -> None:
    trainer, passed = trained(with_average(small_recipe, name="ema", decay=0.8, every=every))
    taken = passed[every - 1 :: every]
    ages = [every * (len(taken) - 1 - place) for place in range(len(taken))]
    assert_same_bits(trainer.average.now(), by_hand(taken, [0.8**age for age in ages]))


def test_a_share_too_small_for_float32_still_moves_the_average() -> None:
    weights = torch.full((3,), 1.0 + 2**-20)
    average = torch.ones(3, dtype=torch.float64)
    for _ in range(1000):
        follow([average], [weights], 1e-4)
    assert torch.allclose(average - 1, torch.tensor(2**-20 * (1 - 0.9999**1000), dtype=torch.float64), rtol=1e-6)


def test_following_equals_the_formula_for_tensors_longer_than_a_piece() -> None:
    start, goal = torch.randn(3, 70_001, dtype=torch.float64), torch.randn(3, 70_001)
    average = start.clone()
    follow([average], [goal], 0.3)
    np.testing.assert_allclose(average.numpy(), 0.7 * start.numpy() + 0.3 * goal.double().numpy(), rtol=0, atol=1e-14)


def test_parameters_get_their_own_weights_back_after_an_error_too() -> None:
    parameters = {"a": torch.nn.Parameter(torch.randn(5))}
    before = parameters["a"].detach().clone()

    def interrupted() -> None:
        with holding(parameters, {"a": torch.zeros(5)}):
            assert not parameters["a"].any()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert torch.equal(parameters["a"], before)


def soup(top: int = 3) -> tuple[Any, torch.nn.Parameter]:
    made, p = AVERAGES["soup"](top=top), torch.nn.Parameter(torch.zeros(1))
    made.begin({"p": p})
    return made, p


def passes(made: Any, p: torch.nn.Parameter, *evaluated: tuple[float, float]) -> None:
    for value, score in evaluated:
        p.data.fill_(value)
        made.after_evaluation(score)


def test_a_soup_is_the_greedy_one_of_the_paper() -> None:
    # the score is highest at 4: of 1, 6, 9 and 3 (the best three: 3, 6, 1) the mean of 3 and 6 is nearer than 3 alone
    def score(weights: dict[str, Tensor]) -> float:
        asked.append(float(weights["p"]))
        return -abs(asked[-1] - 4)

    asked: list[float] = []
    made, p = soup()
    passes(made, p, (1, -3), (6, -2), (9, -5), (3, -1))
    result = made.at_the_end(score)
    assert asked == pytest.approx([4.5, (3 + 6 + 1) / 3])
    # -0.5 with 6; -0.67 with 1 as well, so that stays out
    assert float(result["p"]) == 4.5


def test_a_soup_of_one_is_no_new_model() -> None:
    made, p = soup()
    passes(made, p, (1, 0.5))
    assert made.at_the_end(lambda weights: 1.0) is None
    passes(made, p, (2, 0.4))
    assert made.at_the_end(lambda weights: 0.0) is None


def test_a_soup_holds_the_best_and_the_earlier_of_equals() -> None:
    made, p = soup(top=2)
    passes(made, p, (1, 0.5), (2, 0.5), (3, 0.5), (4, 0.7))
    assert [float(weights["p"]) for _, weights in made.ranked] == [4, 1]


@pytest.mark.parametrize("name", list(AVERAGES))
def test_what_is_trained_stays_as_it_is_to_the_bit(small_recipe: dict[str, Any], tmp_path: Path, name: str) -> None:
    options = {"every": 2} if "every" in AVERAGES.options(name) else {}
    plain = mtbert.train(with_average(small_recipe, name="none"), out=tmp_path / "plain")
    averaged = mtbert.train(with_average(small_recipe, name=name, **options), out=tmp_path / "averaged")
    ours, theirs = (load_file(run.folder / "last" / "state.safetensors") for run in (averaged, plain))
    of_the_model = [key for key in theirs if key.startswith("model.")]
    assert of_the_model
    assert all(torch.equal(ours[key], theirs[key]) for key in of_the_model)


@pytest.mark.parametrize("steps", [5, 7, 11])
@pytest.mark.parametrize("name", list(AVERAGES))
def test_a_run_that_is_killed_goes_on_to_the_bit(
    small_recipe: dict[str, Any], tmp_path: Path, name: str, steps: int
) -> None:
    options = {"every": 2} if "every" in AVERAGES.options(name) else {}
    recipe = with_average(small_recipe, name=name, **options)
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=steps))
    assert_same_run(mtbert.train(recipe, out=tmp_path / "cut", resume=True), whole)


DAMAGE: list[tuple[str, str, Callable[[Tensor], Tensor]]] = [
    ("soup", "0.weights.heads.mood.output.bias", lambda bias: bias[:1].clone()),
    ("soup", "0.weights.heads.mood.output.weight", lambda weight: weight[:-1].clone()),
    ("soup", "0.weights.heads.mood.output.bias", lambda bias: bias * math.nan),
    ("soup", "0.score", lambda score: score * math.nan),
    ("ema", "mean.heads.mood.output.bias", lambda bias: bias / 0),
    ("ema", "taken", lambda taken: -taken),
]


@pytest.mark.parametrize(("name", "key", "change"), DAMAGE)
def test_a_damaged_average_names_the_file(
    small_recipe: dict[str, Any], tmp_path: Path, name: str, key: str, change: Callable[[Tensor], Tensor]
) -> None:
    recipe = with_average(small_recipe, name=name, **({"every": 2} if name == "ema" else {}))
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=5))
    path = tmp_path / "cut" / "last" / "state.safetensors"
    state = load_file(path)
    state[f"trainer.average.{key}"] = change(state[f"trainer.average.{key}"])
    save_file(state, path)
    seal(path.parent)
    with pytest.raises(Mistake, match=r"last/state\.safetensors"):
        mtbert.train(recipe, out=tmp_path / "cut", resume=True)


def scores_by_weights(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Evaluations that find each new model better; the weights that were scored."""
    seen: list[Tensor] = []

    def evaluate(model: Any, sets: Any, world: Any) -> Scores:
        seen.append(model.encoder.word_embedding.weight.detach().clone())
        return Scores({"mood": {"metric": len(seen) / 100}}, {"mood": len(seen) / 100})

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)
    return seen


def kept_words(run: Run) -> Tensor:
    return load_file(run.folder / "best" / "encoder" / "model.safetensors")["embeddings.word_embeddings.weight"]


def test_an_average_that_is_best_is_the_kept_model_and_the_log_says_so(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scores_by_weights(monkeypatch)
    run = mtbert.train(with_average(small_recipe, name="ema", every=1), out=tmp_path / "run")
    lines = [(one.step, one.average, one.kept) for one in run.log.only(Evaluation)]
    assert lines == [(step, average, True) for step in (4, 8, 12) for average in (False, True)]
    assert torch.equal(kept_words(run), seen[-1])
    assert not torch.equal(seen[-1], seen[-2])
    assert run.scores["dev"]["overall"] == 0.06


def test_the_next_stage_begins_with_a_kept_average(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = scores_by_weights(monkeypatch)
    recipe = with_average(small_recipe, name="last", share=1.0, every=1)
    second = small_recipe["stages"][0] | {"steps": 1, "train": "heads", "evaluate_every": 1, "cache_features": False}
    mtbert.train(recipe | {"stages": [*recipe["stages"], second]}, out=tmp_path / "run")
    assert torch.equal(seen[-1], seen[-2])  # heads alone have moved since the average


def test_a_soup_is_tried_once_when_patience_has_run_out(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the weights are worse each time, every mean of several is better than all before
    script = iter([0.5, 0.4, 0.3, 0.6, 0.7, 0.7])

    def evaluate(model: Any, sets: Any, world: Any) -> Scores:
        value = next(script)
        return Scores({"mood": {"metric": value}}, {"mood": value})

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)
    recipe = with_average(small_recipe, name="soup")
    recipe["stages"][0] |= {"patience": 2, "evaluate_every": 2}
    run = mtbert.train(recipe, out=tmp_path / "run")
    lines = [(one.step, one.average, one.kept) for one in run.log.only(Evaluation)]
    assert lines == [(2, False, True), (4, False, False), (6, False, False), (6, True, True)]
    assert next(script, None) is None
    assert mtbert.train(recipe, out=run.folder, resume=True).scores["step"] == 6


def test_an_average_that_is_kept_is_no_evaluation_without_a_better_model(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([0.5, 0.51, 0.4, 0.52, 0.4, 0.53])

    def evaluate(model: Any, sets: Any, world: Any) -> Scores:
        value = next(script)
        return Scores({"mood": {"metric": value}}, {"mood": value})

    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate)
    recipe = with_average(small_recipe, name="ema", every=1)
    recipe["stages"][0] |= {"patience": 1}
    run = mtbert.train(recipe, out=tmp_path / "run")
    assert [one.step for one in run.log.only(Evaluation) if not one.average] == [4, 8, 12]


def test_only_the_heads_are_averaged_where_only_they_learn(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe = with_average(small_recipe, name="ema", every=1)
    recipe["stages"][0] |= {"train": "heads"}
    run = mtbert.train(recipe, out=tmp_path / "run")
    state = load_file(run.folder / "last" / "state.safetensors")
    means = {name for name in state if name.startswith("trainer.average.mean.")}
    heads = {name.removeprefix("model.") for name in state if name.startswith("model.heads.")}
    assert means == {f"trainer.average.mean.{name}" for name in heads}
    assert run.part("best").exists()


def test_an_old_line_of_the_log_is_no_average(tmp_path: Path) -> None:
    line = {"type": "evaluation", "stage": 0, "step": 4, "kept": True, "overall": 0.5, "tasks": {"mood": {"f1": 0.5}}}
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    assert [one.average for one in Run(tmp_path).log.only(Evaluation)] == [False]


@pytest.mark.parametrize(
    ("average", "said"),
    [
        ("emma", "unknown average 'emma'; did you mean 'ema'"),
        ({"name": "ema", "decay": 1.0}, "decay of average 'ema' is 1.0"),
        ({"name": "last", "share": 0.0}, "share of average 'last' is 0.0"),
        ({"name": "soup", "decay": 0.9}, "unknown option of average 'soup': 'decay'"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_in_its_line(small_recipe: dict[str, Any], average: Any, said: str) -> None:
    small_recipe["stages"][0]["average"] = average
    with pytest.raises(Mistake, match="average") as refusal:
        read_recipe(small_recipe)
    assert said in str(refusal.value)
