"""Observers: what they see, against gradients and losses computed by hand, and that they disturb nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mtbert
from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.runs.folder import Run
from mtbert.runs.log import Look
from mtbert.training.observers import OBSERVERS, Affinity, Conflict, Observer
from mtbert.training.trainer import Trainer


def trainer_of(recipe: dict[str, Any], **stage: Any) -> Trainer:
    recipe["stages"][0] |= stage
    return build(read_recipe(recipe)).stage(0).trainer


def observer(name: str, trainer: Trainer) -> Observer:
    return OBSERVERS[name](trainer, **OBSERVERS.complete(name, {}))


def flat_gradient(trainer: Trainer, look: Observer, task: str, names: list[str]) -> Tensor:
    """The gradient of a task's own batch over these parameters, dropout off."""
    model = trainer.objective.model.eval()
    batch = look.batches()[task][0]
    model.zero_grad()
    assert batch.targets is not None
    trainer.objective.model.tasks[task].losses(model(batch), batch.targets).mean().backward()
    parameters = dict(model.named_parameters())
    flat = torch.cat([parameters[name].grad.double().flatten() for name in names])
    model.zero_grad()
    return flat


def test_conflict_is_the_cosine_of_the_tasks_gradients(small_recipe: dict[str, Any]) -> None:
    trainer = trainer_of(small_recipe)
    look = Conflict(trainer)
    seen = look.look()
    names = [name for name, _ in trainer.objective.model.named_parameters() if name.startswith("encoder.layers.1.")]
    flat = [flat_gradient(trainer, look, task, names).numpy() for task in seen["tasks"]]
    by_hand = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in flat] for a in flat]
    np.testing.assert_allclose(seen["cosines"]["layer 1"], by_hand, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(seen["cosines"]["embeddings"]), 1, atol=1e-6)


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_look_at_the_rows_that_train(small_recipe: dict[str, Any], name: str) -> None:
    small_recipe["tasks"]["mood"]["limit"] = 9
    trainer = trainer_of(small_recipe, batch_size=4)
    look = observer(name, trainer)
    seen: set[int] = set()
    for trainer.step in range(0, 20 * look.every, look.every):
        seen |= set(look.batches()["mood"][0].rows.tolist())
    trained = {int(row) for _ in range(3) for row in trainer.streams["mood"].draw().rows}
    assert len(trained) == 9
    assert seen == trained


def test_a_tasks_own_step_lowers_its_loss_by_about_the_share_it_reaches_for(small_recipe: dict[str, Any]) -> None:
    trainer = trainer_of(small_recipe)
    reach = 0.001
    seen = np.array(Affinity(trainer, reach=reach).look()["affinity"])
    # first order: the loss falls by reach * loss
    np.testing.assert_allclose(np.diagonal(seen), reach, rtol=0.05)


def test_affinity_is_what_a_step_by_hand_does_to_the_other_losses(small_recipe: dict[str, Any]) -> None:
    trainer = trainer_of(small_recipe)
    look = Affinity(trainer, reach=0.05)
    seen = look.look()
    mood, near = seen["tasks"].index("mood"), seen["tasks"].index("near")
    model = trainer.objective.model.eval()
    batches = {task: some[0] for task, some in look.batches().items()}

    def loss(task: str) -> Tensor:
        targets = batches[task].targets
        assert targets is not None
        return model.tasks[task].losses(model(batches[task]), targets).mean()

    before, own = loss("near").item(), loss("mood")
    shared = [p for name, p in model.named_parameters() if name.startswith("encoder.")]
    gradients = torch.autograd.grad(own, shared, allow_unused=True)
    norm = sum(float(g.square().sum()) for g in gradients if g is not None)
    with torch.no_grad():
        for p, g in zip(shared, gradients, strict=True):
            if g is not None:
                p.sub_(0.05 * own.detach() / norm * g)
    assert seen["affinity"][mood][near] == pytest.approx(1 - loss("near").item() / before, abs=1e-5)


@pytest.mark.parametrize("name", OBSERVERS)
def test_an_observer_leaves_training_as_it_was_to_the_bit(
    small_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    small_recipe["stages"][0] |= {"steps": 4, "evaluate_every": 4, "regularizers": ["gaussian"]}
    runs: list[Run] = []
    for observe in ([], [{"name": name, "every": 1}]):
        small_recipe["stages"][0]["observe"] = observe
        runs.append(mtbert.train(small_recipe, out=tmp_path / str(len(runs))))
    plain, observed = (load_file(run.folder / "last" / "state.safetensors") for run in runs)
    assert plain.keys() == observed.keys()
    assert all(torch.equal(plain[key], observed[key]) for key in plain)
    assert [look.observer for look in runs[1].log.only(Look)] == [name] * 4


@pytest.mark.parametrize("name", OBSERVERS)
def test_what_an_observer_sees_is_json(small_recipe: dict[str, Any], name: str) -> None:
    trainer = trainer_of(small_recipe, regularizers=["gaussian"])
    assert json.loads(json.dumps(observer(name, trainer).look()))


@pytest.mark.parametrize("name", ["conflict", "affinity"])
@pytest.mark.parametrize("stage", [{"tasks": "mood"}, {"train": "heads"}])
def test_observing_what_is_not_shared_is_refused(small_recipe: dict[str, Any], name: str, stage: Any) -> None:
    with pytest.raises(Mistake, match=r"stages\.0\.observe: there is nothing to observe"):
        trainer_of(small_recipe, observe=[name], **stage)
