"""The benchmarks measure what they say."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import mtbert
from mtbert.bench.accuracy import bench_plain
from mtbert.bench.feature_cache import bench_frozen
from mtbert.bench.load import agrees, bench_serve
from mtbert.bench.memory import bench_memory, write_pairs
from mtbert.bench.method_costs import bench_methods
from mtbert.bench.one_pass import bench_together
from mtbert.bench.prediction import BACKENDS, TASK, bench_predict, mixed_texts
from mtbert.bench.rate import Rate
from mtbert.bench.training import PEERS, Side, TheirModel, bench_train
from mtbert.bench.twins import PlainAdamW, attend_plainly, plain_twins
from mtbert.data.tables import read_table
from mtbert.errors import Mistake
from mtbert.model import encoder
from mtbert.model.attention import attend
from mtbert.model.multitask import MultiTask
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.table import WEIGHTINGS


def test_a_rate_is_the_median_of_sentences_per_second() -> None:
    rate = Rate.of([100, 100, 300], [1.0, 2.0, 1.0])
    assert (rate.low, rate.median, rate.high) == (75.0, 100.0, 200.0)


def test_padding_waste_is_the_share_of_positions_without_a_token() -> None:
    side = Side()
    side.note(torch.tensor([[True, True, True, True], [True, False, False, False]]), 2)
    assert side.waste == 3 / 8


@pytest.mark.parametrize("against", PEERS)
def test_both_sides_of_the_training_benchmark_take_their_steps(small_recipe: dict[str, Any], against: str) -> None:
    small_recipe["tasks"]["near"]["pairs"] = "joint"
    result = bench_train(build(read_recipe(small_recipe)), against, 12)
    assert result.ours > 0
    assert result.theirs > 0
    assert result.ratio == pytest.approx(result.ours / result.theirs)
    assert 0 <= result.padding_waste < 1


def test_the_peers_model_computes_our_loss(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["near"]["pairs"] = "joint"
    experiment = build(read_recipe(small_recipe, ["encoder.dropout=0"]))
    shape = experiment.model.encoder.shape
    config = transformers.BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
    )
    theirs = TheirModel(transformers.BertModel(config, add_pooling_layer=False), experiment).eval()
    batch = experiment.sets["train"]["mood"].batch(range(8))
    assert batch.targets is not None
    loss = theirs(
        torch.zeros(8, dtype=torch.int64),
        batch.targets.float(),
        input_ids=batch.tokens,
        attention_mask=batch.mask.long(),
        token_type_ids=batch.segments,
    )["loss"]
    states = theirs.encoder(batch.tokens, batch.mask.long(), batch.segments).last_hidden_state
    pooled = (states * batch.mask[..., None]).sum(1) / batch.mask.sum(1, keepdim=True)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(theirs.heads[0](pooled), batch.targets))


def test_an_unknown_peer_is_named_with_the_known_ones(small_recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(small_recipe))
    with pytest.raises(Mistake, match="transformers, trainer-grouped"):
        bench_train(experiment, "trainer", 8)
    with pytest.raises(Mistake, match=r"sentence-transformers, sentence-transformers-onnx.*pipeline"):
        bench_predict(experiment, ["a"], "st", 1)
    with pytest.raises(Mistake, match="torch, onnx, int8"):
        bench_predict(experiment, ["a"], "pipeline", 1, "tensorrt")


def test_a_missing_peer_says_what_to_install(small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    with pytest.raises(Mistake, match=r"pip install 'sentence-transformers\[onnx\]'"):
        bench_predict(build(read_recipe(small_recipe)), ["a"], "sentence-transformers-onnx", 1)


def test_every_back_end_of_ours_encodes_alike(small_recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(small_recipe))
    model = MultiTask(experiment.model.encoder, [TASK])
    texts = mixed_texts(experiment, 50)
    said = {name: torch.as_tensor(make(model, experiment.tokenizer)(texts)) for name, make in BACKENDS.items()}
    torch.testing.assert_close(said["onnx"], said["torch"], atol=1e-5, rtol=0)
    torch.testing.assert_close(said["int8"], said["torch"], atol=0.1, rtol=0)


def test_tasks_together_and_apart_are_as_many_as_asked_for(small_recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(small_recipe))
    result = bench_together(experiment, mixed_texts(experiment, 64), 3, 3)
    assert (result.tasks, result.texts) == (3, 64)
    assert 0 < result.ratios[0] <= result.ratio <= result.ratios[1]


def test_mixed_texts_come_from_every_task_and_are_as_many_as_asked_for(small_recipe: dict[str, Any]) -> None:
    experiment = build(read_recipe(small_recipe))
    texts = mixed_texts(experiment, 500)
    assert len(texts) == 500
    for rows in experiment.rows["train"].values():
        assert set(rows.texts[0].to_pylist()) <= set(texts)


def test_a_server_under_load_loses_and_mixes_up_nothing(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run", overrides=["stages.0.steps=1", "stages.0.evaluate_every=1"])
    found = bench_serve(run.folder, requests=120, clients=30)
    assert (found.lost, found.mixed_up, found.statuses) == (0, 0, "120 x 200")
    assert found.distinct > 60
    assert " x 5" not in found.misbehaved
    assert "1 x 422" in found.misbehaved
    assert found.ratio == pytest.approx(found.rate / found.predict_rate)
    assert len(found.memory_gib) == 5


def test_an_answer_agrees_where_it_says_what_was_due() -> None:
    due = {"prediction": "a", "probabilities": {"a": 0.7, "b": 0.3}}

    def answer(said: object, status: int = 200) -> bytes:
        return f"HTTP/1.1 {status} \r\n\r\n".encode() + json.dumps({"answers": [{"mood": said}]}).encode()

    assert agrees("mood", answer(due), due)
    assert not agrees("mood", answer(due, 503), due)
    assert not agrees("tone", answer(due), due)
    assert not agrees("mood", answer(due | {"prediction": "b"}), due)
    assert not agrees("mood", answer(due | {"probabilities": {"a": 0.699, "b": 0.301}}), due)
    assert agrees("mood", answer({"prediction": 3.00001}), {"prediction": 3.0})
    assert not agrees("mood", answer({"prediction": 3.01}), {"prediction": 3.0})
    assert not agrees("mood", answer({"prediction": ["x"]}), {"prediction": []})


def test_every_method_has_a_cost(small_recipe: dict[str, Any]) -> None:
    costs = bench_methods(small_recipe, None, 1)
    said = [f"task module {name}" for name in TASK_MODULES if name != "relational"]  # it does not fit these tasks
    said += [f"regularizer {name}" for name in REGULARIZERS] + [f"combiner {name}" for name in COMBINERS]
    said += [f"loss weighting {name}" for name in WEIGHTINGS] + ["task module adapter, encoder frozen"]
    assert set(said) <= set(costs)
    assert all(cost > 0 for cost in costs.values())


def test_pairs_made_on_the_fly_are_as_many_as_asked_for_and_repeat_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtbert.bench.memory.CHUNK", 40)
    for name, seed in {"a": 1, "again": 1, "b": 2}.items():
        write_pairs(tmp_path / f"{name}.parquet", 100, seed)
    made = {name: read_table(tmp_path / f"{name}.parquet").columns for name in ("a", "again", "b")}
    assert made["a"].num_rows == 100
    assert made["a"] == made["again"]
    assert made["a"] != made["b"]
    assert len(set(made["a"].column("first").to_pylist() + made["a"].column("second").to_pylist())) == 200
    assert all(4 <= len(text.split()) <= 20 for text in made["a"].column("first").to_pylist())


def test_a_training_apart_tells_when_it_began_and_what_memory_it_took() -> None:
    result = bench_memory(500, 2, "random")
    assert 0 < result.start_seconds < result.first_step_seconds
    assert 0.1 < result.peak_gib < 4
    assert result.pairs == 500


def test_a_training_apart_that_fails_is_a_mistake(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Mistake, match="the training apart failed"):
        bench_memory(64, 2, "no/such encoder")
    assert "no/such encoder" in capfd.readouterr().err


def test_both_ways_of_training_heads_take_the_same_steps(small_recipe: dict[str, Any]) -> None:
    result = bench_frozen(small_recipe, ["stages.0.regularizers=[gaussian]"], None, 2)
    assert result.steps == 2 * 3 * 40 / 8
    assert result.ratio == pytest.approx(result.encoded / result.cached)
    assert result.cached > 0


def test_plain_twins_leave_no_trace_on_what_trains_after_them(small_recipe: dict[str, Any]) -> None:
    result = bench_plain(small_recipe, [], None, [1, 2])
    assert result.seeds == (1, 2)
    assert result.largest_difference == max(abs(a - b) for a, b in zip(result.fast, result.plain, strict=True))
    assert bench_plain(small_recipe, [], None, [1, 2]).fast == result.fast
    assert vars(encoder)["attend"] is attend


@pytest.mark.parametrize("options", [{"rates": {"heads": 10}}, {"layer_decay": 0.9}, {"lazy_words": True}])
def test_an_optimizer_without_a_plain_twin_is_refused(small_recipe: dict[str, Any], options: dict[str, Any]) -> None:
    small_recipe["stages"][0]["optimizer"] = {"lr": 1e-3, **options}
    with pytest.raises(Mistake, match="the plain twin has one learning rate"):
        bench_plain(small_recipe, [], None, [1])


def test_plain_twins_see_the_rows_that_train(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["mood"]["limit"] = 9
    experiment = build(read_recipe(small_recipe))
    trainer = experiment.stage(0).trainer
    fast = {int(row) for _ in range(2) for row in trainer.streams["mood"].reshuffled([1]).draw().rows}
    with plain_twins(experiment, trainer):
        plain = {int(row) for _ in range(2) for row in trainer.streams["mood"].draw().rows}
    assert fast <= plain
    assert len(plain) == 9


def test_without_dropout_and_with_whole_batches_plain_twins_train_to_the_same_weights(
    small_recipe: dict[str, Any],
) -> None:
    small_recipe["encoder"] |= {"dropout": 0.0, "attention_dropout": 0.0}
    for task in small_recipe["tasks"].values():
        task["dropout"] = 0.0
    small_recipe["stages"][0] |= {"batch_size": 40, "optimizer": {"lr": 1e-3, "weight_decay": 0.1}}
    weights = []
    for as_plain in (False, True):
        experiment = build(read_recipe(small_recipe))
        trainer = experiment.stage(0).trainer
        with plain_twins(experiment, trainer) if as_plain else nullcontext():
            for _ in range(5):
                trainer.take_step()
        weights.append(experiment.model.state_dict())
        assert isinstance(trainer.optimizer, PlainAdamW) == as_plain
    for name, fast in weights[0].items():
        torch.testing.assert_close(fast, weights[1][name], rtol=1e-3, atol=3e-5)


def test_the_plain_twin_of_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 7, 12, dtype=torch.float64)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    torch.testing.assert_close(attend_plainly(q, k, v, mask, 3), attend(q, k, v, mask, 3))


def test_an_optimizer_without_a_twin_is_refused(small_recipe: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match="form 'torch'"):
        bench_plain(small_recipe, ["stages.0.optimizer.form=starter"], None, [1])
