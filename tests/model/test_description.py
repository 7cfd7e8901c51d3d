"""Parts of a model in words: every parameter in one of them, what is whole said as a whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.description import sizes_of
from tests.support.tiny_models import make_model, plan

# 6 layers of width 16, inner 24: attention 4 * (16 * 16 + 16), feed-forward 2 * 16 * 24 + 24 + 16, norms 2 * 2 * 16
LAYER = 4 * (16 * 16 + 16) + 2 * 16 * 24 + 24 + 16 + 2 * 2 * 16
POOLER = 16 * 16 + 16


@pytest.fixture
def model() -> MultiTask:
    return make_model([plan("lhuc", tasks=("mood",)), plan("lhuc", tasks=("same", "near"))], layers=6)


def parts(model: MultiTask, chosen: Callable[[str], bool]) -> dict[str, int]:
    return sizes_of(model, {name for name, _ in model.named_parameters() if chosen(name)})


def test_a_whole_model_is_its_heads_modules_and_encoder(model: MultiTask) -> None:
    whole = parts(model, lambda name: True)
    assert list(whole) == ["heads", "modules lhuc of mood", "modules lhuc of same and near", "encoder"]
    assert whole["encoder"] == sum(p.numel() for p in model.encoder.parameters())
    assert (whole["modules lhuc of mood"], whole["modules lhuc of same and near"]) == (6 * 16, 2 * 6 * 16)
    assert parts(make_model([plan("lhuc")]), lambda name: name.startswith("modules")) == {"modules lhuc": 3 * 3 * 16}


def test_nothing_has_no_parts(model: MultiTask) -> None:
    assert sizes_of(model, set()) == {}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_every_parameter_is_counted_once(model: MultiTask, share: float) -> None:
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    for seed in range(20):
        drawn = torch.rand(len(sizes), generator=torch.Generator().manual_seed(seed))
        chosen = {name for name, value in zip(sizes, drawn, strict=True) if value < share}
        assert sum(sizes_of(model, chosen).values()) == sum(sizes[name] for name in chosen)


def test_heads_are_named_where_not_all_are_meant(model: MultiTask) -> None:
    assert parts(model, lambda name: name.startswith(("heads.mood", "heads.near"))) == {
        "head mood": 3 * 17,
        "head near": 3 * 16 + 1,
    }


def test_layers_that_follow_each_other_are_said_together(model: MultiTask) -> None:
    frozen = parts(model, lambda name: name.startswith("encoder.") and ".layers.3." not in name)
    embeddings = (len(model.encoder.word_embedding.weight) + 20 + 2) * 16 + 2 * 16
    assert frozen == {
        "encoder embeddings": embeddings,
        "encoder layers 0-2": 3 * LAYER,
        "encoder layers 4-5": 2 * LAYER,
        "encoder pooler": POOLER,
    }
    assert parts(model, lambda name: ".layers.3." in name) == {"encoder layer 3": LAYER}


def test_norms_and_biases_have_a_word_of_their_own(model: MultiTask) -> None:
    encoder = {name: p.numel() for name, p in model.named_parameters() if name.startswith("encoder.")}
    norms = 13 * 2 * 16
    biases = sum(size for name, size in encoder.items() if name.endswith(".bias"))
    assert parts(model, lambda name: "_norm." in name) == {"encoder norms": norms}
    assert parts(model, lambda name: name in encoder and "_norm." not in name) == {
        "encoder biases and weights": sum(encoder.values()) - norms
    }
    assert parts(model, lambda name: name in encoder and name.endswith(".bias")) == {"encoder biases": biases}
    assert parts(model, lambda name: name in encoder and not name.endswith(".bias")) == {
        "encoder weights": sum(encoder.values()) - biases
    }


def test_a_layer_and_all_norms_are_told_apart(model: MultiTask) -> None:
    assert parts(model, lambda name: ".layers.5." in name or "_norm." in name) == {
        "encoder embeddings norms": 2 * 16,
        "encoder layers 0-4 norms": 5 * 2 * 2 * 16,
        "encoder layer 5": LAYER,
    }
