"""Weights in and out: judged by transformers, by the bits, and by what must be refused."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.ordinal import Ordinal
from mtbert.data.kinds.tokens import Tokens as TokenLabels
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_encoder, load_model, save_encoder, save_model
from mtbert.model.heads.head import HEADS
from mtbert.model.heads.pair_features import FEATURES
from mtbert.model.heads.pooling import POOLINGS
from mtbert.model.multitask import MultiTask
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from tests.support.tiny_models import (
    BATCHES,
    MINILM,
    MOOD,
    NEAR,
    PIECES,
    SAME,
    SENTENCES,
    TASKS,
    ask,
    every_state,
    make_batch,
    make_model,
    needs_minilm,
    plan,
    publish,
    relative_error,
    same_bits,
    served,
    shaken,
    tiny_bert,
    tiny_encoder,
    tiny_tokenizer,
    weights_in,
)

Tensors = dict[str, Tensor]

# ---- published -> ours -> published


def as_it_is(tensors: Tensors) -> Tensors:
    return tensors


def with_prefix(tensors: Tensors) -> Tensors:
    return {f"bert.{name}": tensor for name, tensor in tensors.items()}


def with_gamma_and_beta(tensors: Tensors) -> Tensors:
    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    renamed = {old(name): tensor for name, tensor in tensors.items()}
    assert len(renamed.keys() - tensors.keys()) == 2 * (1 + 2 * 3)
    return renamed


def with_position_ids(tensors: Tensors) -> Tensors:
    return tensors | {"embeddings.position_ids": torch.arange(20)[None]}


def with_a_language_model_head(tensors: Tensors) -> Tensors:
    transform = "cls.predictions.transform"
    return tensors | {
        f"{transform}.dense.weight": torch.ones(16, 16),
        f"{transform}.LayerNorm.gamma": torch.ones(16),
        "cls.seq_relationship.bias": torch.ones(2),
    }


def as_google_published_it(tensors: Tensors) -> Tensors:
    return with_a_language_model_head(with_prefix(with_gamma_and_beta(with_position_ids(tensors))))


@pytest.mark.parametrize(
    "published_as",
    [
        as_it_is,
        with_prefix,
        with_gamma_and_beta,
        with_position_ids,
        with_a_language_model_head,
        as_google_published_it,
    ],
)
def test_published_to_ours_to_published_keeps_every_bit(
    published_as: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    modern = tiny_bert().state_dict()
    folder = publish(tiny_bert(), tmp_path / "published")
    save_file(published_as(modern), folder / "model.safetensors")

    save_encoder(load_encoder(folder), tiny_tokenizer(), tmp_path / "ours")

    assert same_bits(weights_in(tmp_path / "ours"), modern)


@pytest.mark.parametrize("kind", [transformers.BertForPreTraining, transformers.BertForMaskedLM])
def test_a_language_models_folder_gives_its_encoder(kind: Any, tmp_path: Path) -> None:
    folder = publish(tiny_bert(kind), tmp_path / "published")
    assert all(name.startswith(("bert.", "cls.")) for name in weights_in(folder))

    save_encoder(load_encoder(folder), tiny_tokenizer(), tmp_path / "ours")

    theirs = tiny_bert(kind).bert.state_dict()  # BertForMaskedLM has no pooler; ours is a fresh one
    ours = weights_in(tmp_path / "ours")
    fresh = {"pooler.dense.weight", "pooler.dense.bias"} - theirs.keys()
    assert same_bits({name: tensor for name, tensor in ours.items() if name not in fresh}, theirs)


def test_a_folder_without_pooler_keeps_every_other_bit(tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path / "published")
    rest = {name: tensor for name, tensor in weights_in(folder).items() if not name.startswith("pooler.")}
    save_file(rest, folder / "model.safetensors")

    save_encoder(load_encoder(folder), tiny_tokenizer(), tmp_path / "ours")

    ours = weights_in(tmp_path / "ours")
    assert same_bits({name: tensor for name, tensor in ours.items() if not name.startswith("pooler.")}, rest)
    assert ours["pooler.dense.weight"].shape == (16, 16)
    assert not ours["pooler.dense.bias"].any()


@needs_minilm
def test_minilm_survives_the_round_trip_to_the_last_bit(tmp_path: Path) -> None:
    save_encoder(load_encoder(MINILM), Tokenizer.from_folder(MINILM), tmp_path)

    published = weights_in(MINILM)
    published.pop("embeddings.position_ids", None)
    assert same_bits(weights_in(tmp_path), published)


def test_half_precision_is_read_as_the_same_numbers_in_float32(tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path / "published")
    half = {name: tensor.to(torch.bfloat16) for name, tensor in weights_in(folder).items()}
    save_file(half, folder / "model.safetensors")

    save_encoder(load_encoder(folder), tiny_tokenizer(), tmp_path / "ours")

    assert same_bits(weights_in(tmp_path / "ours"), {name: tensor.float() for name, tensor in half.items()})


def test_dropouts_are_the_published_ones_unless_given(tmp_path: Path) -> None:
    folder = publish(tiny_bert(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.15), tmp_path)

    kept, given = load_encoder(folder).shape, load_encoder(folder, 0.0, 0.5).shape

    assert (kept.dropout, kept.attention_dropout) == (0.25, 0.15)
    assert (given.dropout, given.attention_dropout) == (0.0, 0.5)


def test_prefixed_folders_of_transformers_and_ours_give_the_same_states(tmp_path: Path) -> None:
    bert, batch = tiny_bert(transformers.BertForPreTraining), make_batch("mood", (6, 3))
    model = MultiTask(load_encoder(publish(bert, tmp_path)), TASKS).eval()
    with torch.no_grad():
        ours, theirs = every_state(model, batch)[-1], ask(bert, batch).hidden_states[-1]
    assert relative_error(ours[batch.mask], theirs[batch.mask]) < 1e-5


# ---- ours opens in transformers


def test_our_encoder_opens_in_transformers_with_nothing_missing_or_left_over(tmp_path: Path) -> None:
    encoder = tiny_encoder(segments=3, epsilon=1e-3, dropout=0.25, attention_dropout=0.15)
    save_encoder(encoder, tiny_tokenizer(), tmp_path)

    bert, report = transformers.BertModel.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )

    assert not any(report.values()), report
    assert (bert.config.hidden_dropout_prob, bert.config.attention_probs_dropout_prob) == (0.25, 0.15)
    assert bert.config.pad_token_id == tiny_tokenizer().padding
    assert isinstance(transformers.AutoModel.from_pretrained(tmp_path), transformers.BertModel)
    batch = make_batch("mood", (6, 3, 1), segments=3)
    model = MultiTask(encoder, TASKS).eval()
    with torch.no_grad():
        theirs, ours = ask(bert.eval(), batch), every_state(model, batch)
        pooled = encoder.pool(ours[-1][:, 0])
    for mine, other in zip(ours, theirs.hidden_states, strict=True):
        assert relative_error(mine[batch.mask], other[batch.mask]) < 1e-5
    assert relative_error(pooled, theirs.pooler_output) < 1e-5


def assert_same_ids(tokenizer: Tokenizer, folder: Path) -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), tokenizer.encode(SENTENCES)
    for index, sentence in enumerate(SENTENCES):
        ids = ours.flat[ours.starts[index] : ours.starts[index + 1]].tolist()
        assert theirs(sentence)["input_ids"] == [tokenizer.first, *ids, tokenizer.separator], sentence
    assert theirs.pad_token_id == tokenizer.padding


@pytest.mark.parametrize("lowercase", [True, False])
def test_our_tokenizer_opens_in_transformers_with_the_same_ids(lowercase: bool, tmp_path: Path) -> None:
    save_encoder(tiny_encoder(), tiny_tokenizer(lowercase), tmp_path)
    assert_same_ids(tiny_tokenizer(lowercase), tmp_path)


@pytest.mark.parametrize("lowercase", [True, False])
def test_our_vocabulary_alone_opens_in_transformers_with_the_same_ids(lowercase: bool, tmp_path: Path) -> None:
    save_encoder(tiny_encoder(), tiny_tokenizer(lowercase), tmp_path)
    (tmp_path / "tokenizer.json").unlink()

    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines() == PIECES
    assert_same_ids(tiny_tokenizer(lowercase), tmp_path)
    assert_same_ids(Tokenizer.from_folder(tmp_path), tmp_path)


@needs_minilm
def test_minilms_tokenizer_gives_the_ids_of_transformers_before_and_after_saving(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(MINILM)
    save_encoder(tiny_encoder(vocabulary=len(tokenizer)), tokenizer, tmp_path)

    assert_same_ids(tokenizer, tmp_path)
    assert (tmp_path / "vocab.txt").read_bytes() == (MINILM / "vocab.txt").read_bytes()
    # the published tokenizer.json pads to 128 unless told otherwise; ours leaves padding to the batches
    theirs = transformers.AutoTokenizer.from_pretrained(MINILM)
    ours = tokenizer.encode(SENTENCES)
    assert theirs(SENTENCES, add_special_tokens=False, padding=False)["input_ids"] == [
        ours.flat[start:end].tolist() for start, end in itertools.pairwise(ours.starts)
    ]


# ---- a whole model


def assert_reloads_to_the_last_bit(model: MultiTask, folder: Path) -> MultiTask:
    save_model(shaken(model), tiny_tokenizer(), folder)
    again, _ = load_model(folder)

    assert same_bits(dict(again.state_dict()), dict(model.state_dict()))
    with torch.no_grad():
        for task in model.tasks:
            assert torch.equal(again(BATCHES[task]), model(BATCHES[task])), task
    return again


OF_TEXTS = [name for name in POOLINGS if name != "words"]
OF_SCORES = [
    name for name in HEADS if name not in ("one_logit", "thresholds")
]  # for two classes, and for classes in order


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pooling", OF_TEXTS)
@pytest.mark.parametrize("head", OF_SCORES)
def test_a_reloaded_score_has_the_same_bits(head: str, pooling: str, features: str, tmp_path: Path) -> None:
    options = {"head": head, "pooling": pooling, "features": features}
    near = NEAR.model_copy(update=options)
    again = assert_reloads_to_the_last_bit(make_model(tasks=[near], layers=1), tmp_path)
    assert again.tasks == {"near": near}


def test_reloaded_thresholds_and_labels_of_words_have_the_same_bits(tmp_path: Path) -> None:
    mood = {"name": "mood", "text": "text", "label": "mood"}
    stars = Ordinal(**mood, classes=["low", "mid", "high"], method="cumulative")
    assert_reloads_to_the_last_bit(make_model(tasks=[stars], layers=1), tmp_path / "thresholds")
    model = make_model(tasks=[TokenLabels(**mood, classes=["O", "B-X", "I-X"])], layers=1)
    save_model(shaken(model), tiny_tokenizer(), tmp_path / "words")
    again, _ = load_model(tmp_path / "words")
    batch = replace(BATCHES["mood"], words=torch.tensor([[1, 2, 4], [1, -1, -1], [2, 0, -1]]))
    with torch.no_grad():
        assert torch.equal(again(batch), model(batch))


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pooling", OF_TEXTS)
def test_a_reloaded_classification_has_the_same_bits(pooling: str, features: str, tmp_path: Path) -> None:
    options = {"pooling": pooling, "features": features}
    tasks: list[Task] = [
        MOOD.model_copy(update=options),
        SAME.model_copy(update=options),
        SAME.model_copy(update=options | {"name": "near", "pairs": "separate"}),
    ]
    again = assert_reloads_to_the_last_bit(make_model(tasks=tasks, layers=1), tmp_path)
    assert list(again.tasks.values()) == tasks


@pytest.mark.parametrize("shared", [False, True], ids=["one each", "shared"])
@pytest.mark.parametrize("module", TASK_MODULES)
def test_a_reloaded_task_module_has_the_same_bits(module: str, shared: bool, tmp_path: Path) -> None:
    again = assert_reloads_to_the_last_bit(make_model([plan(module, shared=shared)]), tmp_path)
    modules = {id(again.modules_by_task.of(task).modules[0]) for task in served(module)}
    assert len(modules) == (1 if shared else len(served(module)))


def test_reloaded_modules_serve_the_tasks_they_served(tmp_path: Path) -> None:
    plans = [plan("lhuc", tasks=["near"]), plan("lhuc", shared=True), plan("adapter", tasks=["same", "near"])]
    again = assert_reloads_to_the_last_bit(make_model(plans), tmp_path).modules_by_task
    assert again.of("mood").modules[0] is again.of("same").modules[0]
    assert [len(again.of(task).modules) for task in ("mood", "same", "near")] == [1, 2, 3]


def test_a_reloaded_model_is_in_evaluation_mode(tmp_path: Path) -> None:
    save_model(make_model().train(), tiny_tokenizer(), tmp_path)
    model, tokenizer = load_model(tmp_path)
    assert not any(module.training for module in model.modules())
    assert tokenizer.definition == tiny_tokenizer().definition


def test_a_model_folder_says_nothing_of_where_the_rows_were(tmp_path: Path) -> None:
    mood = MOOD.model_copy(update={"train": "/home/someone/train.tsv", "dev": "dev.tsv", "test": "test.tsv"})
    save_model(make_model(tasks=[mood]), tiny_tokenizer(), tmp_path)
    assert "someone" not in (tmp_path / "model.json").read_text()
    assert load_model(tmp_path)[0].tasks == {"mood": MOOD}


def test_a_model_folder_holds_no_pickle(tmp_path: Path) -> None:
    save_model(make_model([plan("lhuc")]), tiny_tokenizer(), tmp_path)
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".txt", ".safetensors"}


# ---- what is refused


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "roberta"},
        {"model_type": "distilbert"},
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"position_embedding_type": "relative_key"},
    ],
    ids=str,
)
def test_another_architecture_is_refused_by_name(changes: dict[str, str], tmp_path: Path) -> None:
    edit_json(publish(tiny_bert(), tmp_path) / "config.json", **changes)
    (key, value), *_ = changes.items()
    with pytest.raises(Mistake, match=rf"config\.json: {key} is '{value}'"):
        load_encoder(tmp_path)


def test_a_real_roberta_folder_is_refused(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.RobertaModel(transformers.RobertaConfig(**sizes, vocab_size=30)).save_pretrained(tmp_path)
    with pytest.raises(Mistake, match="model_type is 'roberta'"):
        load_encoder(tmp_path)


class Trap:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "model.pkl"])
def test_a_folder_with_only_a_pickle_is_refused_unopened(name: str, tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path / "published")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))

    with pytest.raises(Mistake, match=f"{name} is a pickle") as refusal:
        load_encoder(folder)
    assert "save_pretrained" in str(refusal.value)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused_unopened(tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path / "published")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(Mistake, match=r"model\.safetensors cannot be read"):
        load_encoder(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_config_or_weights_is_refused(missing: str, tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / missing).unlink()
    with pytest.raises(Mistake, match=f"has no {missing}"):
        load_encoder(tmp_path)


def test_a_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / "config.json").write_text("{")
    with pytest.raises(Mistake, match=r"config\.json is not JSON"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads"])
def test_a_config_without_a_size_is_refused(key: str, tmp_path: Path) -> None:
    config = publish(tiny_bert(), tmp_path) / "config.json"
    sizes = json.loads(config.read_text())
    del sizes[key]
    config.write_text(json.dumps(sizes))
    with pytest.raises(Mistake, match=f"does not say {key}"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        "encoder.layer.1.attention.self.key.bias",
        "encoder.layer.2.output.dense.weight",
    ],
)
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path)
    save_file({key: tensor for key, tensor in weights_in(folder).items() if key != name}, folder / "model.safetensors")
    with pytest.raises(Mistake, match=f"has no tensor '{name}'"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["pooler.dense.weight", "pooler.dense.bias"])
def test_half_a_pooler_is_refused(name: str, tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path)
    save_file({key: tensor for key, tensor in weights_in(folder).items() if key != name}, folder / "model.safetensors")
    with pytest.raises(Mistake, match=f"has no tensor '{name}'"):
        load_encoder(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 99},
        {"hidden_size": 8},
        {"intermediate_size": 8},
        {"max_position_embeddings": 512},
        {"type_vocab_size": 1},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"num_attention_heads": 5},
    ],
    ids=str,
)
def test_weights_that_do_not_fit_their_config_are_refused(changes: dict[str, int], tmp_path: Path) -> None:
    edit_json(publish(tiny_bert(), tmp_path) / "config.json", **changes)
    with pytest.raises(Mistake, match=r"does not fit|has no tensor|do not divide"):
        load_encoder(tmp_path)


def test_query_key_and_value_of_other_sizes_that_add_up_are_refused(tmp_path: Path) -> None:
    folder = publish(tiny_bert(), tmp_path)
    tensors, attention = weights_in(folder), "encoder.layer.0.attention.self"
    tensors[f"{attention}.query.weight"] = torch.ones(20, 16)
    tensors[f"{attention}.key.weight"] = torch.ones(12, 16)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(Mistake, match="does not fit"):
        load_encoder(folder)


@pytest.mark.parametrize("kept", [0, 4, 0.01, 0.5, 0.999], ids=str)
def test_a_truncated_weights_file_is_refused(kept: float, tmp_path: Path) -> None:
    path = publish(tiny_bert(), tmp_path) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(Mistake, match=r"model\.safetensors cannot be read"):
        load_encoder(tmp_path)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (publish(tiny_bert(), tmp_path) / "vocab.txt").unlink()
    with pytest.raises(Mistake, match=r"neither tokenizer\.json nor vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


def whole_model(folder: Path) -> Path:
    """A model folder without manifests, as earlier versions wrote it, so that what its files hold is looked at."""
    save_model(make_model([plan("lhuc")]), tiny_tokenizer(), folder)
    for manifest in folder.rglob("manifest.json"):
        manifest.unlink()
    return folder


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"there is no .*model\.json"):
        load_model(publish(tiny_bert(), tmp_path))


@pytest.mark.parametrize("missing", ["tasks.safetensors", "encoder/model.safetensors", "encoder/config.json"])
def test_a_model_folder_with_a_file_missing_is_refused(missing: str, tmp_path: Path) -> None:
    (whole_model(tmp_path) / missing).unlink()
    with pytest.raises(Mistake, match=Path(missing).name):
        load_model(tmp_path)


@pytest.mark.parametrize("kept", [0, 0.5, 0.999], ids=str)
def test_a_truncated_tasks_file_is_refused(kept: float, tmp_path: Path) -> None:
    path = whole_model(tmp_path) / "tasks.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(Mistake, match=r"tasks\.safetensors"):
        load_model(tmp_path)


def without_a_head(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name != "heads.mood.output.bias"}


def with_a_stranger(tensors: Tensors) -> Tensors:
    return tensors | {"heads.stranger.output.bias": torch.ones(2)}


def with_a_class_more(tensors: Tensors) -> Tensors:
    return tensors | {"heads.mood.output.bias": torch.ones(4)}


@pytest.mark.parametrize("edit", [without_a_head, with_a_stranger, with_a_class_more])
def test_heads_that_do_not_fit_the_tasks_are_refused(edit: Callable[[Tensors], Tensors], tmp_path: Path) -> None:
    path = whole_model(tmp_path) / "tasks.safetensors"
    save_file(edit(load_file(path)), path)
    with pytest.raises(Mistake, match=r"tasks\.safetensors does not fit .*model\.json"):
        load_model(tmp_path)


def test_a_model_with_an_unknown_module_is_refused(tmp_path: Path) -> None:
    modules: list[dict[str, Any]] = [{"name": "lhucc", "options": {}, "tasks": None, "shared": False}]
    edit_json(whole_model(tmp_path) / "model.json", modules=modules)
    with pytest.raises(Mistake, match="unknown task module 'lhucc'; did you mean 'lhuc'"):
        load_model(tmp_path)


def test_plans_come_back_as_they_were(tmp_path: Path) -> None:
    plans = (ModulePlan("lhuc"), ModulePlan("lhuc", {}, None, True))
    save_model(make_model(plans), tiny_tokenizer(), tmp_path)
    assert load_model(tmp_path)[0].plans == plans
