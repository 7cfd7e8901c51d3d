"""Pooling, pair features and heads: judged by values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.ordinal import Ordinal
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model, save_model
from mtbert.model.heads.head import HEADS
from mtbert.model.heads.pair_features import FEATURES, feature_width
from mtbert.model.heads.pooling import POOLINGS
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.registry import Count
from mtbert.runs.build import build
from tests.support.tiny_models import (
    BATCHES,
    MOOD,
    NEAR,
    SAME,
    make_batch,
    relative_error,
    same_bits,
    tiny_encoder,
    tiny_tokenizer,
)

STARS = Ordinal(name="stars", text="text", label="stars", classes=["low", "mid", "high"], method="cumulative")
OF_WORDS = replace(make_batch("mood", (5, 1, 7)), words=torch.tensor([[1, 2, 4, 0], [0, 0, 0, 0], [1, 6, -1, -1]]))
U, V = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-1.0, 0.5, 2.0]])

SCORES = ["sigmoid", "cosine", "cosine01"]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_head(name: str, task: Task, width: int) -> nn.Module:
    return HEADS[name](task, width, feature_width(task, width)).eval()


def outputs_of(head: nn.Module, features: Tensor) -> Tensor:
    with torch.no_grad():
        return head(features)


# ---- pooling


def test_mean_is_the_mean_of_the_real_tokens() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 1.0]]])
    pooled = POOLINGS["mean"]()(states, make_batch("mood", (2, 3)), tiny_encoder())
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 3.0], [7.0, 5.0]]))


def test_cls_is_the_first_state() -> None:
    states = random(3, 7, 16)
    pooled = POOLINGS["cls"]()(states, BATCHES["mood"], tiny_encoder())
    assert pooled.tolist() == [sequence[0].tolist() for sequence in states]


def test_pooler_is_tanh_of_a_linear_layer_on_the_first_state() -> None:
    encoder, states = tiny_encoder(), random(2, 5, 16)
    weight, bias = encoder.pooler.weight.tolist(), encoder.pooler.bias.tolist()
    pooled = POOLINGS["pooler"]()(states, make_batch("mood", (5, 2)), encoder).tolist()
    for row in range(2):
        first = states[row, 0].tolist()
        by_hand = [
            math.tanh(sum(w * x for w, x in zip(column, first, strict=True)) + b)
            for column, b in zip(weight, bias, strict=True)
        ]
        assert pooled[row] == pytest.approx(by_hand, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_gives_one_vector_a_sequence_or_word_and_never_reads_padding(name: str) -> None:
    encoder, batch, states = tiny_encoder(), OF_WORDS, random(3, 7, 16)
    noisy = torch.where(batch.mask[:, :, None], states, 1e6)
    with torch.no_grad():
        pooled = POOLINGS[name]()(states, batch, encoder)
        assert pooled.shape == ((3, 4, 16) if name == "words" else (3, 16))
        assert torch.equal(POOLINGS[name]()(noisy, batch, encoder), pooled)


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_does_not_notice_how_far_a_batch_is_padded(name: str) -> None:
    encoder, batch, states = tiny_encoder(), OF_WORDS, random(3, 7, 16)
    wider = replace(batch, mask=nn.functional.pad(batch.mask, (0, 4)))
    with torch.no_grad():
        pooled = POOLINGS[name]()(nn.functional.pad(states, (0, 0, 0, 4)), wider, encoder)
        assert relative_error(pooled, POOLINGS[name]()(states, batch, encoder)) < 1e-6


# ---- pair features


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("concat", [1, 2, 3, -1, 0.5, 2]),
        ("difference", [1, 2, 3, -1, 0.5, 2, 2, 1.5, 1]),
        ("product", [1, 2, 3, -1, 0.5, 2, 2, 1.5, 1, -1, 1, 6]),
    ],
)
def test_features_of_a_pair_by_hand(name: str, by_hand: list[float]) -> None:
    assert FEATURES[name]()(U, V).tolist() == [by_hand]


@pytest.mark.parametrize("name", FEATURES)
def test_every_features_begin_with_both_texts(name: str) -> None:
    u, v = random(4, 6, seed=1), random(4, 6, seed=2)
    features = FEATURES[name]()(u, v)
    assert torch.equal(features[:, :12], torch.cat([u, v], dim=1))
    assert features.shape == (4, feature_width(NEAR.model_copy(update={"features": name}), 6))


@pytest.mark.parametrize("name", ["difference", "product"])
def test_swapping_a_pair_changes_nothing_but_which_text_is_first(name: str) -> None:
    u, v = random(4, 6, seed=1), random(4, 6, seed=2)
    there, back = FEATURES[name]()(u, v), FEATURES[name]()(v, u)
    assert torch.equal(there[:, 12:], back[:, 12:])
    assert torch.equal(there[:, :6], back[:, 6:12])


@pytest.mark.parametrize(("task", "width"), [(MOOD, 768), (SAME, 768), (NEAR, 2304)], ids=["one", "joint", "separate"])
def test_a_head_reads_one_vector_unless_the_pair_is_encoded_apart(task: Task, width: int) -> None:
    assert feature_width(task, 768) == width


# ---- heads


def classes(count: int) -> Classification:
    return Classification(name="sentiment", text="text", label="label", classes=count)


def test_zero_weights_cost_the_logarithm_of_the_number_of_classes() -> None:
    task = classes(5)
    head = make_head("linear", task, 16)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    losses = task.losses(outputs_of(head, random(4, 16)), torch.tensor([0, 1, 3, 4]))
    assert losses.tolist() == pytest.approx([1.6094379] * 4)


def joint(**options: Any) -> Regression:
    return NEAR.model_copy(update={"pairs": "joint"} | options)


@pytest.mark.parametrize(
    ("task", "parameters"),
    [
        (classes(5), 3845),
        (classes(2), 1538),
        (joint(), 769),
        (NEAR.model_copy(update={"features": "concat"}), 1537),
        (NEAR.model_copy(update={"features": "difference"}), 2305),
    ],
    ids=["5 classes", "2 classes", "joint score", "[u; v]", "[u; v; |u - v|]"],
)
def test_a_linear_head_on_bert_base_has_the_published_number_of_parameters(task: Task, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in make_head("linear", task, 768).parameters()) == parameters


@pytest.mark.parametrize("features", FEATURES)
def test_cosine_by_hand_whatever_the_features(features: str) -> None:
    task = NEAR.model_copy(update={"features": features})
    cosine = outputs_of(make_head("cosine", task, 3), FEATURES[features]()(U, V))
    moved = outputs_of(make_head("cosine01", task, 3), FEATURES[features]()(U, V))
    assert cosine.tolist() == [[pytest.approx(0.6998542, abs=1e-6)]]
    assert moved.tolist() == [[pytest.approx(1.6998542 / 2, abs=1e-6)]]


def test_cosine_of_equal_opposite_orthogonal_and_zero_vectors() -> None:
    u = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    v = torch.tensor([[6.0, 8.0], [-3.0, -4.0], [-4.0, 3.0], [0.0, 0.0]])
    pair = torch.cat([u, v], dim=1)
    assert outputs_of(make_head("cosine", NEAR, 2), pair).flatten().tolist() == pytest.approx([1, -1, 0, 0], abs=1e-6)
    moved = outputs_of(make_head("cosine01", NEAR, 2), pair).flatten().tolist()
    assert moved == pytest.approx([1, 0, 0.5, 0.5], abs=1e-6)


@pytest.mark.parametrize("name", ["cosine", "cosine01"])
def test_swapping_a_pair_leaves_the_cosine_unchanged(name: str) -> None:
    u, v, head = random(4, 6, seed=1), random(4, 6, seed=2), make_head(name, NEAR, 6)
    assert torch.equal(outputs_of(head, torch.cat([u, v], 1)), outputs_of(head, torch.cat([v, u], 1)))


@pytest.mark.parametrize("name", ["cosine", "cosine01"])
def test_a_cosine_has_no_parameters(name: str) -> None:
    assert not list(make_head(name, NEAR, 6).parameters())


def test_a_sigmoid_head_squashes_a_linear_one() -> None:
    linear, sigmoid = make_head("linear", joint(), 16), make_head("sigmoid", joint(), 16)
    sigmoid.load_state_dict(linear.state_dict())
    features = random(50, 16) * 10
    by_hand = [1 / (1 + math.exp(-score)) for (score,) in outputs_of(linear, features).tolist()]
    assert outputs_of(sigmoid, features).flatten().tolist() == pytest.approx(by_hand, rel=1e-5)
    assert 0 < min(by_hand) < 0.4
    assert 0.6 < max(by_hand) < 1


@pytest.mark.parametrize("name", ["linear", "sigmoid"])
def test_dropout_acts_in_training_and_only_there(name: str) -> None:
    task = joint(dropout=1.0)
    head: Any = make_head(name, task, 16)
    features = random(4, 16)
    with torch.no_grad():
        assert torch.equal(head(features), head(features))
        assert len(set(head(features).flatten().tolist())) == 4
        nn.init.constant_(head.output.bias, 0.25)
        alone = 0.25 if name == "linear" else 1 / (1 + math.exp(-0.25))
        assert head.train()(features).flatten().tolist() == pytest.approx([alone] * 4)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_gives_as_many_outputs_as_its_task_wants_or_refuses_it(name: str) -> None:
    accepted = 0
    for task in (MOOD, SAME, SAME.model_copy(update={"pairs": "separate"}), joint(), NEAR, STARS):
        try:
            head = make_head(name, task, 16)
        except Mistake:
            continue
        outputs = outputs_of(head, random(4, feature_width(task, 16)))
        assert outputs.shape == (4, task.outputs)
        assert task.losses(outputs, task.targets(BATCHES["mood"].rows[[0, 1, 0, 1]].astype(np.float64))).shape == (4,)
        accepted += 1
    assert accepted


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_no_head_for_classes(name: str) -> None:
    task = SAME.model_copy(update={"pairs": "separate"})
    with pytest.raises(Mistake, match=f"task 'same': head '{name}' gives a score.*head: linear".replace("01", "(01)?")):
        make_head(name, task, 16)


@pytest.mark.parametrize("name", ["cosine", "cosine01"])
@pytest.mark.parametrize("task", [joint(), joint(text=("a",))], ids=["joint", "one text"])
def test_a_cosine_needs_two_texts_encoded_apart(name: str, task: Task) -> None:
    with pytest.raises(Mistake, match=r"task 'near': a cosine head compares two texts .* `pairs: separate`"):
        make_head(name, task, 16)


# ---- options


class PowerMean:
    """The mean of powers of the absolute states, and the root of it."""

    def __init__(self, *, power: Count = 1) -> None:
        self.power = power

    def __call__(self, states: Tensor, batch: Any, encoder: Any) -> Tensor:
        return MEAN(states.abs() ** self.power, batch, encoder) ** (1 / self.power)


MEAN: Any = POOLINGS["mean"]()


@pytest.fixture
def power_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POOLINGS._makers, "power_mean", PowerMean)


@pytest.mark.usefixtures("power_mean")
def test_options_reach_the_pooling_and_come_back_from_a_folder(tmp_path: Path) -> None:
    task = MOOD.model_copy(update={"pooling": {"name": "power_mean", "power": 3}})
    model, batch = MultiTask(tiny_encoder(), [task]).eval(), BATCHES["mood"]
    states = random(*batch.mask.shape, 16)
    sequences = zip(states, batch.mask, strict=True)
    by_hand = torch.stack([(rows[mask].abs() ** 3).mean(0) ** (1 / 3) for rows, mask in sequences])
    torch.testing.assert_close(model.features(states, batch), by_hand)

    save_model(model, tiny_tokenizer(), tmp_path / "model")
    again, _ = load_model(tmp_path / "model")
    assert again.tasks["mood"] == task
    assert same_bits({"": again(batch)}, {"": model(batch)})


@pytest.mark.usefixtures("power_mean")
@pytest.mark.parametrize(
    ("pooling", "kept"),
    [
        ("mean", "mean"),
        ({"name": "mean"}, "mean"),
        ("power_mean", {"name": "power_mean", "power": 1}),
        ({"name": "power_mean", "power": 2}, {"name": "power_mean", "power": 2}),
    ],
)
def test_a_recipe_keeps_a_plain_name_plain_and_fills_in_options(
    pooling: Any, kept: Any, small_recipe: dict[str, Any]
) -> None:
    small_recipe["tasks"]["mood"]["pooling"] = pooling
    recipe = read_recipe(small_recipe)
    assert recipe.tasks["mood"].pooling == kept
    written = yaml.safe_load(recipe.as_yaml())
    assert written["tasks"]["mood"]["pooling"] == kept
    head = {"name": "linear", "activation": "none", "beside": []}
    assert (written["tasks"]["mood"]["features"], written["tasks"]["mood"]["head"]) == ("difference", head)
    assert read_recipe(written) == recipe


@pytest.mark.usefixtures("power_mean")
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("pooling: {name: power_mean, power: 0}", "pooling.power: power of pooling 'power_mean' is 0"),
        ("pooling: {name: power_mean, pover: 2}", "pooling.pover: unknown option of pooling 'power_mean': 'pover'"),
        ("pooling: {name: mean, power: 2}", "pooling.power: unknown option of pooling 'mean': 'power' (it has none)"),
        ("pooling: {power: 2}", "pooling: needs a name: mean, cls, pooler, words, power_mean"),
        ("pooling: 5", "pooling: write a name, or {name: ..., option: value}, not 5"),
        ("features: [concat]", "features: write a name, or {name: ..., option: value}, not ['concat']"),
        ("head: {name: linaer}", "head.name: unknown head 'linaer'; did you mean 'linear'?"),
    ],
)
def test_a_wrong_option_is_said_with_its_line(
    written: str, said: str, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    mood = small_recipe["tasks"].pop("mood")
    body = yaml.safe_dump({"stages": small_recipe["stages"], "tasks": {"mood": mood}})
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{body}    {written}\n")
    with pytest.raises(Mistake) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}, line {len(body.splitlines()) + 1}: tasks.mood.{said}")
    assert "\n" not in str(caught.value)


def test_a_head_that_does_not_fit_its_task_is_said_with_its_line(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    near = small_recipe["tasks"].pop("near") | {"pairs": "joint"}
    head = yaml.safe_dump({key: value for key, value in small_recipe.items() if key != "tasks"})
    body = f"{head}{yaml.safe_dump({'tasks': {'near': near}})}"
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{body}    head: cosine\n")
    with pytest.raises(Mistake) as caught:
        build(read_recipe(path))
    line = len(body.splitlines()) + 1
    assert str(caught.value).startswith(f"{path}, line {line}: tasks.near.head: task 'near': a cosine head compares")


@pytest.mark.parametrize(
    ("family", "wrong"),
    [(POOLINGS, "men"), (FEATURES, "diference"), (HEADS, "linaer")],
    ids=["pooling", "features", "head"],
)
def test_an_unknown_name_is_answered_with_the_nearest(family: Any, wrong: str) -> None:
    with pytest.raises(Mistake, match=f"unknown {family.family} '{wrong}'; did you mean"):
        family[wrong]


# ---- one logit, and an activation before a head


def one_logit(width: int = 16, activation: str = "none") -> nn.Module:
    return HEADS["one_logit"](SAME, width, width, activation=activation).eval()


def test_one_logit_has_half_the_parameters_and_the_binary_cross_entropy() -> None:
    assert sum(p.numel() for p in one_logit(768).parameters()) == 769
    head, features = one_logit(), random(40, 16)
    outputs = outputs_of(head, features)
    output: Any = head.output
    logits = features @ output.weight[0] + output.bias
    targets = torch.arange(40) % 2
    by_hand = nn.functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")
    torch.testing.assert_close(SAME.losses(outputs, targets), by_hand.detach())
    # predict 1 where the logit is above 0
    assert SAME.decode(outputs).tolist() == (logits > 0).double().tolist()
    assert SAME.decode(torch.zeros(1, 2)).tolist() == [0.0]
    torch.testing.assert_close(torch.from_numpy(SAME.probabilities(outputs)["1"]).float(), logits.sigmoid().detach())


@pytest.mark.parametrize(("u", "v", "divergence"), [(0.0, math.log(9), 0.87888983), (0.5, -0.3, 0.15752148)])
def test_the_divergence_of_one_logit_is_bernoullis_and_never_zero_by_construction(
    u: float, v: float, divergence: float
) -> None:
    def outputs(logit: float) -> Tensor:
        head = one_logit(1)
        with torch.no_grad():
            head.output.weight.fill_(logit)
            head.output.bias.zero_()
        return head(torch.ones(1, 1))

    closed = (1 / (1 + math.exp(-u)) - 1 / (1 + math.exp(-v))) * (u - v)
    found = SAME.divergence(outputs(u), outputs(v))
    assert found.item() == pytest.approx(closed, rel=1e-5)
    assert found.item() == pytest.approx(divergence, rel=1e-6)
    assert found.requires_grad


@pytest.mark.parametrize("task", [MOOD, NEAR])
def test_one_logit_is_for_two_classes(task: Task) -> None:
    with pytest.raises(Mistake, match=f"task '{task.name}': head 'one_logit' is for two classes"):
        make_head("one_logit", task, 16)


@pytest.mark.parametrize("name", ["linear", "one_logit"])
def test_an_activation_comes_before_the_linear_layer(name: str) -> None:
    features = random(6, 16)
    by_hand = torch.where(features > 0, features, 0.01 * features)
    plain, leaky = (HEADS[name](SAME, 16, 16, activation=kind).eval() for kind in ("none", "leaky_relu"))
    leaky.load_state_dict(plain.state_dict())
    assert torch.equal(outputs_of(leaky, features), outputs_of(plain, by_hand))


def test_a_squashed_score_without_a_scale_lies_in_the_tasks_range() -> None:
    raw, scaled = (joint(scaled=flag) for flag in (False, True))
    low, high = scaled.range
    heads = [make_head("sigmoid", task, 16) for task in (raw, scaled)]
    heads[0].load_state_dict(heads[1].state_dict())
    features = random(9, 16)
    ours, theirs = (outputs_of(head, features) for head in heads)
    torch.testing.assert_close(ours, low + (high - low) * theirs)
    assert raw.decode(ours).tolist() == pytest.approx(scaled.decode(theirs).tolist(), rel=1e-5)
