"""A model as one ONNX graph with an output a task, the same graph in eight bits, and such a graph at work."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtbert.data.batches import Batch, ExampleSet
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.runs.extras import needed

INPUTS = ("input_ids", "token_type_ids", "attention_mask")  # (S, L) int64 each, as transformers calls them
OPSET = 23  # the first with Attention


class Graph(nn.Module):
    """All tasks of a model as a function of tokens; the encoder stands in it once for tasks with the same modules."""

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.model = model
        trunks: dict[tuple[int, ...], list[str]] = {}
        for task in model.tasks:
            trunks.setdefault(model.modules_by_task.who(task), []).append(task)
        self.trunks = list(trunks.values())

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Task by task in the order of the model: (S, outputs), or (S / 2, outputs) for pairs encoded apart."""
        outputs: dict[str, Tensor] = {}
        for tasks in self.trunks:
            rows = np.empty(0, np.int64)  # a graph knows of none
            batch = Batch(tasks[0], input_ids, token_type_ids, attention_mask.bool(), None, rows, sequences=1)
            outputs |= self.model.together(batch, tasks)
        return tuple(outputs[task] for task in self.model.tasks)


def write_graph(model: MultiTask, path: Path) -> None:
    """Write a model on the CPU as an ONNX graph whose outputs are named as its tasks.

    The number of sequences S and their length L are free. Of a task whose pairs are encoded apart, the first half of
    the sequences are the first texts. Raises Mistake where a part of the model cannot be expressed, or without the
    extra `onnx`.
    """
    needed("onnxscript", "onnx")
    if words := [name for name, task in model.tasks.items() if task.reads_words]:
        raise Mistake(
            "this model cannot be written as an ONNX graph: a label for each word asks for the places of the words "
            f"beside the tokens (train without {' and '.join(words)})"
        )
    if asking := [task for task, features in model.beside.items() if features]:
        raise Mistake(
            f"this model cannot be written as an ONNX graph: heads of {', '.join(asking)} read features beside the "
            "vector, which come from a second encoder (train without `beside`)"
        )
    sequences, length = torch.export.Dim("sequences"), torch.export.Dim("length", max=model.encoder.shape.positions)
    # no size of 1, which would become a constant, and no tensor twice, which would become one input
    example = tuple(torch.ones(4, 6, dtype=torch.int64) for _ in INPUTS)
    with evaluating(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the exporter does inside
        try:
            program: Any = torch.onnx.export(
                Graph(model),
                example,
                dynamo=True,
                input_names=list(INPUTS),
                output_names=list(model.tasks),
                dynamic_shapes={name: {0: sequences, 1: length} for name in INPUTS},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().split("\n")[0]
            raise Mistake(f"this model cannot be written as an ONNX graph: {reason}") from None
    _keep_sums_apart(program.model)
    program.save(path, external_data=False)


def _keep_sums_apart(model: Any) -> None:
    """Write the residual sum before a LayerNorm as a Sum, which means the same as an Add of two.

    onnxruntime joins an Add and a LayerNormalization to one step, which takes a CPU three times as long as the two.
    """
    for node in model.graph:
        readers = [use.node.op_type for output in node.outputs for use in output.uses()]
        if node.op_type == "Add" and "LayerNormalization" in readers:
            node.op_type = "Sum"


def write_int8(graph: Path, path: Path) -> None:
    """Write a graph with the weights of the encoder's matrix products in eight bits, a scale for each column.

    Embeddings and heads stay as they are, as what they lose would go straight into the outputs. Of the eight bits seven
    are used, because sums of full products overflow on processors without VNNI instructions.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    quantization = needed("onnxruntime.quantization", "onnx")
    shapes = needed("onnxruntime.quantization.shape_inference", "onnx")
    fused = path.with_suffix(".fused")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes.quant_pre_process(graph, fused, skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            fused,
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_of_heads(fused),
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
    fused.unlink()


def _of_heads(graph: Path) -> list[str]:
    """The products of heads by their names in a graph, also as the quantiser will have named them by then."""
    nodes = needed("onnx", "onnx").load(graph).graph.node
    heads = [node.name for node in nodes if any(".heads." in name for name in node.input)]
    return [*heads, *(f"{name}_MatMul" for name in heads)]


class GraphModel:
    """A graph that was written by `write_graph` or `write_int8`, at work in onnxruntime."""

    def __init__(self, path: Path, threads: int) -> None:
        runtime = needed("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._run = runtime.RunOptions()
        self._run.only_execute_path_to_fetches = True  # other tasks of the graph cost nothing

    def outputs(self, task: Task, examples: ExampleSet, batch_size: int = 64) -> Tensor:
        """The outputs for all examples of a task, as `scoring.evaluation.outputs_of` gives them: (N, outputs)."""
        total = torch.zeros(len(examples), task.outputs)
        for order in examples.orders:
            for batch in order.in_order_of_length(batch_size):
                given = batch.tokens, batch.segments, batch.mask.long()
                feed = {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True)}
                (outputs,) = self._session.run([task.name], feed, self._run)
                total[torch.from_numpy(batch.rows)] += torch.from_numpy(outputs)
        return total / len(examples.orders)
