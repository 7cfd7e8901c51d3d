"""The encoder is BERT: judged by transformers' own."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mtbert.data.batches import Batch, Examples
from mtbert.data.kinds.classification import Classification
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import EMBEDDING_NAMES, LAYER_NAMES, load_encoder
from mtbert.model.devices import autocast
from mtbert.model.encoder import Encoder, compute, compute_again
from mtbert.model.shape import Shape
from mtbert.model.taps import Fold
from mtbert.model.task_modules.base import TaskModule
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.regularizers.table import REGULARIZERS
from tests.support.tiny_models import (
    MINILM,
    SENTENCES,
    ask,
    make_batch,
    needs_minilm,
    publish,
    relative_error,
    same_bits,
    shaken,
    tiny_bert,
    tiny_encoder,
)

PLAIN = Fold([])

BERT_BASE = os.environ.get("MTBERT_BERT_BASE")


def states_of(encoder: Encoder, batch: Batch, taps: Any = PLAIN) -> list[Tensor]:
    first = encoder.embed(batch)
    return [first, *encoder.states(first, batch, taps)]


def assert_same_as_transformers(encoder: Encoder, bert: Any, batch: Batch, taps: Any = PLAIN) -> None:
    """Every hidden state of every real token, and the pooler, within 1e-5 relative."""
    with torch.no_grad():
        theirs = ask(bert, batch)
        ours = states_of(encoder, batch, taps)
        pooled = encoder.pool(ours[-1][:, 0])

    assert len(ours) == len(theirs.hidden_states)
    errors = [
        relative_error(mine[batch.mask], other[batch.mask])
        for mine, other in zip(ours, theirs.hidden_states, strict=True)
    ]
    assert max(errors) < 1e-5, errors
    assert relative_error(pooled, theirs.pooler_output) < 1e-5


# ---- the oracle is transformers.BertModel


@pytest.mark.parametrize(
    ("config", "lengths"),
    [
        ({}, (5,)),
        ({}, (7, 1, 4, 7)),
        ({"num_hidden_layers": 1, "num_attention_heads": 1}, (1,)),
        ({"num_hidden_layers": 5, "num_attention_heads": 4, "hidden_size": 24, "intermediate_size": 7}, (2, 19, 20)),
        ({"num_hidden_layers": 2, "num_attention_heads": 16}, (3, 3)),
        ({"type_vocab_size": 1}, (6, 2)),
        ({"type_vocab_size": 4}, (6, 8)),
        ({"layer_norm_eps": 0.3}, (6, 2)),
        ({"num_hidden_layers": 2, "max_position_embeddings": 512}, (512,)),
        ({"num_hidden_layers": 2, "max_position_embeddings": 512, "hidden_size": 48}, (1, 512, 300)),
    ],
    ids=str,
)
def test_every_hidden_state_and_the_pooler_equal_transformers(
    config: dict[str, Any], lengths: Sequence[int], tmp_path: Path
) -> None:
    bert = tiny_bert(**config)
    batch = make_batch("any", lengths, segments=bert.config.type_vocab_size)

    assert_same_as_transformers(load_encoder(publish(bert, tmp_path)).eval(), bert, batch)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("seed", range(10))
def test_random_configurations_equal_transformers(seed: int, side: str, tmp_path: Path) -> None:
    draw = random.Random(seed)
    heads, longest = draw.randint(1, 6), draw.choice([1, 2, 30, 128, 512])
    bert = tiny_bert(
        num_hidden_layers=draw.randint(1, 5),
        num_attention_heads=heads,
        hidden_size=heads * draw.randint(2, 20),
        intermediate_size=draw.randint(1, 90),
        type_vocab_size=draw.randint(1, 4),
        max_position_embeddings=512,
    )
    lengths = [longest, *(draw.randint(1, longest) for _ in range(draw.randint(0, 4)))]
    batch = make_batch("any", lengths, segments=bert.config.type_vocab_size, seed=seed)

    encoder = load_encoder(publish(bert, tmp_path)).eval()
    assert_same_as_transformers(encoder, bert, padded_left(batch) if side == "left" else batch)


@needs_minilm
@pytest.mark.parametrize("side", ["left", "right"])
def test_minilm_equals_transformers_on_real_weights(side: str) -> None:
    encoder, batch = minilm_and_pairs()
    bert = transformers.BertModel.from_pretrained(MINILM, attn_implementation="eager").eval()
    assert_same_as_transformers(encoder, bert, padded_left(batch) if side == "left" else batch)


@needs_minilm
def test_minilm_in_bfloat16_stays_within_two_hundredths_of_transformers_in_float32() -> None:
    encoder, batch = minilm_and_pairs()
    bert = transformers.BertModel.from_pretrained(MINILM, attn_implementation="eager").eval()
    with torch.no_grad():
        theirs = ask(bert, batch)
        with autocast(torch.device("cpu"), torch.bfloat16):
            ours = states_of(encoder, batch)
            pooled = encoder.pool(ours[-1][:, 0])

    errors = [
        relative_error(mine[batch.mask], other[batch.mask])
        for mine, other in zip(ours, theirs.hidden_states, strict=True)
    ]
    assert max(errors) < 2e-2, errors
    assert max(errors) > 1e-4  # it was bfloat16
    assert relative_error(pooled, theirs.pooler_output) < 2e-2


@pytest.mark.parametrize("seed", range(6))
def test_bfloat16_is_no_further_from_float32_than_that_of_transformers(seed: int, tmp_path: Path) -> None:
    bert = tiny_bert(seed=seed)
    encoder, batch = load_encoder(publish(bert, tmp_path)).eval(), make_batch("any", (9, 4, 1, 20), seed=seed)
    with torch.no_grad():
        exact = ask(bert, batch).last_hidden_state[batch.mask]
        with autocast(torch.device("cpu"), torch.bfloat16):
            theirs = ask(bert, batch).last_hidden_state[batch.mask]
            ours = states_of(encoder, batch)[-1][batch.mask]

    assert relative_error(ours, exact) < max(2e-2, 2 * relative_error(theirs, exact))


def minilm_and_pairs() -> tuple[Encoder, Batch]:
    """The published encoder, and pairs of strange and long texts."""
    encoder, tokenizer = load_encoder(MINILM).eval(), Tokenizer.from_folder(MINILM)
    pair = Classification(name="pair", text=["a", "b"], label="x", classes=2)
    texts = [*SENTENCES, "A man is eating food. " * 20]
    examples = Examples.from_texts(pair, [texts, texts[::-1]], tokenizer, encoder.shape.positions)
    return encoder, examples.batch(range(len(examples)))


def padded_left(batch: Batch) -> Batch:
    """The same sequences with their padding in front; positions count from the row's first column, as BERT's do."""
    return replace(batch, tokens=batch.tokens.flip(1), segments=batch.segments.flip(1), mask=batch.mask.flip(1))


@pytest.mark.parametrize("lengths", [(4,), (7, 1, 4)], ids=str)
def test_gradients_equal_those_of_transformers(lengths: Sequence[int], tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder = load_encoder(publish(bert, tmp_path)).eval()
    batch = make_batch("any", lengths)
    weights = torch.randn(int(batch.mask.sum()), 16, generator=torch.Generator().manual_seed(5))

    (ask(bert, batch).hidden_states[-1][batch.mask] * weights).sum().backward()
    (states_of(encoder, batch)[-1][batch.mask] * weights).sum().backward()

    theirs = dict(bert.named_parameters())
    names = {ours: [f"{one}." for one in published] for ours, published in EMBEDDING_NAMES.items()}
    for index in range(3):
        for ours, published in LAYER_NAMES.items():
            names[f"layers.{index}.{ours}"] = [f"encoder.layer.{index}.{one}." for one in published]
    compared = 0
    for name, parameter in encoder.named_parameters():
        stem, _, leaf = name.rpartition(".")
        if stem != "pooler":  # no loss has reached it
            # queries, keys and values are one product here and three there
            other = torch.cat([theirs[one + leaf].grad for one in names[stem]])
            largest = max(float(other.abs().max()), 1e-3)  # the keys' biases have a gradient of zero
            assert float((parameter.grad - other).abs().max()) < 1e-5 * largest, name
            compared += 1
    assert compared == 5 + 3 * 12


@pytest.mark.skipif(BERT_BASE is None, reason="MTBERT_BERT_BASE names no folder with bert-base-uncased")
def test_bert_base_passes_the_courses_sanity_check() -> None:
    """The values of minbert-default-final-project's sanity_check.data."""
    encoder = load_encoder(Path(str(BERT_BASE))).eval()
    tokens = torch.tensor([[101, 7592, 2088, 102, 0, 0, 0, 0], [101, 7592, 15756, 2897, 2005, 17953, 2361, 102]])
    batch = replace(make_batch("any", (4, 8)), tokens=tokens, segments=torch.zeros_like(tokens))
    with torch.no_grad():
        last = states_of(encoder, batch)[-1]
        pooled = encoder.pool(last[:, 0])

    def assert_close(ours: Tensor, published: Sequence[float]) -> None:
        torch.testing.assert_close(ours, torch.tensor(published), atol=1e-5, rtol=1e-3)

    assert_close(last[0, 0, :5], [-0.168884, 0.136064, -0.1394, -0.054359, -0.295265])
    assert_close(last[1, 7, :5], [0.645269, -0.115473, -0.436594, 0.339301, -0.399916])
    assert_close(pooled[0, :5], [-0.906153, -0.311153, -0.621654, 0.774093, 0.289866])
    assert_close(pooled[1, :5], [-0.804259, -0.286005, -0.28289, 0.491087, 0.170097])
    assert_close(pooled.norm(dim=1), [16.8086, 14.5442])
    assert_close(torch.cosine_similarity(pooled[:1], pooled[1:]), [0.92767])


