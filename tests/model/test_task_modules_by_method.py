"""Each task module against its formula, a published number or a second implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from mtbert.data.batches import Batch
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_encoder, merged, save_encoder
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.taps import Fold
from mtbert.model.task_modules.adapters import Adapter, Bottleneck
from mtbert.model.task_modules.assignment import TaskModules
from mtbert.model.task_modules.base import ModulePlan, TaskModule
from mtbert.model.task_modules.lora import LoRA
from mtbert.model.task_modules.pals import LowRank, PALs
from mtbert.model.task_modules.relational import Relational
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.model.task_modules.vectors import LHUC, EmBERT, LayerNorm
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from tests.support.tiny_models import (
    BATCHES,
    MOOD,
    NEAR,
    SAME,
    ask,
    make_batch,
    make_model,
    relative_error,
    same_bits,
    shaken,
    tiny_bert,
    tiny_encoder,
    tiny_shape,
    tiny_tokenizer,
)

NEAR_TOO = NEAR.model_copy(update={"name": "near_too"})
FAR = make_batch("near_too", (4, 5, 3, 7), sequences=2, seed=5)


def entry(name: str, **options: Any) -> ModulePlan:
    place = {key: options.pop(key) for key in ("tasks", "shared") if key in options}
    return ModulePlan(name, TASK_MODULES.complete(name, options), **place)


def pair_of(bert: Any, tmp_path: Path) -> Encoder:
    """The encoder with the weights of a model of transformers."""
    bert.save_pretrained(tmp_path)
    return load_encoder(tmp_path).eval()


def last_state(encoder: Encoder, module: TaskModule, batch: Batch) -> Tensor:
    """The states that leave the encoder, at real tokens."""
    *_, last = encoder.states(encoder.embed(batch), batch, Fold([module]))
    return module.after_encoder(last, batch)[batch.mask]


Change = Callable[[int, Any], Any]


@contextmanager
def changed(bert: Any, part: str, change: Change) -> Any:
    """transformers' BERT with `change(layer, y)` in place of what a part of each layer returns."""
    hooks = [
        layer.get_submodule(part).register_forward_hook(lambda _, __, y, number=number: change(number, y))
        for number, layer in enumerate(bert.encoder.layer)
    ]
    yield
    for hook in hooks:
        hook.remove()


def by_hand(linear: Any, x: Tensor) -> Tensor:
    return x @ linear.weight.T + linear.bias


# ---- adapters (Houlsby et al., 2019)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("after_attention", [True, False])
def test_adapters_before_the_norm_are_houlsbys(after_attention: bool, activation: Any, tmp_path: Path) -> None:
    """Against hooks on transformers' BERT: h + W2 g(W1 h + b1) + b2 of each update after its dropout."""
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    adapter = shaken(Adapter(encoder.shape, size=5, after_attention=after_attention, activation=activation), seed=1)

    def bottleneck(layer: Any, h: Tensor) -> Tensor:
        inner = by_hand(layer.down, h)
        inner = inner.clamp(min=0) if activation == "relu" else inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        return h + by_hand(layer.up, inner)

    with torch.no_grad(), changed(bert, "output.dropout", lambda i, y: bottleneck(adapter.output[i], y)):
        attention = adapter.attention or [None] * 3
        with changed(bert, "attention.output.dropout", lambda i, y: bottleneck(attention[i], y) if attention[i] else y):
            theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, adapter, batch), theirs) < 1e-5


def test_adapters_after_the_norm_adapt_the_layers_output(tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    adapter = shaken(Adapter(encoder.shape, size=5, where="after_norm", after_attention=False), seed=1)

    def bottleneck(i: int, y: Tensor) -> Tensor:
        return y + by_hand(adapter.output[i].up, F.gelu(by_hand(adapter.output[i].down, y)))

    with torch.no_grad(), changed(bert, "output", bottleneck):
        theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, adapter, batch), theirs) < 1e-5


def test_lhuc_in_an_adapter_scales_what_it_adds() -> None:
    bottleneck = shaken(Bottleneck(16, 4, "gelu", True, 1e-3))
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        bottleneck.gain.gain.zero_()
        added = bottleneck(x) - x
        bottleneck.gain.gain.fill_(math.log(3))
        torch.testing.assert_close(bottleneck(x) - x, 1.5 * added)


