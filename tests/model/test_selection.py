"""Which parameters a stage trains, each part from its table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml

from mtbert.errors import Mistake
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.selection import SELECTORS, only_heads, select
from mtbert.model.shape import Shape
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build

OPTIONS: dict[str, dict[str, Any]] = {"layers": {"which": [1]}}


@pytest.fixture
def model(small_recipe: dict[str, Any]) -> MultiTask:
    return build(read_recipe(small_recipe | {"modules": ["lhuc"]})).model


def chosen(model: MultiTask, *parts: str, **options: Any) -> list[str]:
    """What learns when these parts are trained."""
    shape = model.encoder.shape
    return select(model, [SELECTORS[part](shape, **(options or OPTIONS.get(part, {}))) for part in parts])


@pytest.mark.parametrize("part", SELECTORS)
def test_a_part_chosen_earlier_is_forgotten(model: MultiTask, part: str) -> None:
    first = chosen(model, part)
    chosen(model, "heads")
    chosen(model, "all")
    assert chosen(model, part) == first


@pytest.mark.parametrize("part", SELECTORS)
def test_parts_together_are_their_union(model: MultiTask, part: str) -> None:
    union = set(chosen(model, part)) | set(chosen(model, "heads"))
    assert set(chosen(model, part, "heads")) == union


def test_all_is_every_parameter(model: MultiTask) -> None:
    assert chosen(model, "all") == [name for name, _ in model.named_parameters()]


def test_heads_are_two_tensors_a_linear_head(model: MultiTask) -> None:
    expected = {f"heads.{task}.output.{leaf}" for task in ("mood", "same", "near") for leaf in ("weight", "bias")}
    assert set(chosen(model, "heads")) == expected


def test_heads_modules_and_encoder_share_no_parameter(model: MultiTask) -> None:
    heads, modules = set(chosen(model, "heads")), set(chosen(model, "modules"))
    encoder = {name for name, _ in model.named_parameters() if name.startswith("encoder.")}
    assert not heads & modules
    assert heads | modules | encoder == set(chosen(model, "all"))
    assert sum(p.numel() for _, p in model.named_parameters() if p.requires_grad) == sum(
        p.numel() for p in model.parameters()
    )


NORMS = {
    "encoder.embedding_norm",
    *(f"encoder.layers.{layer}.{norm}_norm" for layer in range(2) for norm in ("attention", "output")),
}


def test_norms_are_the_encoders_layer_norms(model: MultiTask) -> None:
    assert set(chosen(model, "norms")) == {f"{norm}.{leaf}" for norm in NORMS for leaf in ("weight", "bias")}


def test_norms_of_bert_base_have_the_published_size() -> None:
    """Embeddings and 12 layers with two each, of 768 scales and shifts: 38,400 (Houlsby et al., 2019)."""
    with torch.device("meta"):
        model = MultiTask(Encoder(Shape()), [])
    assert sum(model.get_parameter(name).numel() for name in chosen(model, "norms")) == 38_400


def test_biases_of_bert_base_are_bitfits() -> None:
    """0.09 % of BERT-base (Ben Zaken et al., 2022): biases of q, k, v, output, both of the FFN, norms and pooler."""
    with torch.device("meta"):
        model = MultiTask(Encoder(Shape()), [])
    learning = chosen(model, "biases")
    assert all(name.endswith(".bias") for name in learning)
    in_layers = 12 * (3 * 768 + 768 + 768 + 3072 + 768 + 768)
    assert sum(model.get_parameter(name).numel() for name in learning) == in_layers + 768 + 768


def test_layers_are_all_that_stands_in_them(model: MultiTask) -> None:
    whole = {name for name, _ in model.named_parameters()}
    for which in ([0], [1], [1, 0]):
        expected = {name for name in whole if any(name.startswith(f"encoder.layers.{layer}.") for layer in which)}
        assert set(chosen(model, "layers", which=which)) == expected
        assert len(expected) == 12 * len(which)


def test_a_task_may_be_named_like_a_norm_or_a_layer() -> None:
    for part in ("norms", "biases", "layers"):
        learns = SELECTORS[part](Shape(), **OPTIONS.get(part, {}))
        assert not learns("heads.my_norm.output.bias")
        assert not learns("modules_by_task.entries.0.my_norm.up.bias")


def test_layer_1_is_not_layer_10() -> None:
    learns = SELECTORS["layers"](Shape(), which=[1])
    assert learns("encoder.layers.1.expand.weight")
    assert not learns("encoder.layers.10.expand.weight")


def test_parts_of_the_encoder_leave_modules_and_heads_alone(small_recipe: dict[str, Any]) -> None:
    modules = ["layer_norm", {"name": "pals", "size": 6, "heads": 2, "where": "top", "top_blocks": True}]
    model = build(read_recipe(small_recipe | {"modules": modules})).model
    for part in ("norms", "biases", "layers"):
        assert all(name.startswith("encoder.") for name in chosen(model, part))


def test_only_heads_means_that_nothing_else_learns(model: MultiTask) -> None:
    assert only_heads(chosen(model, "heads"))
    for part in set(SELECTORS) - {"heads"}:
        assert not only_heads(chosen(model, "heads", part))


def learning_by(small_recipe: dict[str, Any], train: Any) -> set[str]:
    """What the first stage of a recipe trains."""
    small_recipe["stages"][0]["train"] = train
    experiment = build(read_recipe(small_recipe | {"modules": ["lhuc"]}))
    experiment.stage(0)
    return {name for name, p in experiment.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "train",
    [
        ["heads", {"layers": [1]}],
        ["heads", {"name": "layers", "which": [1]}],
        [{"name": "heads"}, {"layers": [1]}],
    ],
)
def test_a_recipe_names_layers_beside_other_parts(small_recipe: dict[str, Any], train: Any, model: MultiTask) -> None:
    assert learning_by(small_recipe, train) == set(chosen(model, "heads", "layers"))


@pytest.mark.parametrize("train", ["norms", ["norms"], {"layers": [0, 1]}, [{"layers": [0]}, {"layers": [1]}]])
def test_what_a_stage_trains_reads_back_as_it_was_written(small_recipe: dict[str, Any], train: Any) -> None:
    small_recipe["stages"][0]["train"] = train
    recipe = read_recipe(small_recipe)
    assert read_recipe(yaml.safe_load(recipe.as_yaml())) == recipe


def test_parts_without_options_are_written_as_names(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"][0]["train"] = ["heads", {"layers": [1]}]
    written = yaml.safe_load(read_recipe(small_recipe).as_yaml())
    assert written["stages"][0]["train"] == ["heads", {"name": "layers", "which": [1]}]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("head", r"unknown part to train 'head'; did you mean 'heads'"),
        (["heads", {"layer": [1]}], r"stages\.0\.train\.1: needs a name: all, heads, .*layers"),
        ({"layers": [2]}, r"stages\.0\.train: there is no layer 2; this encoder has layers 0 to 1"),
        ({"layers": [-1]}, r"which of part to train 'layers' is \[-1\]: input should be greater than or equal to 0"),
        ({"layers": 1}, r"which of part to train 'layers' is 1: input should be a valid list"),
        ({"layers": []}, r"which of part to train 'layers' is \[\]"),
        ("layers", r"part to train 'layers' needs the option 'which'"),
        ({"heads": [1]}, r"stages\.0\.train: needs a name"),
        (3, r"stages\.0\.train"),
    ],
)
def test_parts_that_do_not_exist_are_explained(small_recipe: dict[str, Any], train: Any, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        learning_by(small_recipe, train)


def test_a_stage_that_would_train_nothing_is_refused(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"][0]["train"] = "modules"
    with pytest.raises(Mistake, match=r"stages\.0\.train: modules leaves nothing to train"):
        build(read_recipe(small_recipe)).stage(0)


@pytest.mark.parametrize(
    ("task", "modules", "train", "said"),
    [
        (
            {},
            [{"name": "adapter", "size": 2, "tasks": ["mood"]}],
            "modules",
            r"nothing to train for same, near; limit .*\[mood\]",
        ),
        ({"pairs": "separate", "head": "cosine"}, [], "heads", r"nothing to train for near; limit .*\[mood, same\]"),
    ],
)
def test_every_task_of_a_stage_has_something_to_learn(
    small_recipe: dict[str, Any], task: dict[str, Any], modules: list[Any], train: str, said: str
) -> None:
    small_recipe["tasks"]["near"] |= task
    small_recipe["modules"] = modules
    small_recipe["stages"][0]["train"] = train
    with pytest.raises(Mistake, match=rf"stages\.0\.train: {train} leaves {said}"):
        build(read_recipe(small_recipe)).stage(0)


def test_borrowed_parameters_are_something_to_learn(small_recipe: dict[str, Any]) -> None:
    small_recipe["modules"] = [{"name": "pals", "size": 4, "heads": 2, "share": "all"}]
    small_recipe["stages"][0]["train"] = "modules"
    assert build(read_recipe(small_recipe)).stage(0).trainer.learning
