"""Features beside the vector: what they are, that they are the same everywhere, and what they leave alone."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mtbert
from mtbert.data.batches import Examples
from mtbert.data.kinds.tokens import Tokens
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_encoder, load_model, save_encoder, save_model
from mtbert.model.encoder import Encoder
from mtbert.model.files import seal
from mtbert.model.frozen import FrozenExamples, FrozenModel
from mtbert.model.heads.beside import OF_A_PAIR, Name, features_beside, width_beside
from mtbert.model.original import Original
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.reports.info import read as info
from mtbert.runs.build import Experiment, build
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.listener import Listener
from mtbert.scoring.evaluation import outputs_of
from mtbert.serving.engines import Question
from mtbert.serving.predictor import Predictor
from mtbert.shipping.hugging_face import save_classifier
from tests.support.cut_off import Kill, Killed, assert_same_run
from tests.support.tiny_models import SENTENCES, publish, same_bits, tiny_bert, tiny_tokenizer

ALL: list[Name] = ["cosine", "difference", "product", "vector"]


def beside(recipe: dict[str, Any], task: str = "same", names: list[Name] = ALL, **head: Any) -> dict[str, Any]:
    made = copy.deepcopy(recipe)
    made["tasks"][task]["head"] = {"name": "linear", "beside": names, **head}
    return made


def layer(made: Experiment, task: str) -> nn.Linear:
    output = made.model.heads[task].output
    assert isinstance(output, nn.Linear)
    return output


@pytest.fixture
def experiment(small_recipe: dict[str, Any]) -> Experiment:
    return build(read_recipe(beside(small_recipe)))


def test_the_vectors_are_those_of_transformers_read_one_text_at_a_time(tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder, tokenizer = load_encoder(publish(bert, tmp_path)), tiny_tokenizer()
    found = Original(encoder, tokenizer).vectors(tokenizer.encode(SENTENCES))
    assert found.dtype == torch.float16
    for text, vector in zip(SENTENCES, found, strict=True):
        ids = [tokenizer.first, *tokenizer.encode([text]).flat.tolist(), tokenizer.separator]
        with torch.no_grad():
            states = bert(torch.tensor([ids])).last_hidden_state[0]
        expected = states.mean(0)
        torch.testing.assert_close(vector.float(), expected / expected.square().mean().sqrt(), rtol=2e-3, atol=2e-3)


def test_the_features_are_what_their_names_say() -> None:
    u, v = torch.randn(5, 8), torch.randn(5, 8)
    u, v = (x / x.square().mean(1, keepdim=True).sqrt() for x in (u, v))
    cosine, difference, product, vector = features_beside(torch.stack([u, v], dim=1), ALL)
    torch.testing.assert_close(cosine[:, 0], F.cosine_similarity(u, v) * 8**0.5)
    assert torch.equal(difference, (u - v).abs())
    assert torch.equal(product, u * v)
    assert torch.equal(vector, torch.cat([u, v], dim=1))
    assert list(OF_A_PAIR) == ALL[:3]


def test_a_fresh_head_gives_what_it_gives_without_them(small_recipe: dict[str, Any], experiment: Experiment) -> None:
    plain = build(read_recipe(small_recipe))
    experiment.model.load_state_dict(
        {name: p for name, p in plain.model.state_dict().items() if not name.startswith("heads.same")}, strict=False
    )
    with torch.no_grad():
        ours, theirs = layer(experiment, "same"), layer(plain, "same")
        width = theirs.weight.shape[1]
        ours.weight[:, :width], ours.bias[:] = theirs.weight, theirs.bias
        assert not ours.weight[:, width:].any()
        assert ours.weight.shape[1] == width + 1 + 2 * 16 + 2 * 16
    found = outputs_of(experiment.model, experiment.sets["dev"]["same"])
    torch.testing.assert_close(found, outputs_of(plain.model, plain.sets["dev"]["same"]))


@pytest.mark.parametrize("task", ["same", "near"])
def test_the_head_reads_the_features_of_its_own_rows(small_recipe: dict[str, Any], task: str) -> None:
    made = build(read_recipe(beside(small_recipe, task, ["product"])))
    examples, head = made.sets["dev"][task], layer(made, task)
    with torch.no_grad():
        head.weight[:, :-16] = 0
        head.weight[:, -16:] = torch.randn(len(head.weight), 16)
    assert made.model.original is not None
    u, v = (made.model.original.vectors(tokens).float() for tokens in examples.tokens)
    expected = (u * v) @ head.weight[:, -16:].detach().T + head.bias.detach()
    torch.testing.assert_close(outputs_of(made.model, examples, batch_size=5), expected)


def test_a_single_text_has_its_vector_and_nothing_that_compares(small_recipe: dict[str, Any]) -> None:
    made = build(read_recipe(beside(small_recipe, "mood", ["vector"])))
    assert made.sets["train"]["mood"].vectors()[0].shape == (40, 16)
    with pytest.raises(Mistake, match=r"tasks\.mood\.head.*cosine compares two texts, and this task reads one"):
        build(read_recipe(beside(small_recipe, "mood", ["vector", "cosine"])))


def test_a_task_of_words_has_nothing_beside_them() -> None:
    names = Tokens(name="names", text="text", label="tags", classes=["O", "B-X", "I-X"])
    with pytest.raises(Mistake, match="vector is of a whole text, and this task says something of each word"):
        width_beside(names, 16, ["vector"])
    assert width_beside(names, 16, []) == 0


def test_dropout_leaves_them_alone(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["same"]["dropout"] = 1.0
    made = build(read_recipe(beside(small_recipe, names=["product"])))
    batch = made.sets["train"]["same"].batch(range(6))
    with torch.no_grad():
        layer(made, "same").weight.fill_(1.0)
    made.model.train()
    found = made.model(batch)
    assert batch.beside is not None
    expected = features_beside(batch.beside, ["product"])[0].sum(1) + layer(made, "same").bias[0]
    torch.testing.assert_close(found[:, 0], expected)


def test_training_moves_the_encoder_and_leaves_the_original_as_it_was(experiment: Experiment) -> None:
    original = experiment.model.original
    assert original is not None
    before = copy.deepcopy(original.encoder.state_dict())
    assert same_bits(before, dict(experiment.model.encoder.state_dict()))
    for _ in experiment.stage(0).trainer:
        pass
    assert same_bits(before, dict(original.encoder.state_dict()))
    assert not same_bits(before, dict(experiment.model.encoder.state_dict()))
    assert not any("original" in name for name in experiment.model.state_dict())


class Trained:
    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.recipe = beside(recipe)
        self.run = mtbert.train(self.recipe, out=folder / "run")


@pytest.fixture
def trained(small_recipe: dict[str, Any], tmp_path: Path) -> Trained:
    return Trained(tmp_path, small_recipe)


PAIRS = [("a good film", "a bad film"), ("warm tea", "cold tea"), ("slow river", "slow river")]


def test_a_saved_model_predicts_evaluates_and_moves_without_its_source(trained: Trained, tmp_path: Path) -> None:
    run = trained.run
    assert evaluate_run(run.folder).overall == pytest.approx(run.scores["dev"]["overall"], abs=1e-12)
    alone = shutil.copytree(run.folder / "best", tmp_path / "elsewhere")
    model, there = mtbert.load(run.folder), mtbert.load(alone)
    outputs = model.outputs("same", PAIRS)
    assert torch.equal(there.outputs("same", PAIRS), outputs)
    assert model.model.state_dict()["heads.same.output.weight"][:, -65:].any()  # they are used
    assert model.model.original is not None
    assert f"{model.model.original.parameters:,} of a frozen copy beside it" in repr(model)
    found = model.predict_table("same", str(Path(trained.recipe["data"]) / "same-dev.csv"))
    texts = [(row["first"], row["second"]) for row in rows_of(trained.recipe, "same-dev.csv")]
    assert [str(one) for one in model.predict("same", texts)] == [str(int(value)) for value in found.values]


def rows_of(recipe: dict[str, Any], name: str) -> list[dict[str, str]]:
    with (Path(recipe["data"]) / name).open() as file:
        return list(csv.DictReader(file))


def test_a_run_that_is_killed_goes_on_to_the_bit(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        mtbert.train(trained.recipe, out=tmp_path / "cut", listener=Kill(steps=6))
    assert_same_run(mtbert.train(trained.recipe, out=tmp_path / "cut", resume=True), trained.run)


def test_a_model_whose_copy_is_gone_or_damaged_is_refused(trained: Trained) -> None:
    best = trained.run.folder / "best"
    weights = best / "original" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(Mistake, match=r"original/model\.safetensors is damaged"):
        load_model(best)
    shutil.rmtree(best / "original")
    with pytest.raises(Mistake, match=r"original.* is missing"):
        load_model(best)


@pytest.mark.parametrize("task", ["same", "near"])
def test_heads_that_learn_alone_read_the_same_features(small_recipe: dict[str, Any], task: str) -> None:
    small_recipe["tasks"][task]["symmetric"] = "both"
    made = build(read_recipe(beside(small_recipe, task)))
    with torch.no_grad():
        layer(made, task).weight.normal_()
    examples = made.sets["dev"][task]
    cached = FrozenExamples(examples, made.model)
    ours = outputs_of(FrozenModel(made.model), cached)
    torch.testing.assert_close(ours, outputs_of(made.model, examples))
    rows, turned = np.arange(8), np.arange(8) % 2 == 0
    outputs = made.model.eval()(examples.batch(rows, turned))
    torch.testing.assert_close(FrozenModel(made.model).eval()(cached.batch(rows, turned)), outputs)


def added(recipe: dict[str, Any], names: list[Name]) -> dict[str, Any]:
    near = recipe["tasks"]["near"] | {"head": {"name": "sigmoid", "beside": names}}
    stage = recipe["stages"][0] | {"train": "heads"}
    return {"data": recipe["data"], "tasks": {"far": near}, "stages": [stage]}


def test_a_task_added_to_such_a_run_reads_the_same_original(
    trained: Trained, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    run = mtbert.add_task(trained.run.folder, added(small_recipe, ["cosine"]), out=tmp_path / "more")
    before, after = mtbert.load(trained.run.folder), mtbert.load(run.folder)
    assert torch.equal(before.outputs("same", PAIRS), after.outputs("same", PAIRS))
    assert before.model.original is not None
    assert after.model.original is not None
    assert same_bits(dict(before.model.original.encoder.state_dict()), dict(after.model.original.encoder.state_dict()))


def test_a_task_added_to_a_run_without_one_brings_it_along(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    base = mtbert.train(small_recipe, out=tmp_path / "base")
    assert not (base.folder / "best" / "original").exists()
    recipe = added(small_recipe, ["product"])
    run = mtbert.add_task(base.folder, recipe, out=tmp_path / "more")
    before, after = mtbert.load(base.folder), mtbert.load(run.folder)
    assert torch.equal(before.outputs("same", PAIRS), after.outputs("same", PAIRS))
    assert after.model.original is not None


def test_a_model_of_before_can_still_be_added_to(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    base = mtbert.train(small_recipe, out=tmp_path / "base")
    description = base.folder / "best" / "model.json"
    content = json.loads(description.read_text())
    for task in content["tasks"]:
        task["head"].pop("beside")  # as it was written before heads had the option
    description.write_text(json.dumps(content))
    (base.folder / "best" / "manifest.json").unlink()
    recipe = added(small_recipe, [])
    assert mtbert.add_task(base.folder, recipe, out=tmp_path / "more").has("best")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"name": "linear", "beside": ["cosinus"]}, "beside"),
        ({"name": "linear", "beside": ["cosine", "cosine"]}, "'cosine' is named twice"),
        ({"name": "linear", "beside": "cosine"}, "list"),
        ({"name": "cosine", "beside": ["product"]}, "unknown option of head 'cosine': 'beside'"),
    ],
)
def test_what_makes_no_sense_is_a_mistake(small_recipe: dict[str, Any], head: Any, said: str) -> None:
    small_recipe["tasks"]["near"]["head"] = head
    with pytest.raises(Mistake, match=r"tasks\.near\.head") as refusal:
        read_recipe(small_recipe)
    assert said in str(refusal.value)


# ---- both orders of a pair in training


def both(recipe: dict[str, Any], task: str, symmetric: Any, head: Any = "linear") -> Experiment:
    made = copy.deepcopy(recipe)
    made["tasks"][task] |= {"symmetric": symmetric, "head": head}
    return build(read_recipe(made))


@pytest.mark.parametrize("task", ["same", "near"])
def test_a_turned_example_is_the_one_with_its_texts_swapped(small_recipe: dict[str, Any], task: str) -> None:
    made = both(small_recipe, task, "train", {"name": "linear", "beside": ["vector"]})
    examples: Examples = made.sets["train"][task]
    swapped = Examples(
        examples.task, examples.tokens[::-1], made.tokenizer, 512, examples.labels, made.model.apart([task])
    )
    rows, turned = np.arange(12), np.arange(12) % 3 == 0
    mixed = outputs(made, examples.batch(rows, turned))
    plain, other = outputs(made, examples.batch(rows)), outputs(made, swapped.batch(rows))
    expected = torch.where(torch.from_numpy(turned)[:, None], other, plain)
    torch.testing.assert_close(mixed, expected)
    assert not torch.allclose(plain, other)
    for all_alike, there in ((np.zeros(12, bool), plain), (np.ones(12, bool), other)):
        torch.testing.assert_close(outputs(made, examples.batch(rows, all_alike)), there)


def outputs(made: Experiment, batch: Any) -> Tensor:
    with torch.no_grad():
        layer(made, batch.task).weight.normal_(generator=torch.Generator().manual_seed(1))
        found: Tensor = made.model.eval()(batch)
    return found


def test_a_stream_turns_about_half_by_seed_and_position(small_recipe: dict[str, Any]) -> None:
    made = both(small_recipe, "same", "train")
    stream = made.stage(0).trainer.streams["same"]
    straight = made.sets["train"]["same"]
    turned = []
    for _ in range(40):
        batch = stream.draw()
        plain = straight.batch(batch.rows)
        turned += [
            not torch.equal(a[m], b[n])
            for a, m, b, n in zip(batch.tokens, batch.mask, plain.tokens, plain.mask, strict=True)
        ]
    assert 0.35 < np.mean(turned) < 0.65  # of 320 coins
    again = made.stage(0).trainer.streams["same"]
    again.position = 39
    assert torch.equal(again.draw().tokens, batch.tokens)


@pytest.mark.parametrize(
    ("symmetric", "turns", "orders"), [(False, 0, 1), (True, 0, 2), ("train", 1, 1), ("both", 1, 2)]
)
def test_what_symmetric_says_of_training_and_of_prediction(
    small_recipe: dict[str, Any], symmetric: Any, turns: int, orders: int
) -> None:
    made = both(small_recipe, "near", symmetric)
    assert len(made.sets["dev"]["near"].orders) == orders
    drawn, plain = (both(small_recipe, "near", one).stage(0).trainer.streams["near"] for one in (symmetric, False))
    assert any(not torch.equal(drawn.draw().tokens, plain.draw().tokens) for _ in range(5)) == bool(turns)


@pytest.mark.parametrize("train", ["all", "heads"])
def test_a_run_that_turns_pairs_goes_on_to_the_bit(small_recipe: dict[str, Any], tmp_path: Path, train: str) -> None:
    recipe = beside(small_recipe, names=["vector"])
    recipe["tasks"]["same"]["symmetric"] = "both"
    recipe["stages"][0]["train"] = train
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=7))
    assert_same_run(mtbert.train(recipe, out=tmp_path / "cut", resume=True), whole)


def test_one_text_has_no_orders(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["mood"]["symmetric"] = "train"
    with pytest.raises(Mistake, match="symmetric is for pairs"):
        read_recipe(small_recipe)


def test_what_is_looked_at_in_bfloat16_may_have_features_beside(small_recipe: dict[str, Any]) -> None:
    """Looking draws its batches where a step computes, and autocast joins no tensors of float16."""
    recipe = beside(small_recipe) | {"precision": "bfloat16"}
    recipe["stages"][0]["regularizers"] = [{"name": "r_drop", "weight": 1}]
    assert check(build(read_recipe(recipe))).stages


# ---- what it costs is said


def test_check_info_and_training_say_what_the_copy_costs(
    trained: Trained, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    made = build(read_recipe(trained.recipe))
    report = check(made)
    assert report.beside is not None
    assert made.model.original is not None
    size = sum(p.numel() for p in made.model.encoder.parameters())
    assert (report.beside.tasks, report.beside.parameters, report.beside.texts) == (["same"], size, 2 * (40 + 12))
    assert f"{size:,} parameters" in report.beside.said
    assert check(build(read_recipe(small_recipe))).beside is None
    sizes = info(trained.run).sizes
    assert sizes["best"] > sizes["best/original"] > 4 * size

    class Notes(Listener):
        def __init__(self) -> None:
            self.said: list[str] = []
            self.read: list[tuple[int, int]] = []

        def note(self, text: str) -> None:
            self.said.append(text)

        def reading(self, done: int, texts: int) -> None:
            self.read.append((done, texts))

    notes = Notes()
    small_recipe["stages"][0]["steps"] = 1
    for number, recipe in enumerate((small_recipe, beside(small_recipe))):
        mtbert.train(recipe, out=tmp_path / str(number), listener=notes)
    assert [one.split(":")[0] for one in notes.said] == ["features beside the vector"]
    done = [count for count, _ in notes.read]
    assert {texts for _, texts in notes.read} == {2 * (40 + 12)}
    assert done == sorted(set(done))
    assert done[-1] == 2 * (40 + 12)
    assert {40, 80, 92} <= set(done)  # where a column of a set ends


def test_what_cannot_be_exported_with_them_says_so(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="its head reads features beside the vector"):
        save_classifier(experiment.model, experiment.tokenizer, "same", tmp_path / "classifier")


def test_tasks_that_are_answered_together_have_their_features(small_recipe: dict[str, Any]) -> None:
    recipe = small_recipe | {"tasks": {"same": small_recipe["tasks"]["same"]}}
    recipe["tasks"]["alike"] = copy.deepcopy(recipe["tasks"]["same"])
    made = build(read_recipe(beside(recipe)))
    with torch.no_grad():
        layer(made, "same").weight.normal_()
    model = Predictor(made.model, made.tokenizer)
    assert model.model.alike(["alike", "same"]) == [["alike", "same"]]
    first, second = [[pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]]
    (together,) = model.answer([Question(["alike", "same"], [first, second])])
    for task in ("alike", "same"):
        torch.testing.assert_close(together[task], model.outputs(task, PAIRS))


def test_an_original_of_another_size_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    save_model(experiment.model, experiment.tokenizer, tmp_path)
    own = experiment.model.encoder.shape
    save_encoder(Encoder(replace(own, width=own.width // 2)), experiment.tokenizer, tmp_path / "original")
    seal(tmp_path)
    with pytest.raises(Mistake, match=r"original/config\.json: hidden_size is 8, not 16 as in .*encoder/config\.json"):
        load_model(tmp_path)