@pytest.mark.parametrize("std", [1e-3, 1e-2])
def test_adapters_begin_with_a_normal_cut_at_two_deviations(std: float) -> None:
    adapter = Adapter(Shape(layers=2), std=std)
    weights = torch.cat([p.detach().flatten() for p in adapter.parameters() if p.dim() == 2])
    assert len(weights) == 2 * 2 * 2 * 64 * 768
    assert float(weights.abs().max()) <= 2 * std
    assert float(weights.abs().max()) > 1.99 * std
    assert float(weights.std()) == pytest.approx(0.8796 * std, rel=0.01)  # of a normal cut at two deviations
    assert not torch.cat([p.detach().flatten() for p in adapter.parameters() if p.dim() == 1]).any()


@pytest.mark.parametrize(("std", "published"), [(1e-3, 8.6e-5), (1e-2, 9e-3)])
def test_a_fresh_adapter_is_as_near_to_the_identity_as_measured(std: float, published: float) -> None:
    """Relative deviation on normalised states of width 768, by methods.md 14."""
    bottleneck = Bottleneck(768, 64, "gelu", False, std)
    h = F.layer_norm(torch.randn(256, 768, generator=torch.Generator().manual_seed(1)), [768])
    with torch.no_grad():
        deviation = float((bottleneck(h) - h).norm() / h.norm())
    assert deviation == pytest.approx(published, rel=0.15)


def test_attention_is_not_adapted_behind_the_norm() -> None:
    with pytest.raises(Mistake, match="set `after_attention: false`"):
        Adapter(tiny_shape(), where="after_norm")


# ---- LHUC (Swietojanski and Renals, 2014)


def lhuc(gain: float) -> LHUC:
    module = LHUC(tiny_shape(layers=2, width=4, heads=1))
    nn.init.constant_(module.get_parameter("gains.1.gain"), gain)
    return module


@pytest.mark.parametrize(
    ("gain", "factor"), [(0.0, 1.0), (math.log(3), 1.5), (-math.log(3), 0.5), (50.0, 2.0), (-50.0, 0.0)]
)
def test_lhuc_scales_by_twice_the_sigmoid_of_its_gain(gain: float, factor: float) -> None:
    y = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(lhuc(gain).after_layer(y, 1, BATCHES["mood"]), factor * y)


def test_lhuc_scales_each_layer_and_unit_by_its_own_gain() -> None:
    module = lhuc(0.0)
    with torch.no_grad():
        module.gains[1].gain[2] = math.log(3)
        ones = torch.ones(1, 1, 4)
        assert module.after_layer(ones, 0, BATCHES["mood"]).flatten().tolist() == [1, 1, 1, 1]
        assert module.after_layer(ones, 1, BATCHES["mood"]).flatten().tolist() == pytest.approx([1, 1, 1.5, 1])


def test_lhucs_gradient_at_zero_is_half_the_state_times_the_gradient_behind_it() -> None:
    generator = torch.Generator().manual_seed(1)
    module, h = lhuc(0.0), torch.randn(2, 3, 4, generator=generator)
    behind = torch.randn(2, 3, 4, generator=generator)

    (module.after_layer(h, 1, BATCHES["mood"]) * behind).sum().backward()

    torch.testing.assert_close(module.gains[1].gain.grad, (h * 0.5 * behind).sum((0, 1)))
    assert module.gains[0].gain.grad is None


def test_weight_decay_leaves_the_vectors_of_modules_alone() -> None:
    """AdamW decays what has two axes or more."""
    shape = tiny_shape()
    for module in (LHUC(shape), EmBERT(shape), LayerNorm(shape), PALs(shape, size=6, heads=2, scale=0.1)):
        decaying = {name for name, p in module.named_parameters() if p.dim() > 1}
        assert all(name.startswith("beside.") and name.endswith("weight") for name in decaying)


# ---- PALs and low-rank layers (Stickland and Murray, 2019)


