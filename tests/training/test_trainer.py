"""The trainer step by step: what moves, what rests, what it reports, and how it stops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mtbert
from mtbert.data.batches import Batch
from mtbert.data.kinds.classification import Classification
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import Experiment, build
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.training.objective import Loss, Objective
from mtbert.training.trainer import Record, Trainer
from mtbert.training.weightings.fixed import Fixed


def built(recipe: dict[str, Any], **stage: Any) -> Experiment:
    recipe["stages"][0] |= stage
    return build(read_recipe(recipe))


def weights(experiment: Experiment) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in experiment.model.named_parameters()}


def test_training_lowers_the_loss(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe, steps=120, tasks="same", optimizer={"lr": 3e-3})
    losses = [record.terms["same"]["loss"] for record in experiment.stage(0).trainer]
    assert sum(losses[-20:]) / 20 < 0.9 * math.log(2)


@pytest.mark.parametrize(("part", "cache_features"), [("heads", True), ("heads", False), ("modules", True)])
def test_what_is_frozen_stays_frozen_to_the_bit(small_recipe: dict[str, Any], part: str, cache_features: bool) -> None:
    optimizer = {"lr": 0.1, "weight_decay": 0.5, "zero_fill": True}
    experiment = built(
        small_recipe | {"modules": ["lhuc"]}, train=part, optimizer=optimizer, cache_features=cache_features
    )
    before = weights(experiment)
    for _ in experiment.stage(0).trainer:
        pass
    moved = {name for name, p in experiment.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert {name.split(".")[0] for name in moved} == {"heads" if part == "heads" else "modules_by_task"}
    assert all(p.grad is None for p in experiment.model.parameters())


def test_a_tasks_head_rests_while_another_task_trains(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe, tasks="mood")
    before = weights(experiment)
    for _ in experiment.stage(0).trainer:
        pass
    for name, p in experiment.model.named_parameters():
        if name.startswith(("heads.same", "heads.near")):
            assert torch.equal(p, before[name])


def gradient_of_first_step(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> tuple[Record, Tensor]:
    """The gradient that the optimizer was told to use at the first step, flat."""
    trainer = experiment.stage(0).trainer
    seen: list[Tensor] = []

    def step(factor: float) -> None:
        seen.append(torch.cat([p.grad.flatten() for p in trainer.learning.values() if p.grad is not None]))

    monkeypatch.setattr(trainer.optimizer, "step", step)
    torch.manual_seed(9)
    record = trainer.take_step()
    return record, seen[0]


@pytest.mark.parametrize("clip", [0.25, 1.0, 1000.0])
def test_clipping_leaves_a_gradient_of_at_most_the_norm_asked_for(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch, clip: float
) -> None:
    record, free = gradient_of_first_step(built(small_recipe, clip=None), monkeypatch)
    norm = free.norm().item()
    assert record.gradient_norm == pytest.approx(norm, rel=1e-4)
    assert norm > 1.0

    record, clipped = gradient_of_first_step(built(small_recipe, clip=clip), monkeypatch)
    assert record.gradient_norm == pytest.approx(norm, rel=1e-4)  # as it was before clipping
    assert clipped.norm().item() == pytest.approx(min(norm, clip), rel=1e-4)
    torch.testing.assert_close(clipped, free * min(1.0, clip / norm), rtol=1e-4, atol=1e-7)


def test_clipping_begins_at_the_norm_asked_for(small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = gradient_of_first_step(built(small_recipe, clip=None), monkeypatch)
    clip = 0.9 * record.gradient_norm
    _, clipped = gradient_of_first_step(built(small_recipe, clip=clip), monkeypatch)
    assert clipped.norm().item() == pytest.approx(clip, rel=1e-4)


def test_the_rate_of_a_step_is_the_schedules_at_its_middle(small_recipe: dict[str, Any]) -> None:
    experiment = built(
        small_recipe, steps=4, optimizer={"lr": 1e-3}, schedule={"name": "linear", "warmup": 0.5, "end": 0.0}
    )
    rates = [record.lr for record in experiment.stage(0).trainer]
    assert rates == pytest.approx([0.25e-3, 0.75e-3, 0.75e-3, 0.25e-3], rel=1e-9)


def test_a_trainer_takes_its_steps_and_no_more(small_recipe: dict[str, Any]) -> None:
    trainer = built(small_recipe, steps=5).stage(0).trainer
    assert [record.step for record in trainer] == [1, 2, 3, 4, 5]
    assert trainer.finished
    assert list(trainer) == []


def test_an_epoch_is_as_many_steps_as_all_tasks_have_batches(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe, steps=None, epochs=2, batch_size=7)
    assert experiment.stage(0).trainer.steps == 2 * 3 * 6  # 40 rows are 6 batches of at most 7
    assert built(small_recipe, epochs=0.5).stage(0).trainer.steps == 9


@pytest.mark.parametrize(
    ("accumulate", "stage", "ends"), [(1, {}, [15, 30]), (4, {}, [4, 8, 12]), (4, {"steps_per_epoch": 5}, [5, 10])]
)
def test_the_weighting_hears_of_every_epochs_end(
    small_recipe: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
    stage: dict[str, int],
    ends: list[int],
) -> None:
    # 3 tasks of 5 batches: 15 draws, 4 steps of 4 draws
    trainer = built(small_recipe, steps=ends[-1] + 1, accumulate=accumulate, **stage).stage(0).trainer
    heard: list[int] = []
    monkeypatch.setattr(trainer.objective.weighting, "end_epoch", lambda: heard.append(trainer.step))
    list(trainer)
    assert heard == ends


def test_what_is_logged_of_a_task_is_the_mean_over_its_batches(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = built(small_recipe, accumulate=4, tasks="mood").stage(0).trainer
    seen: list[float] = []
    whole = Objective.__call__

    def watched(self: Objective, batch: Batch, progress: float) -> Loss:
        loss = whole(self, batch, progress)
        seen.append(loss.terms["loss"])
        return loss

    monkeypatch.setattr(Objective, "__call__", watched)
    record = trainer.take_step()
    assert len(seen) == 4
    assert record.terms == {"mood": {"loss": pytest.approx(sum(seen) / 4)}}


def test_the_model_trains_with_its_dropout_on_even_after_an_evaluation(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe)
    experiment.model.eval()
    experiment.stage(0).trainer.take_step()
    assert all(module.training for module in experiment.model.modules())


def test_a_tasks_weight_scales_its_gradient(small_recipe: dict[str, Any]) -> None:
    gradients = []
    for weight in (1.0, 2.5):
        small_recipe["tasks"]["mood"]["weight"] = weight
        experiment = built(small_recipe)
        experiment.model.eval()
        loss = Objective(experiment.model, {}, Fixed(experiment.recipe.tasks, []))(
            experiment.sets["train"]["mood"].batch(range(8)), 0.0
        )
        loss.total.backward()
        gradients.append(experiment.model.heads["mood"].output.weight.grad.clone())
        assert loss.total.item() == pytest.approx(weight * loss.terms["loss"], rel=1e-6)
    torch.testing.assert_close(gradients[1], 2.5 * gradients[0], rtol=1e-5, atol=1e-8)


def test_rows_without_labels_cannot_be_learned_from(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe)
    batch = experiment.sets["train"]["mood"].batch(range(4))
    unlabelled = type(batch)(batch.task, batch.tokens, batch.segments, batch.mask, None, batch.rows, 1)
    with pytest.raises(Mistake, match="task 'mood' has no labels"):
        Objective(experiment.model, {}, Fixed(experiment.recipe.tasks, []))(unlabelled, 0.0)


def stop_at(trainer: Trainer, step: int) -> None:
    while trainer.step < step:
        trainer.take_step()


def test_a_loss_that_is_not_a_number_stops_with_step_task_and_rows(small_recipe: dict[str, Any]) -> None:
    experiment = built(small_recipe, tasks="near")
    trainer = experiment.stage(0).trainer
    stop_at(trainer, 3)
    experiment.model.heads["near"].output.bias.data.fill_(math.nan)
    rows = sorted(trainer.streams["near"].draw().rows.tolist())
    trainer.streams["near"].position -= 1
    with pytest.raises(Mistake, match=r"step 4, task 'near'.*loss nan.*rows \[") as caught:
        trainer.take_step()
    said = str(caught.value).split("rows [")[1].split("]")[0]
    assert sorted(map(int, said.split(","))) == rows
    assert trainer.step == 3


class Poison(Listener):
    """Spoils the loss of the classes after so many steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, spoil: Any) -> None:
        self.left = after
        whole = Classification.losses

        def losses(task: Classification, outputs: Tensor, targets: Tensor) -> Tensor:
            given = whole(task, outputs, targets)
            return spoil(outputs, given) if self.left <= 0 else given

        monkeypatch.setattr(Classification, "losses", losses)

    def step(self, record: Record) -> None:
        self.left -= 1


