"""Damage to a model folder: a changed byte is found by the manifest, and what no manifest vouches for is checked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtbert.data.batches import Examples
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_encoder, load_model, save_encoder, save_model
from mtbert.model.files import MANIFEST, seal, sealed, verify
from tests.support.mutations import mutated
from tests.support.tiny_models import MOOD, make_model, plan, tiny_encoder, tiny_tokenizer

LORA = [plan("lora"), plan("lhuc", tasks=["mood"])]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(make_model(LORA, layers=1), tiny_tokenizer(), folder)
    return folder


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """A model folder for whose files no manifest vouches."""
    save_model(make_model(LORA, layers=1), tiny_tokenizer(), tmp_path)
    for manifest in tmp_path.rglob(MANIFEST):
        manifest.unlink()
    return tmp_path


# ---- the manifest


def test_a_manifest_names_every_file_and_an_untouched_folder_passes(model_folder: Path) -> None:
    for folder in (model_folder, model_folder / "encoder"):
        names = {path.relative_to(folder).as_posix() for path in files_in(folder)}
        assert set(sealed(folder)) == names - {MANIFEST}
        verify(folder)
    load_model(model_folder)


def test_a_flipped_bit_anywhere_is_found(model_folder: Path) -> None:
    draw = random.Random(0)
    for path in files_in(model_folder):
        content = path.read_bytes()
        places = range(len(content)) if len(content) < 300 else sorted(draw.sample(range(len(content)), 40))
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises(Mistake, match=r"damaged|is missing|is not JSON"):
                verify(model_folder)
        path.write_bytes(content)
    verify(model_folder)


def test_a_flipped_bit_stops_loading_and_the_message_names_the_file(model_folder: Path) -> None:
    for path in files_in(model_folder):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Mistake, match=path.name):
            load_model(model_folder)
        path.write_bytes(content)


def test_a_missing_file_is_named(model_folder: Path) -> None:
    for path in files_in(model_folder):
        if path == model_folder / MANIFEST:
            continue
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(Mistake, match=rf"{path.name} is missing"):
            verify(model_folder)
        path.write_bytes(content)


def test_files_of_others_beside_the_models_do_not_matter(tmp_path: Path) -> None:
    save_encoder(tiny_encoder(), tiny_tokenizer(), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    load_encoder(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"sha256": {"../x": "0"}}',
        '{"sha256": {"/etc/passwd": "0"}}',
        '{"sha256": {"model.json": 1}}',
        '{"sha256": []}',
        "[]",
        "{}",
        "",
        "[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_a_mistake(model_folder: Path, content: str) -> None:
    before = (model_folder / MANIFEST).read_text()
    (model_folder / MANIFEST).write_text(content)
    with pytest.raises(Mistake, match=r"manifest\.json"):
        load_model(model_folder)
    (model_folder / MANIFEST).write_text(before)


def test_sealing_again_vouches_for_what_is_there_now(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "é").write_text("one")
    seal(tmp_path)
    (tmp_path / "deep" / "é").write_text("two")
    with pytest.raises(Mistake, match="é is damaged"):
        verify(tmp_path)
    seal(tmp_path)
    verify(tmp_path)


# ---- without one


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_entry(path: Path, key: str, index: int, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content[key][index] |= changes
    path.write_text(json.dumps(content))


def edit_tensor(path: Path, change: Callable[[Tensor], Tensor], name: str) -> None:
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path)


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[-1] = value
        return changed

    return change


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def with_settings_of_a_word(path: Path) -> None:
    path.unlink()
    path.with_name("tokenizer_config.json").write_text("so")


def with_a_vocabulary_of_bytes(path: Path) -> None:
    path.unlink()
    path.with_name("vocab.txt").write_bytes(b"\xff\xfe[PAD]")


HEAD, WORDS = "heads.mood.output.weight", "embeddings.word_embeddings.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"

# what is done to a model folder, and what the message must say beside the file's name
DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "nan in a head": ("tasks.safetensors", lambda p: edit_tensor(p, with_value(float("nan")), HEAD), "nan or inf"),
    "inf in a head": ("tasks.safetensors", lambda p: edit_tensor(p, with_value(float("inf")), HEAD), "nan or inf"),
    "a head of half precision": ("tasks.safetensors", lambda p: edit_tensor(p, Tensor.half, HEAD), "is float16"),
    "a head of integers": ("tasks.safetensors", lambda p: edit_tensor(p, Tensor.int, HEAD), "is int32"),
    "a head of another shape": ("tasks.safetensors", lambda p: edit_tensor(p, lambda t: t.T.contiguous(), HEAD), "not"),
    "nan in the encoder": (
        "encoder/model.safetensors",
        lambda p: edit_tensor(p, with_value(float("-inf")), WORDS),
        "nan or inf",
    ),
    "an encoder of integers": ("encoder/model.safetensors", lambda p: edit_tensor(p, Tensor.int, WORDS), "torch.int32"),
    "a pointer for the encoder": ("encoder/model.safetensors", lambda p: p.write_text(POINTER), "git lfs pull"),
    "a pointer for the heads": ("tasks.safetensors", lambda p: p.write_text(POINTER), "git lfs pull"),
    "a pointer for model.json": ("model.json", lambda p: p.write_text(POINTER), "git lfs pull"),
    "a folder for weights": ("tasks.safetensors", as_a_folder, "cannot be read"),
    "no heads": ("encoder/config.json", lambda p: edit_json(p, num_attention_heads=0), "greater than or equal to 1"),
    "heads in words": ("encoder/config.json", lambda p: edit_json(p, num_attention_heads="two"), "'two'"),
    "true layers": ("encoder/config.json", lambda p: edit_json(p, num_hidden_layers=True), "is True"),
    "a layer and a half": ("encoder/config.json", lambda p: edit_json(p, num_hidden_layers=1.5), "is 1.5"),
    "a billion layers": ("encoder/config.json", lambda p: edit_json(p, num_hidden_layers=10**9), "less than or equal"),
    "a width beyond memory": ("encoder/config.json", lambda p: edit_json(p, hidden_size=1 << 24), "does not fit"),
    "a width beyond 64 bits": ("encoder/config.json", lambda p: edit_json(p, hidden_size=1 << 70), "hidden_size"),
    "too much dropout": ("encoder/config.json", lambda p: edit_json(p, hidden_dropout_prob=1.5), "hidden_dropout_prob"),
    "no epsilon": ("encoder/config.json", lambda p: edit_json(p, layer_norm_eps=None), "layer_norm_eps is None"),
    "a list for a config": ("encoder/config.json", lambda p: p.write_text("[1]"), "object with keys"),
    "a nested config": ("encoder/config.json", lambda p: p.write_text("[" * 100_000), "nested too deeply"),
    "a nested model": ("model.json", lambda p: p.write_text('{"a":' * 100_000), "nested too deeply"),
    "a model without tasks": ("model.json", lambda p: p.write_text('{"modules": []}'), "`tasks`"),
    "a model without modules": ("model.json", lambda p: edit_json(p, modules=None), "`modules`"),
    "a task without a kind": ("model.json", lambda p: edit_json(p, tasks=[{"name": "mood"}]), "needs a `kind`"),
    "a task of a kind unheard of": ("model.json", lambda p: edit_entry(p, "tasks", 0, kind="clas"), "unknown kind"),
    "a task that is a word": ("model.json", lambda p: edit_json(p, tasks=["mood"]), "needs a `kind`"),
    "a task twice": ("model.json", lambda p: edit_entry(p, "tasks", 1, name="mood"), "named twice"),
    "a task of other classes": ("model.json", lambda p: edit_entry(p, "tasks", 0, classes=["a"]), "two classes"),
    "a task with too much dropout": ("model.json", lambda p: edit_entry(p, "tasks", 0, dropout=2), "dropout is 2"),
    "a task of an unknown head": ("model.json", lambda p: edit_entry(p, "tasks", 0, head="lin"), "unknown head 'lin'"),
    "a task of a pooling in a list": ("model.json", lambda p: edit_entry(p, "tasks", 0, pooling=[]), "is []: "),
    "a module of a negative rank": (
        "model.json",
        lambda p: edit_entry(p, "modules", 0, options={"rank": -1}),
        "rank of task module 'lora' is -1",
    ),
    "a module of an option unheard of": (
        "model.json",
        lambda p: edit_entry(p, "modules", 0, options={"rnak": 1}),
        "'rnak'; did you mean 'rank'",
    ),
    "a module of a rank beyond memory": (
        "model.json",
        lambda p: edit_entry(p, "modules", 0, options={"rank": 10**12}),
        "",
    ),
    "a module for a task unheard of": ("model.json", lambda p: edit_entry(p, "modules", 1, tasks=["moo"]), "'moo'"),
    "a module for a number": ("model.json", lambda p: edit_entry(p, "modules", 1, tasks=7), "tasks is 7"),
    "a module that is a number": ("model.json", lambda p: edit_json(p, modules=[1]), "modules.0 is 1"),
    "a tokenizer's settings that are a word": (
        "encoder/tokenizer.json",
        with_settings_of_a_word,
        "encoder",
    ),
    "a vocabulary that is not text": (
        "encoder/tokenizer.json",
        with_a_vocabulary_of_bytes,
        "encoder",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_that_no_manifest_tells_of_is_one_message_that_names_the_file(what: str, unsealed: Path) -> None:
    name, damage, said = DAMAGE[what]
    damage(unsealed / name)
    with pytest.raises(Mistake) as found:
        load_model(unsealed)
    assert said in str(found.value)
    assert Path(name).name in str(found.value) or "encoder" in str(found.value)
    assert "\n" not in str(found.value)


def outlive_mutations(folder: Path, seeds: range) -> None:
    """Every mutation of a file either loads and predicts, or is a mistake; nothing else comes out."""
    whole = {path: path.read_bytes() for path in files_in(folder)}
    for seed in seeds:
        draw = random.Random(seed)
        path = draw.choice(list(whole))
        path.write_bytes(mutated(whole[path], draw))
        try:
            model, tokenizer = load_model(folder)
            examples = Examples.from_texts(MOOD, [["the good film", "!"]], tokenizer, model.encoder.shape.positions)
            if "mood" in model.tasks:
                with torch.inference_mode():
                    model(examples.batch(range(2)))
        except Mistake:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {path.name}: {type(error).__name__}: {error}") from error
        path.write_bytes(whole[path])


def test_mutated_files_load_or_are_mistakes(unsealed: Path) -> None:
    outlive_mutations(unsealed, range(50))


@pytest.mark.long
def test_five_thousand_mutated_files_load_or_are_mistakes(unsealed: Path) -> None:
    outlive_mutations(unsealed, range(5000))
