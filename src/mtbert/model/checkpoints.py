"""Reading and writing BERT's published format and whole models; pickles, which can run any code, are refused.

A model folder holds `encoder/` (in the published format, so that transformers and sentence-transformers open it),
`tasks.safetensors` (the weights of heads and task modules) and `model.json` (the tasks, and the recipe's modules).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtbert.data.tasks import KINDS, Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.tensors import save_tensors

WEIGHTS, CONFIG, TASKS, MODEL = "model.safetensors", "config.json", "tasks.safetensors", "model.json"

# field of Shape -> key of the published config
SHAPE_KEYS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "segments": "type_vocab_size",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}

# our name of a module -> the published names; where there are several, their weights are joined along the first axis
EMBEDDING_NAMES: dict[str, tuple[str, ...]] = {
    "word_embedding": ("embeddings.word_embeddings",),
    "position_embedding": ("embeddings.position_embeddings",),
    "segment_embedding": ("embeddings.token_type_embeddings",),
    "embedding_norm": ("embeddings.LayerNorm",),
}
LAYER_NAMES: dict[str, tuple[str, ...]] = {
    "to_qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "mix_heads": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "expand": ("intermediate.dense",),
    "contract": ("output.dense",),
    "output_norm": ("output.LayerNorm",),
}
POOLER_NAMES: dict[str, tuple[str, ...]] = {"pooler": ("pooler.dense",)}


def load_encoder(folder: Path, dropout: float | None = None, attention_dropout: float | None = None) -> Encoder:
    """An encoder in float32 from a folder in the published format; rates of dropout default to the published ones.

    Raises Mistake for another architecture than BERT, for missing or unexpected weights, and for weights in a pickle.
    """
    shape = _read_shape(folder, dropout, attention_dropout)
    tensors = _read_weights(folder)
    encoder = Encoder(shape)
    has_pooler = any(name.startswith("pooler.") for name in tensors)  # language models are published without
    used = set()
    for ours, parameter in encoder.state_dict().items():
        theirs = _published_names(ours)
        if ours.startswith("pooler.") and not has_pooler:
            continue
        parts = parameter.chunk(len(theirs))
        for name, part in zip(theirs, parts, strict=True):
            if name not in tensors:
                raise Mistake(f"{folder / WEIGHTS} has no tensor '{name}': it does not hold a whole BERT encoder")
            if tensors[name].shape != part.shape:
                raise Mistake(
                    f"{folder / WEIGHTS} does not fit {folder / CONFIG}: '{name}' is {tuple(tensors[name].shape)}, "
                    f"not {tuple(part.shape)}"
                )
            part.copy_(tensors[name])
            used.add(name)
    surplus = [name for name in tensors if name.startswith("encoder.layer.") and name not in used]
    if surplus:
        raise Mistake(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: it also holds '{surplus[0]}'")
    return encoder


def save_encoder(encoder: Encoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write an encoder and its tokenizer in the published format, which transformers opens."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: part
        for ours, parameter in encoder.state_dict().items()
        for name, part in zip(_published_names(ours), parameter.chunk(len(_published_names(ours))), strict=True)
    }
    save_tensors(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    sizes = {SHAPE_KEYS[name]: value for name, value in asdict(encoder.shape).items()}
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "pad_token_id": tokenizer.padding,
        **sizes,
    }
    _write_json(config, folder / CONFIG)
    (folder / "tokenizer.json").write_text(tokenizer.definition, encoding="utf-8")
    _write_json(
        {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": encoder.shape.positions,
            "do_lower_case": tokenizer.lowercase,
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "mask_token": "[MASK]",
        },
        folder / "tokenizer_config.json",
    )
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in tokenizer.pieces()), encoding="utf-8")


def load_model(folder: Path) -> tuple[MultiTask, Tokenizer]:
    """A whole model and its tokenizer from their folder, in evaluation mode; raises Mistake if files do not fit."""
    description = _read_json(folder / MODEL)
    tasks = [_read_task(task) for task in description["tasks"]]
    plans = [ModulePlan(**plan) for plan in description["modules"]]
    model = MultiTask(load_encoder(folder / "encoder"), tasks, plans)
    own = _read_tensors(folder / TASKS)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("encoder.")}
    wrong = [name for name in sorted({*own, *expected}) if name not in own or own[name].shape != expected.get(name)]
    if wrong:
        raise Mistake(f"{folder / TASKS} does not fit {folder / MODEL}: {wrong[0]}")
    model.load_state_dict(own, strict=False)
    return model.eval(), Tokenizer.from_folder(folder / "encoder")


def save_model(model: MultiTask, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a whole model to a folder, from which load_model restores it bit for bit."""
    save_encoder(model.encoder, tokenizer, folder / "encoder")
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("encoder.")}
    save_tensors(own, folder / TASKS)
    files = {"train", "dev", "test"}  # where the rows came from concerns the run, not the model
    description = {
        "tasks": [task.model_dump(mode="json", exclude=files) for task in model.tasks.values()],
        "modules": [asdict(plan) for plan in model.plans],
    }
    _write_json(description, folder / MODEL)