def attention_by_hand(attention: Any, x: Tensor, batch: Batch, size: int, heads: int) -> Tensor:
    """Sequence by sequence and head by head, over the real tokens alone."""
    mixed = torch.zeros_like(x)
    q, k, v = by_hand(attention.to_qkv, x).split(size, -1)
    for s, length in enumerate(batch.mask.sum(1).tolist()):
        for head in range(heads):
            part = slice(head * size // heads, (head + 1) * size // heads)
            scores = q[s, :length, part] @ k[s, :length, part].T / math.sqrt(size / heads)
            mixed[s, :length, part] = scores.softmax(-1) @ v[s, :length, part]
    return mixed


@pytest.mark.parametrize("share", ["none", "projections", "all"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_parallel_pals_are_added_before_the_last_norm_of_a_layer(share: Any, scale: Any, tmp_path: Path) -> None:
    """LN(f + a + w TS(h)) with h the layer's input, on hooks in transformers' BERT."""
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    pals = shaken(PALs(encoder.shape, size=6, heads=3, share=share, scale=scale), seed=1)
    entered: dict[int, Tensor] = {}

    def add(i: int, update: Tensor) -> Tensor:
        own, alone = (0 if share != "none" else i), (0 if share == "all" else i)
        low = by_hand(pals.beside.down[own], entered[i])
        mixed = attention_by_hand(pals.beside.attention[alone], low, batch, 6, 3)
        added = F.gelu(by_hand(pals.beside.up[own], mixed))
        return update + added * (1 if pals.scales is None else pals.scales[i])

    for number, layer in enumerate(bert.encoder.layer):
        layer.register_forward_pre_hook(lambda _, given, number=number: entered.update({number: given[0]}))
    with torch.no_grad(), changed(bert, "output.dropout", add):
        theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, pals, batch), theirs) < 1e-5


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("output", "blocks"), [(True, False), (False, False), (True, True)])
def test_pals_on_top_follow_the_last_layer(residual: bool, output: bool, blocks: bool) -> None:
    encoder, batch = tiny_encoder(), BATCHES["same"]
    pals = shaken(
        PALs(
            encoder.shape,
            where="top",
            size=6,
            heads=3,
            top_layers=2,
            top_output=output,
            top_blocks=blocks,
            top_residual=residual,
        ),
        seed=1,
    )
    with torch.no_grad():
        *_, last = encoder.states(encoder.embed(batch), batch, TaskModule())
        x = by_hand(pals.top.down, last)
        layer: Any
        for layer in pals.top.layers:
            attention = layer.attention if blocks else layer
            mixed = attention_by_hand(attention, x, batch, 6, 3)
            mixed = by_hand(attention.mix_heads, mixed) if output else mixed
            x = F.layer_norm(x + mixed, [6], layer.norm.weight, layer.norm.bias, 1e-12) if blocks else mixed
        theirs = by_hand(pals.top.up, x) + (last if residual else 0)
        assert relative_error(last_state(encoder, pals, batch), theirs[batch.mask]) < 1e-5


def test_the_same_pal_stands_beside_every_layer_and_on_top() -> None:
    shape, batch = tiny_shape(), BATCHES["mood"]
    pals = shaken(PALs(shape, where="both", objects="same", share="all", top_output=False, size=6, heads=2), seed=1)
    assert pals.top is None
    x = torch.randn(*batch.mask.shape, shape.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        added = [pals.after_ffn(torch.zeros_like(x), x, layer, batch) for layer in range(shape.layers)]
        torch.testing.assert_close(added, 3 * [pals.after_encoder(x, batch) - x], rtol=1e-4, atol=1e-5)


def test_layers_share_what_they_are_told_to() -> None:
    def parts(**share: Any) -> tuple[int, int, int]:
        beside = PALs(tiny_shape(), size=6, heads=2, **share).beside
        return len(beside.down), len(beside.attention), len(beside.up)

    assert parts() == parts(share="projections") == (1, 3, 1)
    assert parts(share="none") == (3, 3, 3)
    assert parts(share="all") == (1, 1, 1)


def test_a_scale_of_zero_leaves_bert_unchanged_and_learns_from_the_pal() -> None:
    """dL/dw = <dL/d pre-norm, TS>; by the difference of the loss, in float64."""
    plain = shaken(make_model()).double()
    model = make_model([entry("pals", size=6, heads=2, scale=0)])
    shaken(model.modules_by_task, seed=1)
    model.double().load_state_dict(plain.state_dict(), strict=False)
    scales = model.modules_by_task.of("mood").modules[0].scales
    with torch.no_grad():
        scales.zero_()
        assert torch.equal(model(BATCHES["mood"]), plain(BATCHES["mood"]))

    model(BATCHES["mood"]).square().sum().backward()
    for layer in range(3):
        with torch.no_grad():
            losses = []
            for step in (1e-6, -1e-6):
                scales[layer] = step
                losses.append(float(model(BATCHES["mood"]).square().sum()))
            scales[layer] = 0
        assert float(scales.grad[layer]) == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5)