# ---- a tap is an edit of the weights: transformers, edited, must agree with us, tapped


class WithoutAttention(TaskModule):
    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update * (layer != 1)


class WithoutFeedForward(TaskModule):
    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        return update * (layer != 1)


class DoubledQueriesSwappedKeysAndValues(TaskModule):
    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        return (q * 2, v, k) if layer == 1 else (q, k, v)


class DoubledOutput(TaskModule):
    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        return y * (1 + (layer == 1))


def without_attention(layer: Any) -> None:
    layer.attention.output.dense.weight.zero_()
    layer.attention.output.dense.bias.zero_()


def without_feed_forward(layer: Any) -> None:
    layer.output.dense.weight.zero_()
    layer.output.dense.bias.zero_()


def doubled_queries_swapped_keys_and_values(layer: Any) -> None:
    attention = layer.attention.self
    attention.query.weight.mul_(2)
    attention.query.bias.mul_(2)
    attention.key, attention.value = attention.value, attention.key


def doubled_output(layer: Any) -> None:
    layer.output.LayerNorm.weight.mul_(2)
    layer.output.LayerNorm.bias.mul_(2)


@pytest.mark.parametrize(
    ("module", "edit"),
    [
        (WithoutAttention, without_attention),
        (WithoutFeedForward, without_feed_forward),
        (DoubledQueriesSwappedKeysAndValues, doubled_queries_swapped_keys_and_values),
        (DoubledOutput, doubled_output),
    ],
)
def test_a_tap_stands_where_the_edit_of_the_weights_says(module: Any, edit: Any, tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder = load_encoder(publish(bert, tmp_path)).eval()
    with torch.no_grad():
        edit(bert.encoder.layer[1])

    assert_same_as_transformers(encoder, bert, make_batch("any", (6, 3)), Fold([module()]))


class Listener(TaskModule):
    """Takes down what each tap was given."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []
        self.heard: list[tuple[str, int, torch.Size]] = []

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, layer: int, batch: Batch) -> tuple[Tensor, ...]:
        self.inputs.append(x)
        self.heard.append(("qkv", layer, q.shape))
        return q, k, v

    def after_attention(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        self.inputs.append(x)
        self.heard.append(("after_attention", layer, update.shape))
        return update

    def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
        self.inputs.append(x)
        self.heard.append(("after_ffn", layer, update.shape))
        return update

    def after_layer(self, y: Tensor, layer: int, batch: Batch) -> Tensor:
        self.heard.append(("after_layer", layer, y.shape))
        return y


def test_every_layer_offers_every_tap_once_with_the_layers_input() -> None:
    encoder, batch, listener = tiny_encoder(), make_batch("any", (6, 3)), Listener()
    with torch.no_grad():
        states = states_of(encoder, batch, Fold([listener]))

    taps = "qkv", "after_attention", "after_ffn", "after_layer"
    assert listener.heard == [(tap, layer, torch.Size([2, 6, 16])) for layer in range(3) for tap in taps]
    for index, x in enumerate(listener.inputs):
        assert torch.equal(x[batch.mask], states[index // 3][batch.mask])


# ---- properties


@pytest.mark.parametrize("columns", [1, 5])
def test_padding_changes_nothing(columns: int) -> None:
    encoder, batch = tiny_encoder(), make_batch("any", (6, 3, 1))
    wider = replace(
        batch,
        tokens=torch.nn.functional.pad(batch.tokens, (0, columns)),
        segments=torch.nn.functional.pad(batch.segments, (0, columns)),
        mask=torch.nn.functional.pad(batch.mask, (0, columns)),
    )
    with torch.no_grad():
        for narrow_state, wide_state in zip(states_of(encoder, batch), states_of(encoder, wider), strict=True):
            assert relative_error(wide_state[wider.mask], narrow_state[batch.mask]) < 1e-5


def test_what_stands_under_the_padding_changes_nothing() -> None:
    encoder, batch = tiny_encoder(), make_batch("any", (6, 3, 1))
    noise = make_batch("any", (6, 6, 6), seed=9)
    other = replace(
        batch,
        tokens=torch.where(batch.mask, batch.tokens, noise.tokens),
        segments=torch.where(batch.mask, batch.segments, noise.segments),
    )
    assert not torch.equal(other.tokens, batch.tokens)
    with torch.no_grad():
        for ours, theirs in zip(states_of(encoder, other), states_of(encoder, batch), strict=True):
            assert relative_error(ours[batch.mask], theirs[batch.mask]) < 1e-5


def test_a_sequence_does_not_see_the_others_of_its_batch() -> None:
    encoder, batch = tiny_encoder(), make_batch("any", (6, 3, 1, 5))
    with torch.no_grad():
        together = states_of(encoder, batch)[-1]
        for index, length in enumerate((6, 3, 1, 5)):
            alone = replace(
                batch,
                tokens=batch.tokens[index : index + 1, :length],
                segments=batch.segments[index : index + 1, :length],
                mask=batch.mask[index : index + 1, :length],
            )
            assert relative_error(together[index, :length], states_of(encoder, alone)[-1][0]) < 1e-5


def test_order_within_a_batch_changes_nothing() -> None:
    encoder, batch, order = tiny_encoder(), make_batch("any", (6, 3, 1, 5)), torch.tensor([2, 0, 3, 1])
    moved = replace(batch, tokens=batch.tokens[order], segments=batch.segments[order], mask=batch.mask[order])
    with torch.no_grad():
        ours, theirs = states_of(encoder, moved)[-1], states_of(encoder, batch)[-1][order]
    assert relative_error(ours[moved.mask], theirs[moved.mask]) < 1e-5


def test_words_positions_segments_and_context_all_matter() -> None:
    encoder, batch = tiny_encoder(), make_batch("any", (6,))
    last_word = batch.tokens.clone()
    last_word[0, 5] = 5 + (last_word[0, 5] - 4) % 10
    changes = {
        "a word far away": replace(batch, tokens=last_word),
        "the order of words": replace(batch, tokens=batch.tokens[:, [0, 2, 1, 3, 4, 5]]),
        "segments": replace(batch, segments=1 - batch.segments),
    }
    with torch.no_grad():
        before = states_of(encoder, batch)[-1][:, 0]
        for what, changed in changes.items():
            assert relative_error(states_of(encoder, changed)[-1][:, 0], before) > 1e-3, what


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"attention_dropout": 0.5}], ids=str)
def test_each_dropout_acts_in_training_and_only_there(rates: dict[str, Any]) -> None:
    batch = make_batch("any", (6, 3))
    no_dropout: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0}
    with torch.no_grad():
        clean = states_of(tiny_encoder(**no_dropout).train(), batch)[-1]
        quiet = states_of(tiny_encoder(**no_dropout | rates), batch)[-1]
        noisy = states_of(tiny_encoder(**no_dropout | rates).train(), batch)[-1]

    assert relative_error(quiet[batch.mask], clean[batch.mask]) < 1e-5
    assert relative_error(noisy[batch.mask], clean[batch.mask]) > 0.01


# ---- published numbers


def test_bert_base_has_109_482_240_parameters() -> None:
    with torch.device("meta"):
        encoder = Encoder(Shape())

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert {count(layer) for layer in encoder.layers} == {7_087_872}
    assert count(encoder.layers) == 85_054_464
    assert count(encoder.pooler) == 590_592
    assert count(encoder.word_embedding) == 23_440_896
    assert count(encoder) - count(encoder.layers) - count(encoder.pooler) == 23_837_184
    assert count(encoder) == 109_482_240


def test_a_fresh_encoder_is_initialised_as_bert_was() -> None:
    encoder = Encoder(Shape(layers=1, width=64, heads=4, inner=128, vocabulary=500))
    published = transformers.BertModel(
        transformers.BertConfig(num_hidden_layers=1, hidden_size=64, num_attention_heads=4, intermediate_size=128)
    ).encoder.layer[0]

    parameters = {name: parameter.detach() for name, parameter in encoder.named_parameters()}
    for name, parameter in parameters.items():
        if parameter.dim() == 2 and parameter.numel() > 1000:
            assert 0.019 < float(parameter.std()) < 0.021, name
            assert abs(float(parameter.mean())) < 0.002, name
    layer: Any = encoder.layers[0]
    assert torch.equal(layer.attention_norm.weight, published.attention.output.LayerNorm.weight)
    assert torch.equal(layer.contract.bias, published.output.dense.bias)
    assert not torch.cat([parameter for name, parameter in parameters.items() if "bias" in name]).any()


def test_the_poolers_values_lie_between_minus_one_and_one() -> None:
    encoder = shaken(tiny_encoder())
    pooled = encoder.pool(torch.randn(50, 16, generator=torch.Generator().manual_seed(1)))
    assert float(pooled.detach().abs().max()) < 1


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(Mistake, match="5 heads do not divide a width of 16"):
        Shape(width=16, heads=5)


# ---- activations computed again instead of kept


def loss_and_saved_bytes(encoder: Encoder, batch: Batch, taps: Any = PLAIN) -> tuple[Tensor, int]:
    """A loss with dropout on, and the bytes that its graph keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = states_of(encoder, batch, taps)[-1][batch.mask].square().sum()
    weights = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    return loss, sum(size for place, size in kept.items() if place not in weights)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_computed_again_gives_the_same_gradients_to_the_bit_and_keeps_far_less(precision: torch.dtype) -> None:
    encoder = tiny_encoder(layers=4, dropout=0.3, attention_dropout=0.2).train()
    batch, gain, seen = make_batch("any", (20, 13)), torch.nn.Parameter(torch.tensor(1.5)), {}

    class Gain(TaskModule):
        def after_ffn(self, update: Tensor, x: Tensor, layer: int, batch: Batch) -> Tensor:
            return update * gain

    for run in (compute, compute_again):
        encoder.run = run
        with autocast(torch.device("cpu"), precision):
            loss, saved = loss_and_saved_bytes(encoder, batch, Fold([Gain()]))
        loss.backward()
        gradients = [p.grad for p in (*encoder.parameters(), gain) if p.grad is not None]
        seen[run] = saved, loss.detach(), torch.get_rng_state(), gradients
        encoder.zero_grad()
        gain.grad = None

    kept, again = seen[compute], seen[compute_again]
    assert torch.equal(again[1], kept[1])
    assert torch.equal(again[2], kept[2])  # what is drawn next is the same too
    assert len(kept[3]) == len(again[3]) > 50
    assert all(torch.equal(mine, other) for mine, other in zip(again[3], kept[3], strict=True))
    assert again[0] < kept[0] / 4


def test_a_recipe_says_whether_activations_are_computed_again(small_recipe: dict[str, Any]) -> None:
    runs = [build(read_recipe(small_recipe | {"recompute": again})).model.encoder.run for again in (False, True)]
    assert runs == [compute, compute_again]


@pytest.mark.parametrize("regularizer", [None, *REGULARIZERS])
def test_training_that_computes_activations_again_is_the_same_training(
    regularizer: str | None, small_recipe: dict[str, Any]
) -> None:
    small_recipe["stages"][0]["regularizers"] = [regularizer] if regularizer else []
    weights = []
    for again in (False, True):
        experiment = build(read_recipe(small_recipe | {"recompute": again}))
        stage = experiment.stage(0)
        stage.trainer.objective.start()
        for _ in range(4):
            stage.trainer.take_step()
        weights.append(experiment.model.state_dict())
    assert same_bits(*weights)