def merged(model: MultiTask, task: str) -> Encoder:
    """A copy of the encoder with a task's modules merged into its weights: plain BERT that serves this task alone.

    Raises Mistake if a module of the task cannot be expressed by the encoder's weights.
    """
    if task not in model.tasks:
        raise Mistake(unknown("task", task, model.tasks))
    encoder = deepcopy(model.encoder)
    plans = [plan for plan in model.plans if task in (plan.tasks or model.tasks)]
    for plan, module in zip(plans, model.modules_by_task.of(task).modules, strict=True):
        try:
            module.merge_into(encoder)
        except Mistake as mistake:
            raise Mistake(f"task '{task}' cannot be exported with its module '{plan.name}': {mistake}") from None
    return encoder


def _read_shape(folder: Path, dropout: float | None, attention_dropout: float | None) -> Shape:
    """The shape that config.json describes; raises Mistake if it describes anything but BERT."""
    if not (folder / CONFIG).exists():
        raise Mistake(f"{folder} has no {CONFIG}: it is not an encoder in the published format")
    config = _read_json(folder / CONFIG)
    for key, ours in {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}.items():
        if config.get(key, ours) != ours:
            raise Mistake(f"{folder / CONFIG}: {key} is '{config[key]}'; only BERT encoders ({key} '{ours}') are read")
    missing = [key for name, key in SHAPE_KEYS.items() if key not in config and name in ("layers", "width", "heads")]
    if missing:
        raise Mistake(f"{folder / CONFIG} does not say {', '.join(missing)}")
    sizes = {name: config[key] for name, key in SHAPE_KEYS.items() if key in config}
    chosen = {"dropout": dropout, "attention_dropout": attention_dropout}
    return Shape(**sizes | {name: value for name, value in chosen.items() if value is not None})


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors by their published names, without the prefix `bert.` and with the modern names of LayerNorm weights."""
    path = folder / WEIGHTS
    if not path.exists():
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        if pickles:
            raise Mistake(
                f"{folder / pickles[0]} is a pickle, which can run any code when opened, and is refused; convert it "
                "where you trust it: transformers.AutoModel.from_pretrained(folder).save_pretrained(new_folder)"
            )
        raise Mistake(f"{folder} has no {WEIGHTS}")
    return {_modern(name): tensor.float() for name, tensor in _read_tensors(path).items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises Mistake if it is missing or damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise Mistake(f"there is no {path}") from None
    except SafetensorError as error:
        raise Mistake(f"{path} cannot be read: {error}") from None
    return tensors


def _modern(name: str) -> str:
    """The name in today's releases; old ones have a prefix, and call LayerNorm's weight and bias gamma and beta."""
    name = name.removeprefix("bert.")
    if "LayerNorm" in name:
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
    return name


def _published_names(ours: str) -> list[str]:
    """The names of the published tensors that make up our tensor of this name, in order."""
    stem, _, leaf = ours.rpartition(".")
    if not stem.startswith("layers."):
        return [f"{name}.{leaf}" for name in (EMBEDDING_NAMES | POOLER_NAMES)[stem]]
    _, index, stem = stem.split(".")
    return [f"encoder.layer.{index}.{name}.{leaf}" for name in LAYER_NAMES[stem]]


def _read_task(description: Mapping[str, Any]) -> Task:
    kind: Any = KINDS[description["kind"]]
    task: Task = kind.model_validate(description)
    return task


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Mistake(f"there is no {path}") from None
    except ValueError as error:
        raise Mistake(f"{path} is not JSON: {error}") from None
    return content


def _write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