def test_pals_begin_as_bert_does_and_their_norms_at_one() -> None:
    pals = PALs(Shape(), where="both", top_blocks=True, scale=0.1)
    for name, parameter in pals.state_dict().items():
        if name == "scales":
            assert torch.equal(parameter, torch.full((12,), 0.1))
        elif ".norm.weight" in name:
            assert torch.equal(parameter, torch.ones(204))
        elif parameter.dim() == 1:
            assert not parameter.any()
        else:
            assert float(parameter.mean()) == pytest.approx(0, abs=0.001)
            assert float(parameter.std()) == pytest.approx(0.02, rel=0.02)


def test_pals_attend_with_dropout_in_training_only() -> None:
    batch = BATCHES["mood"]
    pals = PALs(tiny_shape(attention_dropout=0.5), size=6, heads=2)
    x = torch.randn(*batch.mask.shape, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean = pals.eval().after_ffn(x, x, 0, batch)
        assert torch.equal(pals.after_ffn(x, x, 0, batch), clean)
        assert not torch.equal(pals.train().after_ffn(x, x, 0, batch), clean)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 204, "heads": 7}, "7 heads do not divide a size of 204; .* 1, 2, 3, 4, 6, 12, 17"),
        ({"where": "top", "scale": 0.1}, "`scale` weighs PALs beside the layers"),
        ({"objects": "same"}, "`objects: same` is for `where: both`"),
        ({"where": "both", "objects": "same"}, "set `share: all`, `top_output: false`"),
    ],
)
def test_pals_that_do_not_fit_together_are_explained(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        PALs(tiny_shape(), **options)


def test_low_rank_layers_are_added_before_the_last_norm_of_a_layer() -> None:
    low_rank, batch = shaken(LowRank(tiny_shape(), size=3)), BATCHES["mood"]
    update, x = torch.randn(2, *batch.mask.shape, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = update + by_hand(low_rank.up[1], F.gelu(by_hand(low_rank.down[1], x)))
        torch.testing.assert_close(low_rank.after_ffn(update, x, 1, batch), expected)


# ---- EmBERT (Maziarka and Danel, 2021)


def embert_states(**moved: float) -> Tensor:
    """The last states with some of a module's vectors drawn at random."""
    encoder, module = tiny_encoder().double(), EmBERT(tiny_shape())
    for name, std in moved.items():
        for vector in getattr(module, name):
            nn.init.normal_(vector, std=std, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return last_state(encoder, module.double(), BATCHES["same"])


def test_emberts_keys_have_no_effect() -> None:
    torch.testing.assert_close(embert_states(keys=3.0), embert_states(), rtol=0, atol=1e-12)
    for name in ("queries", "values"):
        assert float((embert_states(**{name: 3.0}) - embert_states()).abs().max()) > 1e-2


def test_emberts_values_add_themselves_to_what_attention_mixes(tmp_path: Path) -> None:
    """The weights of attention sum to one: a hook behind transformers' self-attention adds the same vector."""
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    module = EmBERT(encoder.shape)
    shaken(module.values)
    with torch.no_grad(), changed(bert, "attention.self", lambda i, y: (y[0] + module.values[i], *y[1:])):
        theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, module, batch), theirs) < 1e-5


def test_embert_moves_the_biases_of_queries_keys_and_values(tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    module = shaken(EmBERT(encoder.shape))
    with torch.no_grad():
        for number, layer in enumerate(bert.encoder.layer):
            attention = layer.attention.self
            attention.query.bias += module.queries[number]
            attention.key.bias += module.keys[number]
            attention.value.bias += module.values[number]
        theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, module, batch), theirs) < 1e-5