def unbounded_gradient(outputs: Tensor, losses: Tensor) -> Tensor:
    """The losses as they are, with a gradient that is not a number."""
    total = outputs.sum(-1)
    return losses + (total - total.detach()).abs().sqrt()


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_gone_wrong_leaves_the_last_checkpoint_whole(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, clip: float | None
) -> None:
    spoil = (lambda outputs, losses: losses * math.nan) if what == "loss" else unbounded_gradient
    small_recipe["stages"][0] |= {"tasks": "mood", "clip": clip, "evaluate_every": 4}
    with pytest.raises(Mistake, match=r"step 8, task 'mood'.*what was saved before is intact"):
        mtbert.train(small_recipe, out=tmp_path / "run", listener=Poison(monkeypatch, 7, spoil))
    state = load_file(tmp_path / "run" / "last" / "state.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    best = load_file(tmp_path / "run" / "best" / "tasks.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in best.values())
    assert mtbert.load(tmp_path / "run").predict("mood", ["good film"])[0] in ("low", "mid", "high")


def test_a_step_that_makes_weights_no_numbers_is_neither_kept_nor_saved(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    stage = small_recipe["stages"][0] | {"evaluate_every": 1, "steps": 2, "tasks": "same"}
    small_recipe["stages"] = [stage, stage | {"optimizer": {"lr": 1e36}, "clip": None, "keep": "last"}]
    with pytest.raises(
        Mistake, match=r"step 1, task 'same'.*outputs of task 'mood' that are nan or inf after it; ids \[[\d, ]+\]"
    ):
        mtbert.train(small_recipe, out=tmp_path / "run")
    assert Run(tmp_path / "run").scores["stage"] == 0
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_a_divergence_names_the_rows_by_their_ids(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(small_recipe["data"])
    lines = (data / "mood-train.tsv").read_text().splitlines()
    named = [lines[0], *(f"row-{line}" for line in lines[1:])]
    (data / "mood-train.tsv").write_text("\n".join([*named[:3], "bad\t\tlow", *named[3:]]) + "\n")
    small_recipe["tasks"]["mood"] |= {"id": "id", "bad_rows": "skip"}
    small_recipe["stages"][0] |= {"tasks": "mood"}
    batch = built(small_recipe).stage(0).trainer.streams["mood"].draw()
    with pytest.raises(Mistake) as caught:
        mtbert.train(
            small_recipe, out=tmp_path / "run", listener=Poison(monkeypatch, 0, lambda _, losses: losses * math.nan)
        )
    # ids count from 0 and the skipped row has another: the n-th good row is row-n
    assert f"ids [{', '.join(f'row-{row}' for row in batch.rows)}]" in str(caught.value)


def test_no_step_is_taken_on_a_gradient_that_is_not_a_number(
    small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = built(small_recipe, tasks="mood")
    trainer = experiment.stage(0).trainer
    stop_at(trainer, 2)
    before = weights(experiment)
    Poison(monkeypatch, 0, unbounded_gradient)
    with pytest.raises(Mistake, match=r"step 3.*rows"):
        trainer.take_step()
    assert all(torch.equal(p, before[name]) for name, p in experiment.model.named_parameters())


def test_weights_that_are_no_numbers_are_not_saved_even_where_another_model_is_scored(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {"name": "bregman", "evaluate": "teacher"}
    small_recipe["stages"][0] |= {"tasks": "mood", "evaluate_every": 1, "regularizers": [teacher]}
    whole = Trainer.take_step

    def spoilt(trainer: Trainer) -> Record:
        record = whole(trainer)
        trainer.learning["heads.mood.output.bias"].data.fill_(math.inf)
        return record

    monkeypatch.setattr(Trainer, "take_step", spoilt)
    with pytest.raises(Mistake, match=r"step 1, task 'mood'.*weights that are nan or inf after it"):
        mtbert.train(small_recipe, out=tmp_path / "run")
    assert not (tmp_path / "run" / "last").exists()
