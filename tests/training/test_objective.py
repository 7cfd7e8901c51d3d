"""The objective: which terms it has, what they add up to, and how much of the gradient each one is."""

from __future__ import annotations

import pytest
import torch

from mtbert.errors import Mistake
from mtbert.model.frozen import FrozenModel
from mtbert.runs.build import Experiment
from mtbert.training.objective import Objective
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.fixed import Fixed
from tests.support.penalised import ALL_KINDS, batch_of, copied, gradients, make


def objective(experiment: Experiment, **regularizers: Regularizer) -> Objective:
    made = Objective(experiment.model, regularizers, Fixed(experiment.recipe.tasks, []))
    made.start()
    return made


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_penalty_is_added_to_the_loss_under_its_own_name(dropping: Experiment, name: str) -> None:
    loss = objective(dropping, **{name: make(name)})(batch_of(dropping, "mood"), 0.0)
    assert set(loss.terms) == {"loss", name}
    assert loss.total.item() == pytest.approx(loss.terms["loss"] + loss.terms[name], rel=1e-6)


def test_several_penalties_add_up(dropping: Experiment) -> None:
    made = objective(dropping, **{name: make(name) for name in REGULARIZERS})
    for task in ALL_KINDS:
        loss = made(batch_of(dropping, task), 0.0)
        assert list(loss.terms) == ["loss", *REGULARIZERS]
        assert loss.total.item() == pytest.approx(sum(loss.terms.values()), rel=1e-5)


def test_a_penalty_is_a_term_of_its_tasks_alone(dropping: Experiment) -> None:
    made = objective(dropping, gaussian=make("gaussian", tasks=["near"]), smart=make("smart", tasks="mood"))
    found = {task: set(made(batch_of(dropping, task), 0.0).terms) for task in ("mood", "near", "same")}
    assert found == {"mood": {"loss", "smart"}, "near": {"loss", "gaussian"}, "same": {"loss"}}


def test_a_task_that_is_not_there_is_refused(dropping: Experiment) -> None:
    with pytest.raises(Mistake, match="regularizer 'smart': unknown task 'moood'; did you mean 'mood'"):
        objective(dropping, smart=make("smart", tasks=["moood"]))


def test_penalties_leave_the_losss_own_pass_as_it_is(dropping: Experiment) -> None:
    found = []
    for regularizers in ({}, {"gaussian": make("gaussian")}, {"smart": make("smart")}):
        torch.manual_seed(3)
        found.append(objective(dropping, **regularizers)(batch_of(dropping, "near"), 0.0).terms["loss"])
    assert found[0] == found[1] == found[2]


def test_features_computed_once_leave_nothing_to_penalise(dropping: Experiment) -> None:
    with pytest.raises(Mistake, match="cache_features: false"):
        Objective(FrozenModel(dropping.model), {"smart": make("smart")}, Fixed(dropping.recipe.tasks, []))
    assert isinstance(Objective(FrozenModel(dropping.model), {}, Fixed(dropping.recipe.tasks, [])).scored, FrozenModel)


def test_shares_are_the_norms_of_each_terms_gradient(dropping: Experiment) -> None:
    made = objective(dropping, gaussian=make("gaussian"), noise_stability=make("noise_stability"))
    batch = batch_of(dropping, "mood")
    torch.manual_seed(3)
    shares = made.gradient_shares(batch, 0.0)
    norms = {}
    for name in ("loss", "gaussian", "noise_stability"):
        torch.manual_seed(3)
        loss, penalties = made._terms(batch, 0.0)
        dropping.model.zero_grad()
        (loss if name == "loss" else penalties[name]).backward()
        norms[name] = torch.cat([g.flatten() for g in gradients(dropping.model).values()]).norm().item()
    assert shares.keys() == norms.keys()
    assert sum(shares.values()) == pytest.approx(1)
    for name, norm in norms.items():
        assert shares[name] == pytest.approx(norm / sum(norms.values()), rel=1e-4)


def test_a_weight_that_does_nothing_or_everything_shows_in_its_share(dropping: Experiment) -> None:
    found = []
    for weight in (0.0, 1e-9, 1e9):
        torch.manual_seed(3)
        made = objective(dropping, gaussian=make("gaussian", weight=weight))
        found.append(made.gradient_shares(batch_of(dropping, "mood"), 0.0)["gaussian"])
    assert found[0] == 0
    assert 0 < found[1] < 1e-6
    assert found[2] > 0.999


def test_a_penalty_without_a_gradient_has_no_share(dropping: Experiment) -> None:
    made = objective(dropping, smart_r2_exact=make("smart_r2_exact"))
    assert made.gradient_shares(batch_of(dropping, "same"), 0.0) == {"loss": 1.0, "smart_r2_exact": 0.0}


def test_asking_for_shares_leaves_no_trace(dropping: Experiment) -> None:
    made = objective(dropping, **{name: make(name) for name in REGULARIZERS})
    made(batch_of(dropping, "near"), 0.0).total.backward()
    grads, model, state = copied(gradients(dropping.model)), copied(dropping.model.state_dict()), copied(made.state())
    stood = torch.get_rng_state()
    made.gradient_shares(batch_of(dropping, "mood"), 0.5)
    assert torch.equal(torch.get_rng_state(), stood)
    for before, after in (
        (grads, gradients(dropping.model)),
        (model, dropping.model.state_dict()),
        (state, made.state()),
    ):
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_weight_by_task_is_each_tasks_own_and_leaves_the_others_alone(dropping: Experiment) -> None:
    weights = {"mood": 2.0, "near": {"name": "linear", "value": 6.0, "warmup": 0.5}}
    by_task = objective(dropping, gaussian=make("gaussian", weight=weights))
    plain = objective(dropping, gaussian=make("gaussian", weight=1.0))
    for task, progress, factor in (("mood", 0.25, 2.0), ("near", 0.25, 3.0), ("near", 0.5, 6.0)):
        found = []
        for one in (by_task, plain):
            torch.manual_seed(3)
            found.append(one(batch_of(dropping, task), progress).terms["gaussian"])
        assert found[0] == pytest.approx(factor * found[1], rel=1e-6)
    assert set(by_task(batch_of(dropping, "same"), 0.0).terms) == {"loss"}


def test_a_weight_of_a_task_that_is_not_there_is_refused(dropping: Experiment) -> None:
    with pytest.raises(Mistake, match="unknown task 'moood'"):
        objective(dropping, smart=make("smart", weight={"moood": 1.0}))


def test_a_divisor_is_of_its_task_alone(plain: Experiment) -> None:
    made = Objective(plain.model, {}, Fixed(plain.recipe.tasks, []), {"mood": 64})
    means = Objective(plain.model, {}, Fixed(plain.recipe.tasks, []))
    for task, factor in (("mood", 3 / 64), ("near", 1.0)):  # three rows over 64
        batch = batch_of(plain, task, range(3))
        assert made(batch, 0.0).terms["loss"] == pytest.approx(factor * means(batch, 0.0).terms["loss"], rel=1e-6)