def test_embert_begins_at_zero_unless_it_is_told_a_deviation() -> None:
    assert not any(vector.any() for vector in EmBERT(Shape()).parameters())
    drawn = torch.cat([vector.detach() for vector in EmBERT(Shape(), std=0.02).parameters()])
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.03)


# ---- LayerNorms of a task


def test_a_tasks_layer_norms_are_norms_with_other_weights(tmp_path: Path) -> None:
    """Scale s and shift t behind gamma and beta are gamma * s and beta * s + t."""
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    module = shaken(LayerNorm(encoder.shape))
    with torch.no_grad():
        for number, layer in enumerate(bert.encoder.layer):
            for norm, scales, shifts in (
                (layer.attention.output.LayerNorm, module.attention_scales, module.attention_shifts),
                (layer.output.LayerNorm, module.output_scales, module.output_shifts),
            ):
                norm.weight *= scales[number]
                norm.bias.copy_(norm.bias * scales[number] + shifts[number])
        theirs = ask(bert, batch).last_hidden_state[batch.mask]
        assert relative_error(last_state(encoder, module, batch), theirs) < 1e-5


# ---- the relational layer (report 'Walk Less and Only Down Smooth Valleys')


def relational(**options: Any) -> Relational:
    return shaken(Relational(tiny_shape(), **options))


def test_the_relational_layer_reads_both_texts_their_distance_and_their_normalised_product() -> None:
    layer = relational(slope=0.2)
    generator = torch.Generator().manual_seed(1)
    u, v = torch.randn(2, 5, 16, generator=generator)
    rest = torch.randn(5, 7, generator=generator)  # whatever pair features the task has behind [u; v]
    normalised = torch.stack(
        [a / a.square().sum().sqrt() * b / b.square().sum().sqrt() for a, b in zip(u, v, strict=True)]
    )
    torch.testing.assert_close(normalised.sum(1), F.cosine_similarity(u, v))
    with torch.no_grad():
        related = by_hand(layer.relate, torch.cat([u, v, (u - v).abs(), normalised], 1))
        expected = torch.where(related > 0, related, 0.2 * related)
        torch.testing.assert_close(layer.after_pooling(torch.cat([u, v, rest], 1), FAR), expected)


def test_the_normalised_product_of_a_zero_vector_is_zero() -> None:
    layer = relational()
    with torch.no_grad():
        assert layer.after_pooling(torch.zeros(2, 32), FAR).isfinite().all()


def test_related_tasks_share_the_layer_and_not_the_heads() -> None:
    plans = [entry("relational", shared=True)]
    model = shaken(MultiTask(tiny_encoder(), [NEAR, NEAR_TOO.model_copy(update={"head": "sigmoid"})], plans))
    layer = model.modules_by_task.of("near").modules[0]
    assert layer is model.modules_by_task.of("near_too").modules[0]
    assert [model.heads[task].output.in_features for task in ("near", "near_too")] == [16, 16]

    model(FAR).square().sum().backward()
    assert layer.relate.weight.grad.any()
    assert model.heads["near"].output.weight.grad is None


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (MOOD, "task 'mood' reads a single text"),
        (SAME, "task 'same' reads two texts as one sequence; set `pairs: separate`"),
    ],
)
def test_a_relational_layer_for_anything_but_pairs_apart_is_refused(task: Any, words: str) -> None:
    with pytest.raises(Mistake, match=f"'relational' compares two texts encoded apart, and {words}"):
        make_model([entry("relational")], tasks=[task])


def test_a_second_relational_layer_finds_no_texts_to_compare() -> None:
    with pytest.raises(Mistake, match="task 'near' has the vectors of its two texts replaced by another module"):
        make_model([entry("relational"), entry("relational", shared=True)], tasks=[NEAR])


@pytest.mark.parametrize("head", ["cosine", "cosine01"])
def test_a_cosine_behind_a_relational_layer_is_refused(head: str) -> None:
    near = NEAR.model_copy(update={"head": head})
    with pytest.raises(Mistake, match=r"task 'near': a cosine head compares .* use `head: sigmoid` or `head: linear`"):
        make_model([entry("relational")], tasks=[near])


# ---- LoRA (Hu et al., 2022)

MATRICES = [["q", "v"], ["q", "k", "v"], ["k"]]
THEIRS = {"q": "query", "k": "key", "v": "value"}


