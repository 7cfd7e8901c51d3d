"""The teacher: how it decays, what it is asked, where it stands, and that it is the model one keeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.scoring.evaluation import evaluate
from mtbert.training.objective import Objective
from mtbert.training.regularizers.bregman import Bregman, BregmanRefresh
from mtbert.training.teacher import Teacher
from mtbert.training.weightings.fixed import Fixed
from tests.support.penalised import ALL_KINDS, batch_of, copied, make, passes_of, shake


def fill(model: MultiTask, value: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)


def begun(model: MultiTask, **options: Any) -> tuple[Bregman, MultiTask]:
    one = Bregman(**options)
    one.start(model)
    assert one.teacher is not None
    return one, one.teacher.model


def test_the_teacher_decays_geometrically(plain: Experiment) -> None:
    fill(plain.model, 0.0)
    one, teacher = begun(plain.model, decay=0.99, late_decay=0.99)
    fill(plain.model, 1.0)
    for step in range(100):
        one.after_step(plain.model, (step + 1) / 100)
    for p in teacher.parameters():
        torch.testing.assert_close(p, torch.full_like(p, 0.63396766), rtol=2e-6, atol=0)


def test_the_decay_changes_after_the_first_tenth_of_the_stage(plain: Experiment) -> None:
    fill(plain.model, 0.0)
    one, teacher = begun(plain.model)
    fill(plain.model, 1.0)
    for step in range(100):
        one.after_step(plain.model, (step + 1) / 100)
    expected = 1 - 0.99**10 * 0.999**90
    for p in teacher.parameters():
        torch.testing.assert_close(p, torch.full_like(p, expected), rtol=2e-6, atol=0)


@pytest.mark.parametrize("task", ALL_KINDS)
def test_without_decay_the_teacher_is_the_model_and_asks_nothing_of_it(plain: Experiment, task: str) -> None:
    one, teacher = begun(plain.model, decay=0.0, late_decay=0.0)
    shake(plain.model)
    one.after_step(plain.model, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), plain.model.parameters(), strict=True))
    plain.model.eval()
    penalty = one(passes_of(plain, task), 0.0)
    penalty.backward()
    assert penalty.item() == 0.0
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in plain.model.parameters())


@pytest.mark.parametrize("task", ALL_KINDS)
def test_the_penalty_is_the_divergence_from_what_the_teacher_says_without_dropout(
    dropping: Experiment, task: str
) -> None:
    one, teacher = begun(dropping.model)
    passes = passes_of(dropping, task)
    with torch.no_grad():
        said = teacher.eval()(passes.batch)
        expected = dropping.model.tasks[task].divergence(passes.clean.outputs, said).mean()
        assert torch.equal(said, dropping.model.eval()(passes.batch))
    assert expected > 0  # the student's dropout is on
    assert one(passes, 0.0).item() == expected.item()


def test_the_teacher_learns_nothing_and_stays_in_evaluation_mode(dropping: Experiment) -> None:
    one, teacher = begun(dropping.model)
    shake(dropping.model)
    before = copied(teacher.state_dict())
    dropping.model.train()
    one(passes_of(dropping, "mood"), 0.0).backward()
    assert not any(part.training for part in teacher.modules())
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    shared = {p.data_ptr() for p in dropping.model.parameters()} & {p.data_ptr() for p in teacher.parameters()}
    assert not shared


def test_a_refreshed_teacher_lags_up_to_the_interval(plain: Experiment) -> None:
    one = BregmanRefresh(refresh=3)
    fill(plain.model, 0.0)
    one.start(plain.model)
    assert one.teacher is not None
    held = []
    for step in range(1, 8):
        fill(plain.model, float(step))
        one.after_step(plain.model, step / 8)
        held.append(next(one.teacher.model.parameters()).flatten()[0].item())
    assert held == [0, 0, 3, 3, 3, 6, 6]


def test_refreshed_after_every_step_nothing_would_be_left_to_learn(plain: Experiment) -> None:
    passes = passes_of(plain, "mood")
    said = Teacher(plain.model, None).outputs(passes.batch)
    passes.task.divergence(passes.clean.outputs, said).mean().backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in plain.model.parameters())


@pytest.mark.parametrize("name", ["bregman", "bregman_refresh"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(plain: Experiment, name: str) -> None:
    make(name, teacher_device="cpu").check(plain.model)
    with pytest.raises(Mistake, match="teacher_device is 'cuda:9'; devices here: cpu"):
        Objective(plain.model, {name: make(name, teacher_device="cuda:9")}, Fixed(plain.recipe.tasks, []))


def test_a_teacher_elsewhere_answers_where_the_batch_is(plain: Experiment) -> None:
    # meta is the one other device that every machine has: it holds shapes and no values
    teacher = Teacher(plain.model, "meta")
    assert {p.device.type for p in teacher.model.parameters()} == {"meta"}
    assert {p.device.type for p in plain.model.parameters()} == {"cpu"}


@pytest.mark.parametrize("evaluate_which", ["student", "teacher"])
def test_the_model_that_is_asked_for_is_scored_and_kept(
    small_recipe: dict[str, Any], tmp_path: Path, evaluate_which: str
) -> None:
    regularizer = {"name": "bregman", "decay": 0.9, "late_decay": 0.9, "evaluate": evaluate_which}
    small_recipe["stages"][0] |= {"regularizers": [regularizer], "optimizer": {"lr": 0.01}}
    made = build(read_recipe(small_recipe))
    trainer, dev, _, _ = made.stage(0)
    objective = trainer.objective
    for _ in trainer:
        pass
    assert isinstance(objective.scored, MultiTask)
    assert (objective.scored is made.model) == (evaluate_which == "student")
    save_model(objective.scored, made.tokenizer, tmp_path / "kept")
    kept, _ = load_model(tmp_path / "kept")
    state = kept.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in objective.scored.state_dict().items())
    assert evaluate(kept, dev) == evaluate(objective.scored, dev)
    moved = any(not torch.equal(state[name], tensor) for name, tensor in made.model.state_dict().items())
    assert moved == (evaluate_which == "teacher")


def test_before_the_stage_begins_there_is_no_teacher_to_keep(plain: Experiment) -> None:
    objective = Objective(plain.model, {"bregman": Bregman(evaluate="teacher")}, Fixed(plain.recipe.tasks, []))
    assert objective.scored is plain.model
    assert objective.state() == {}


def test_a_batch_is_where_it_was(plain: Experiment) -> None:
    one, _ = begun(plain.model, teacher_device="cpu")
    batch = batch_of(plain, "near")
    assert one.teacher is not None
    outputs = one.teacher.outputs(batch)
    assert outputs.device == batch.tokens.device
    assert not outputs.requires_grad
    assert np.array_equal(batch.rows, np.arange(6))


def test_bregman_as_it_ran_takes_scores_by_their_softmax_over_the_batch(plain: Experiment) -> None:
    one = make("bregman_r2_exact")
    one.start(plain.model)
    shake(plain.model)
    passes = passes_of(plain, "near")
    teacher = one.teacher.model(passes.batch)  # type: ignore[attr-defined]
    ours, theirs = (scores.flatten().tolist() for scores in (passes.clean.outputs, teacher))

    def shares(scores: list[float]) -> list[float]:
        return [math.exp(score) / sum(map(math.exp, scores)) for score in scores]

    by_hand = sum((a - b) ** 2 for a, b in zip(shares(ours), shares(theirs), strict=True)) / len(ours)
    assert one(passes, 0.0).item() == pytest.approx(by_hand, rel=1e-3)
    assert one(passes_of(plain, "same"), 0.0).item() == 0.0
    assert one(passes_of(plain, "mood"), 0.0).item() == pytest.approx(
        make_like(one, "bregman")(passes_of(plain, "mood"), 0.0).item(), rel=1e-5
    )


def make_like(one: Any, name: str) -> Any:
    """Another penalty with the same teacher."""
    other = make(name)
    other.teacher = one.teacher  # type: ignore[attr-defined]
    return other


def test_the_teacher_as_it_ran_has_dropout_and_is_left_without_it(dropping: Experiment) -> None:
    one = make("bregman_r2_exact")
    one.start(dropping.model)
    dropping.model.eval()  # the same weights, without dropout of their own
    found = [one(passes_of(dropping, "mood"), 0.0).item() for _ in range(2)]
    assert min(found) > 0
    assert found[0] != found[1]
    assert make_like(one, "bregman")(passes_of(dropping, "mood"), 0.0).item() < 1e-9
    assert not any(part.training for part in one.teacher.model.modules())  # type: ignore[attr-defined]
