"""One task of a model as folders that transformers and sentence-transformers open, wherever they know such a model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mtbert.data.kinds.base import Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import merged, save_encoder
from mtbert.model.files import seal, write_json
from mtbert.model.heads.head import ACTIVATIONS, Linear, OneLogit
from mtbert.model.heads.pooling import FirstToken, Mean, Pooler
from mtbert.model.multitask import MultiTask

# how sentence-transformers calls the poolings that it has
SENTENCE_POOLINGS = {Mean: "mean_tokens", FirstToken: "cls_token"}


def save_classifier(model: MultiTask, tokenizer: Tokenizer, task: str, folder: Path, temperature: float = 1.0) -> None:
    """Write a task as transformers' BertForSequenceClassification, whose logits are the outputs of its head, divided by
    a temperature.

    Raises Mistake saying what to train instead where the task is no such model.
    """
    encoder, chosen = merged(model, task), model.tasks[task]
    other, head = _unlike_a_classifier(model, chosen), _linear(model.heads[task])
    if other or head is None:
        raise Mistake(
            f"task '{task}' is no model that AutoModelForSequenceClassification can be: {'; '.join(other)}; "
            "--format onnx writes every task"
        )
    weight, bias = head
    with torch.no_grad():
        if chosen.segments == "zeros":  # the second text's segment is then the first one's
            encoder.segment_embedding.weight[1:] = encoder.segment_embedding.weight[:1]
    names = chosen.class_names or ["score"]
    config = {
        "architectures": ["BertForSequenceClassification"],
        "num_labels": chosen.outputs,
        "problem_type": "regression" if chosen.scored else "single_label_classification",
        "id2label": {str(place): name for place, name in enumerate(names)},
        "label2id": {name: place for place, name in enumerate(names)},
        "classifier_dropout": chosen.dropout,
    }
    tensors = {"classifier.weight": weight / temperature, "classifier.bias": bias / temperature}
    length = min(chosen.max_length, encoder.shape.positions)
    save_encoder(encoder, tokenizer, folder, head=tensors, config=config, max_length=length)


def save_sentences(model: MultiTask, tokenizer: Tokenizer, task: str, folder: Path) -> None:
    """Write what a task pools of one text as a model of sentence-transformers, whose vectors are the same.

    Raises Mistake where the task reads two texts as one sequence, or pools as that library cannot.
    """
    encoder, chosen = merged(model, task), model.tasks[task]
    if len(chosen.text) != chosen.sequences:
        raise Mistake(
            f"task '{task}' reads its two texts as one sequence, and sentence-transformers encodes one text: train it "
            "with `pairs: separate`"
        )
    mode = SENTENCE_POOLINGS.get(type(model.poolings[task]))
    if mode is None:
        raise Mistake(
            f"task '{task}' pools by '{_name(chosen.pooling)}', which sentence-transformers has not: train it with "
            "`pooling: mean` or `pooling: cls`"
        )
    length = min(chosen.max_length, encoder.shape.positions)
    save_encoder(encoder, tokenizer, folder, max_length=length)
    library = "sentence_transformers.models"
    parts = [
        {"idx": 0, "name": "0", "path": "", "type": f"{library}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{library}.Pooling"},
    ]
    write_json(parts, folder / "modules.json")
    write_json({"max_seq_length": length, "do_lower_case": False}, folder / "sentence_bert_config.json")
    (folder / "1_Pooling").mkdir()
    pooling = {f"pooling_mode_{one}": one == mode for one in SENTENCE_POOLINGS.values()}
    write_json({"word_embedding_dimension": encoder.shape.width, **pooling}, folder / "1_Pooling" / "config.json")
    seal(folder)


def _unlike_a_classifier(model: MultiTask, task: Task) -> list[str]:
    """What keeps a task from being a BertForSequenceClassification, and what to train instead."""
    found = []
    if not task.scored and task.log_probabilities(torch.zeros(1, task.outputs)) is None:
        found.append(f"kind '{task.kind}' does not say the class with the largest output")
    if task.sequences == 2:
        found.append("it encodes its two texts apart (train with `pairs: joint`)")
    if model.beside[task.name]:
        found.append("its head reads features beside the vector (train without `beside`)")
    if task.predicted_in_both_orders:
        found.append("it answers with the mean over both orders of a pair (train without `symmetric`)")
    if not isinstance(model.poolings[task.name], Pooler):
        found.append(f"it pools by '{_name(task.pooling)}' (train with `pooling: pooler`)")
    if _linear(model.heads[task.name]) is None:
        found.append(f"its head is '{_name(task.head)}' (train with `head: linear`)")
    return found


def _linear(head: nn.Module) -> tuple[Tensor, Tensor] | None:
    """The weight (outputs, F) and the bias (outputs,) of a head that is nothing but these; None for another one."""
    if not isinstance(head, Linear) or head.activation is not ACTIVATIONS["none"]:
        return None
    weight, bias = head.output.weight.detach(), head.output.bias.detach()
    if type(head) is OneLogit:  # whose first logit is always 0
        return torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    return (weight, bias) if type(head) is Linear else None


def _name(named: object) -> str:
    return str(named["name"] if isinstance(named, dict) else named)