def peft_twin(bert: Any, module: LoRA, matrices: Sequence[str], alpha: float) -> Any:
    """The model in peft with the weights of our module."""
    import peft  # takes a second or two

    config = peft.LoraConfig(r=2, lora_alpha=alpha, lora_dropout=0.0, target_modules=[THEIRS[m] for m in matrices])
    model = peft.get_peft_model(bert, config).eval()
    with torch.no_grad():
        for number, layer in enumerate(model.base_model.model.encoder.layer):
            for matrix in matrices:
                linear = getattr(layer.attention.self, THEIRS[matrix])
                linear.lora_A["default"].weight.copy_(module.down[f"{matrix}{number}"])
                linear.lora_B["default"].weight.copy_(module.up[f"{matrix}{number}"])
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, by way of peft
@pytest.mark.parametrize("matrices", MATRICES, ids="".join)
def test_lora_computes_what_peft_computes(matrices: list[Any], tmp_path: Path) -> None:
    bert = tiny_bert()
    encoder, batch = pair_of(bert, tmp_path), BATCHES["same"]
    module = shaken(LoRA(encoder.shape, rank=2, alpha=3.0, matrices=matrices), seed=1)
    with torch.no_grad():
        plain = last_state(encoder, TaskModule(), batch)
        theirs = ask(peft_twin(bert, module, matrices, 3.0), batch).last_hidden_state[batch.mask]
        ours = last_state(encoder, module, batch)
    assert relative_error(ours, theirs) < 1e-5
    assert relative_error(ours, plain) > 1e-2


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, by way of peft
@pytest.mark.parametrize("matrices", MATRICES, ids="".join)
def test_merged_lora_has_the_weights_peft_merges(matrices: list[Any], tmp_path: Path) -> None:
    bert = tiny_bert()
    model = MultiTask(pair_of(bert, tmp_path / "bert"), [MOOD], [entry("lora", rank=2, alpha=3, matrices=matrices)])
    module = shaken(model.modules_by_task, seed=1).of("mood").modules[0]
    save_encoder(merged(model, "mood"), tiny_tokenizer(), tmp_path / "merged")
    theirs = peft_twin(bert, module, matrices, 3.0).merge_and_unload().state_dict()
    ours = type(bert).from_pretrained(tmp_path / "merged").state_dict()
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6) for name in theirs)


