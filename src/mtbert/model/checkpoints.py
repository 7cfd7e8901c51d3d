"""Reading and writing BERT's published format and whole models; pickles, which can run any code, are refused.

A model folder holds `encoder/` (in the published format, so that transformers and sentence-transformers open it),
`tasks.safetensors` (the weights of heads and task modules), `model.json` (the tasks, and the recipe's modules) and,
where a head reads features beside the vector, `original/` (the encoder before training, in the same format). Each
folder holds a manifest, by which a byte that has changed since is found on loading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mtbert.data.kinds.base import SOURCES, Task
from mtbert.data.kinds.table import KINDS
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.encoder import Encoder
from mtbert.model.files import (
    REMEDY,
    check_finite,
    check_fit,
    checked,
    naming,
    read_json,
    read_tensors,
    seal,
    validated,
    verify,
    write_json,
)
from mtbert.model.heads.head import read_apart
from mtbert.model.multitask import MultiTask
from mtbert.model.original import Original
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.model.tensors import save_tensors
from mtbert.registry import NonNegative, Share

WEIGHTS, CONFIG, TASKS, MODEL = "model.safetensors", "config.json", "tasks.safetensors", "model.json"
ENSEMBLE = "ensemble.json"  # in the folder of several models that are asked as one (ensemble.py)
ORIGINAL = "original"  # the folder of the frozen encoder that heads with features beside the vector read

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

RATES = ("dropout", "attention_dropout")  # fields of Shape that training chooses

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

# what config.json may say; far above every published model, so that a damaged number takes neither time nor memory
Size = Annotated[int, Strict(), Field(ge=1, le=1 << 24)]
SIZES: dict[str, Any] = {
    "layers": Annotated[int, Strict(), Field(ge=1, le=1000)],
    "epsilon": NonNegative,
    "dropout": Share,
    "attention_dropout": Share,
}


def load_encoder(folder: Path, dropout: float | None = None, attention_dropout: float | None = None) -> Encoder:
    """An encoder in float32 from a folder in the published format; rates of dropout default to the published ones.

    Raises Mistake for another architecture than BERT, for missing, unexpected or damaged weights, and for weights in a
    pickle.
    """
    verify(folder)
    return _read_encoder(folder, dropout, attention_dropout)


def save_encoder(
    encoder: Encoder,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    head: Mapping[str, Tensor] = MappingProxyType({}),
    config: Mapping[str, Any] = MappingProxyType({}),
    max_length: int | None = None,
) -> None:
    """Write an encoder and its tokenizer in the published format, which transformers opens; seals the folder.

    With a `head`, tensors by their published names, it is a whole model of transformers, which `config` describes.
    `max_length` is how many tokens the tokenizer lets through, where that is less than the encoder can read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        ("bert." if head else "") + name: part
        for ours, parameter in encoder.state_dict().items()
        for name, part in zip(_published_names(ours), parameter.chunk(len(_published_names(ours))), strict=True)
    }
    save_tensors({**tensors, **head}, folder / WEIGHTS, metadata={"format": "pt"})

    sizes = {SHAPE_KEYS[name]: value for name, value in asdict(encoder.shape).items()}
    described = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "pad_token_id": tokenizer.padding,
        **sizes,
        **config,
    }
    write_json(described, folder / CONFIG)
    (folder / "tokenizer.json").write_text(tokenizer.definition, encoding="utf-8")
    write_json(
        {
            "tokenizer_class": "BertTokenizer",
            "model_max_length": max_length or encoder.shape.positions,
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
    seal(folder)


def load_model(folder: Path) -> tuple[MultiTask, Tokenizer]:
    """A whole model and its tokenizer from their folder, in evaluation mode; raises Mistake if files do not fit."""
    if (folder / ENSEMBLE).exists():
        raise Mistake(f"{folder} holds an ensemble of models, which only predicts and is scored; name one of its runs")
    verify(folder)
    tasks, plans = _read_description(folder / MODEL)
    encoder, own = _read_encoder(folder / "encoder"), read_tensors(folder / TASKS)
    with naming(folder / MODEL), _sizes_alone():
        expected = MultiTask(Encoder(encoder.shape), tasks, plans)
    check_fit(own, _own(expected), folder / TASKS, beside=str(folder / MODEL))
    check_finite(own, folder / TASKS)
    tokenizer = read_tokenizer(folder / "encoder", encoder)
    original = _read_original(folder, encoder, tokenizer) if read_apart(tasks) else None
    model = MultiTask(encoder, tasks, plans, original)
    model.load_state_dict(own, strict=False)
    return model.eval(), tokenizer


def tasks_in(folder: Path) -> dict[str, Task]:
    """The tasks of the model, or of the ensemble, in a folder, by their names; its weights are not read."""
    inside = folder / "0" if (folder / ENSEMBLE).exists() else folder
    return {task.name: task for task in _read_description(inside / MODEL)[0]}


def save_model(model: MultiTask, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a whole model to a folder, from which load_model restores it bit for bit.

    The folder is sealed with all that it holds, such as the scores that were written there before.
    """
    save_encoder(model.encoder, tokenizer, folder / "encoder")
    if model.original is not None:
        save_encoder(model.original.encoder, tokenizer, folder / ORIGINAL)
    save_tensors(_own(model), folder / TASKS)
    files = {*SOURCES}  # where the rows came from concerns the run, not the model
    description = {
        "tasks": [task.model_dump(mode="json", exclude=files) for task in model.tasks.values()],
        "modules": [asdict(plan) for plan in model.plans],
    }
    write_json(description, folder / MODEL)
    seal(folder)


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


def read_tokenizer(folder: Path, encoder: Encoder) -> Tokenizer:
    """The tokenizer beside an encoder; raises Mistake if it is damaged or has tokens that the encoder has not."""
    try:
        tokenizer = Tokenizer.from_folder(folder)
    except Mistake:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise Mistake(f"{folder}: the tokenizer's files cannot be read: {error}") from None
    definition = json.loads(tokenizer.definition)
    ids = [*definition["model"]["vocab"].values(), *(token["id"] for token in definition["added_tokens"])]
    if max(ids) >= encoder.shape.vocabulary:
        raise Mistake(
            f"{folder}: the tokenizer's vocabulary has ids up to {max(ids)}, the encoder's "
            f"{encoder.shape.vocabulary} words"
        )
    return tokenizer


def _read_encoder(folder: Path, dropout: float | None = None, attention_dropout: float | None = None) -> Encoder:
    shape = _read_shape(folder, dropout, attention_dropout)
    tensors = _read_weights(folder)
    with _sizes_alone():
        expected = Encoder(shape).state_dict()
    has_pooler = any(name.startswith("pooler.") for name in tensors)  # language models are published without
    expected = {name: one for name, one in expected.items() if has_pooler or not name.startswith("pooler.")}
    used = _check_published(folder, tensors, expected)
    check_finite({name: tensors[name] for name in used}, folder / WEIGHTS)
    encoder = Encoder(shape)
    state = encoder.state_dict()
    for ours in expected:
        theirs = _published_names(ours)
        for name, part in zip(theirs, state[ours].chunk(len(theirs)), strict=True):
            part.copy_(tensors[name])
    return encoder


def _read_original(folder: Path, encoder: Encoder, tokenizer: Tokenizer) -> Original:
    """What the encoder of a model folder was before training; raises Mistake where it is one of other sizes."""
    original = _read_encoder(folder / ORIGINAL)
    ours, theirs = asdict(encoder.shape), asdict(original.shape)
    for name, size in ours.items():
        if theirs[name] != size and name not in RATES:
            said = f"{SHAPE_KEYS[name]} is {theirs[name]}, not {size} as in {folder / 'encoder' / CONFIG}"
            raise Mistake(f"{folder / ORIGINAL / CONFIG}: {said}; {REMEDY}")
    return Original(original, tokenizer)


@contextmanager
def _sizes_alone() -> Iterator[None]:
    """What is built inside has sizes and no memory, so that a wrong size takes none."""
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves out the drawing of weights that have no memory, for which torch would import its compiler: a second."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if function in (Tensor.normal_, Tensor.uniform_) or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def _check_published(folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The published names that make up an encoder's tensors; raises Mistake unless all are there and fit."""
    used = []
    for ours, whole in expected.items():
        theirs = _published_names(ours)
        for name, part in zip(theirs, whole.chunk(len(theirs)), strict=True):
            if name not in tensors:
                raise Mistake(f"{folder / WEIGHTS} has no tensor '{name}': it does not hold a whole BERT encoder")
            if tensors[name].shape != part.shape:
                raise Mistake(
                    f"{folder / WEIGHTS} does not fit {folder / CONFIG}: '{name}' is {tuple(tensors[name].shape)}, "
                    f"not {tuple(part.shape)}"
                )
            if not tensors[name].is_floating_point():
                raise Mistake(f"{folder / WEIGHTS}: '{name}' holds {tensors[name].dtype}, not floating-point numbers")
            used.append(name)
    surplus = [name for name in tensors if name.startswith("encoder.layer.") and name not in used]
    if surplus:
        raise Mistake(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: it also holds '{surplus[0]}'")
    return used


def _read_shape(folder: Path, dropout: float | None, attention_dropout: float | None) -> Shape:
    """The shape that config.json describes; raises Mistake if it describes anything but BERT."""
    path = folder / CONFIG
    if not path.exists():
        raise Mistake(f"{folder} has no {CONFIG}: it is not an encoder in the published format")
    config = read_json(path)
    for key, ours in {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}.items():
        if config.get(key, ours) != ours:
            raise Mistake(f"{path}: {key} is '{config[key]}'; only BERT encoders ({key} '{ours}') are read")
    missing = [key for name, key in SHAPE_KEYS.items() if key not in config and name in ("layers", "width", "heads")]
    if missing:
        raise Mistake(f"{path} does not say {', '.join(missing)}")
    with naming(path):
        sizes = {
            name: checked(SIZES.get(name, Size), config[key], key) for name, key in SHAPE_KEYS.items() if key in config
        }
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
    return {_modern(name): tensor for name, tensor in read_tensors(path).items()}


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


def _own(model: MultiTask) -> dict[str, Tensor]:
    """A model's weights outside its encoder."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("encoder.")}


def _read_description(path: Path) -> tuple[list[Task], list[ModulePlan]]:
    """The tasks and module plans in model.json, checked as those of a recipe are."""
    description = read_json(path)
    with naming(path):
        tasks = [_read_task(entry, f"tasks.{number}") for number, entry in enumerate(_listed(description, "tasks"))]
        names = [task.name for task in tasks]
        for name in names:
            if names.count(name) > 1:
                raise Mistake(f"task '{name}' is named twice")
        plans = [_read_plan(entry, f"modules.{number}") for number, entry in enumerate(_listed(description, "modules"))]
    return tasks, plans


def _listed(description: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(description.get(key), list):
        raise Mistake(f"needs a list `{key}`")
    entries: list[Any] = description[key]
    return entries


def _read_task(description: Any, place: str) -> Task:
    if not isinstance(description, Mapping) or "kind" not in description:
        raise Mistake(f"{place} needs a `kind`: {' or '.join(KINDS)}")
    kind: Any = KINDS[description["kind"]]
    task: Task = validated(lambda: kind.model_validate(description), place)
    return task


def _read_plan(description: Any, place: str) -> ModulePlan:
    plan = checked(ModulePlan, description, place)
    return ModulePlan(plan.name, TASK_MODULES.complete(plan.name, plan.options), plan.tasks, plan.shared)