def test_a_merged_encoder_does_one_tasks_work_without_modules() -> None:
    model = shaken(make_model([entry("lora", rank=2), entry("lora", rank=3, matrices=["k"], tasks=["near"])]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for task in ("mood", "near"):
        plain = make_model()
        plain.heads.load_state_dict(model.heads.state_dict())
        plain.encoder.load_state_dict(merged(model, task).state_dict())
        with torch.no_grad():
            assert relative_error(plain(BATCHES[task]), model(BATCHES[task])) < 1e-4
    assert same_bits(model.state_dict(), before)


def test_what_weights_cannot_take_is_not_merged() -> None:
    model = make_model([entry("lora"), entry("adapter", tasks=["near"])])
    merged(model, "mood")
    with pytest.raises(Mistake, match="task 'near' cannot be exported with its module 'adapter': it cannot be merged"):
        merged(model, "near")
    with pytest.raises(Mistake, match="unknown task 'nea'; did you mean 'near'"):
        merged(model, "nea")


def test_loras_strength_is_alpha_over_rank() -> None:
    batch = BATCHES["mood"]
    x = torch.randn(*batch.mask.shape, 16, generator=torch.Generator().manual_seed(1))
    zero = torch.zeros_like(x)

    def added(alpha: float) -> Tensor:
        return shaken(LoRA(tiny_shape(), rank=4, alpha=alpha)).qkv(zero, zero, zero, x, 1, batch)[0].detach()

    torch.testing.assert_close(added(8.0), 4 * added(2.0))
    module = shaken(LoRA(tiny_shape(), rank=4, alpha=4.0))
    torch.testing.assert_close(added(4.0), (x @ module.down["q1"].T @ module.up["q1"].T).detach())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "rank of task module 'lora' is 0: input should be greater than or equal to 1"),
        ({"alpha": 0}, "alpha of task module 'lora' is 0"),
        ({"matrices": []}, "matrices of task module 'lora'"),
        ({"matrices": ["o"]}, "matrices of task module 'lora' is .'o'.: input should be 'q', 'k' or 'v'"),
    ],
)
def test_options_of_lora_out_of_bounds_are_explained(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        entry("lora", **options)


def test_a_matrix_named_twice_is_refused() -> None:
    with pytest.raises(Mistake, match="matrices names one twice: q, q"):
        make_model([entry("lora", matrices=["q", "q"])])


# ---- the configurations of the report 'BERT Multitask Methods for Low-Parameter Fine-Tuning'

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
CONFIGURATIONS: dict[str, list[Any]] = yaml.safe_load(
    DOCS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
)

# for each of four tasks, from methods.md 37: a PAL 439,776, on top with an output matrix 481,596; and what they share
PUBLISHED = {
    "Single Task": (0, 0),
    "Multitask": (0, 0),
    "EmBERT": (27_648, 0),
    "PALs Top": (481_596, 0),
    "PALs Parallel": (5_277_312, 0),
    "PALs Parallel Weighted": (5_277_312, 12),
    "Top + Parallel (Same)": (439_776, 0),
    "Top + Parallel (Different)": (439_776 + 481_596, 0),
    "Combined": (27_648 + 5_277_312 + 481_596, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reports_configurations_are_recipes_of_the_published_size(name: str, small_recipe: dict[str, Any]) -> None:
    recipe = read_recipe(small_recipe | {"modules": CONFIGURATIONS[name]})
    with torch.device("meta"):
        modules = TaskModules(recipe.modules, Shape(), ["sst", "cfimdb", "quora", "sts"])
    own, common = PUBLISHED[name]
    assert sum(parameter.numel() for parameter in modules.parameters()) == 4 * own + common


def test_the_documented_configurations_are_the_reports() -> None:
    assert list(CONFIGURATIONS) == list(PUBLISHED)


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([{"name": "pals", "size": 200, "heads": 6}], "6 heads do not divide a size of 200; .* 1, 2, 4, 5, 8"),
        ([{"name": "adapter", "tasks": ["mod"]}], "modules.0.tasks: unknown task 'mod'; did you mean 'mood'"),
        (["relational"], "task 'mood' reads a single text; set `pairs: separate`"),
        (
            [{"name": "lora", "rank": 0}],
            "modules.0.rank: rank of task module 'lora' is 0: .* greater than or equal to 1",
        ),
        (["lhuc", "adapter", "lhuc"], "'lhuc' stands twice for task 'mood' .* differ in an option"),
        ([{"name": "adapter", "size": 0}], "size of task module 'adapter' is 0"),
        ([{"name": "adapter", "where": "before"}], "where of task module 'adapter' is 'before': .*'before_norm'"),
        ([{"name": "pals", "share": "projection"}], "share of task module 'pals' is 'projection': .*'projections'"),
    ],
)
def test_modules_that_a_recipe_cannot_have_are_explained(
    modules: list[Any], words: str, small_recipe: dict[str, Any]
) -> None:
    with pytest.raises(Mistake, match=words):
        build(read_recipe(small_recipe | {"modules": modules}))


def test_a_fixed_scale_multiplies_and_does_not_learn() -> None:
    shape = tiny_encoder().shape
    learned, fixed = (
        shaken(PALs(shape, size=6, heads=2, scale=0.3, scale_of=of), seed=1) for of in ("all_tasks", "fixed")
    )
    with torch.no_grad():
        learned.scales.fill_(0.3)
    fixed.load_state_dict({name: value for name, value in learned.state_dict().items() if name != "scales"})
    batch = BATCHES["mood"]
    x, update = torch.randn(2, *batch.tokens.shape, shape.width)
    for layer in range(shape.layers):
        ours, theirs = (pals.after_ffn(update, x, layer, batch) for pals in (fixed, learned))
        torch.testing.assert_close(ours, theirs)
        assert not torch.equal(ours, update)
    assert set(dict(learned.named_parameters())) - set(dict(fixed.named_parameters())) == {"scales"}
    with pytest.raises(Mistake, match=r"`scale_of: fixed` .* give it as `scale`"):
        PALs(shape, size=6, heads=2, scale_of="fixed")
