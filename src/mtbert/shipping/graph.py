"""A model as ONNX graphs: one with an output a task, one of the original encoder; in eight bits; and at work."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtbert.data.batches import Apart, Batch, Examples, Told
from mtbert.data.kinds.base import Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.data.tokens import Tokens
from mtbert.errors import Mistake
from mtbert.model.heads.head import beside_of
from mtbert.model.modes import evaluating
from mtbert.model.multitask import MultiTask
from mtbert.model.original import Original, scaled
from mtbert.model.sentences import SENTENCE, means_of
from mtbert.model.shape import Shape
from mtbert.runs.extras import needed
from mtbert.scoring.evaluation import summed

INPUTS = ("input_ids", "token_type_ids", "attention_mask")  # (S, L) int64 each, as transformers calls them
# (S, D) float32 each: the vectors of the first and of the second texts, as the original encoder has them, in as many
# rows as there are sequences; those beyond the examples count for nothing
APART = ("first", "second")
WORDS = "words"  # (S, W) int64: where the first piece of each word stands, 0 for none, -1 for one beyond the end
VECTOR = "vector"  # what the graph of the original encoder gives: (S, D) float32
OPSET = 23  # the first with Attention


class Graph(nn.Module):
    """All tasks of a model as a function of tokens; the encoder stands in it once for tasks with the same modules."""

    def __init__(self, model: MultiTask) -> None:
        super().__init__()
        self.model = model
        self.inputs = [*INPUTS]
        if any(task.reads_words for task in model.tasks.values()):
            self.inputs.append(WORDS)
        if any(model.beside.values()):
            self.inputs += APART
        trunks: dict[tuple[int, ...], list[str]] = {}
        for task in model.tasks:
            trunks.setdefault(model.modules_by_task.who(task), []).append(task)
        self.trunks = list(trunks.values())

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, *more: Tensor
    ) -> tuple[Tensor, ...]:
        """Task by task in the order of the model: (S, outputs), or (S / 2, outputs) for pairs encoded apart, or
        (S, W, outputs) for words. `more` are the other inputs, as `inputs` names them.
        """
        outputs: dict[str, Tensor] = {}
        given = dict(zip(self.inputs[len(INPUTS) :], more, strict=True))
        apart = [given[name] for name in APART if name in given]
        for tasks in self.trunks:
            batch = replace(_batch(tasks[0], input_ids, token_type_ids, attention_mask), words=given.get(WORDS))
            x = self.model.embed(batch)
            for state in self.model.states(x, batch):
                x = state
            for task in tasks:
                outputs[task] = self.model.answer(x, replace(batch, task=task, beside=self._beside(task, apart)))
        return tuple(outputs[task] for task in self.model.tasks)

    def _beside(self, name: str, apart: Sequence[Tensor]) -> Tensor | None:
        """The vectors of the texts of each example of a task whose head reads features of them: (B, T, D)."""
        if not self.model.beside[name]:
            return None
        task = self.model.tasks[name]
        columns = [one if task.sequences == 1 else one[: one.shape[0] // 2] for one in apart[: len(task.text)]]
        return torch.stack(columns, dim=1)


class OriginalGraph(nn.Module):
    """The original encoder as a function of the tokens of texts, each by itself."""

    inputs = INPUTS

    def __init__(self, original: Original) -> None:
        super().__init__()
        self.encoder = original.encoder

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """As `Original.vectors`: (S, D)."""
        batch = _batch(SENTENCE.name, input_ids, token_type_ids, attention_mask)
        return scaled(means_of(self.encoder, batch)).float()


def _batch(task: str, tokens: Tensor, segments: Tensor, mask: Tensor) -> Batch:
    rows = np.empty(0, np.int64)  # a graph knows of none
    return Batch(task, tokens, segments, mask.bool(), None, rows, sequences=1)


def write_graph(model: MultiTask, path: Path) -> None:
    """Write a model on the CPU as an ONNX graph whose outputs are named as its tasks.

    The number of sequences S and their length L are free. Of a task whose pairs are encoded apart, the first half of
    the sequences are the first texts. Where a head reads features beside the vector, the graph asks for the vectors
    of which they are made (`APART`), and for tasks that read words for the places of these (`WORDS`). Raises Mistake
    where a part of the model cannot be expressed, or without the extra `onnx`.
    """
    _write(Graph(model), model.encoder.shape, list(model.tasks), path)


def write_original(original: Original, path: Path) -> None:
    """Write the original encoder as an ONNX graph; raises Mistake as `write_graph`."""
    _write(OriginalGraph(original), original.encoder.shape, [VECTOR], path)


def _write(graph: Graph | OriginalGraph, shape: Shape, outputs: Sequence[str], path: Path) -> None:
    needed("onnxscript", "onnx")
    sequences, length = torch.export.Dim("sequences"), torch.export.Dim("length", max=shape.positions)
    # no size of 1, which would become a constant, and no tensor twice, which would become one input
    given: dict[str, Any] = {name: torch.ones(4, 6, dtype=torch.int64) for name in INPUTS}
    given |= {WORDS: torch.ones(4, 5, dtype=torch.int64)} | {name: torch.ones(4, shape.width) for name in APART}
    free: dict[str, Any] = {name: {0: sequences, 1: length} for name in INPUTS}
    free |= {WORDS: {0: sequences, 1: torch.export.Dim("words")}} | {name: {0: sequences} for name in APART}
    more = graph.inputs[len(INPUTS) :]
    with evaluating(graph), torch.no_grad(), _unsaid():
        try:
            program: Any = torch.onnx.export(
                graph,
                tuple(given[name] for name in graph.inputs),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(outputs),
                dynamic_shapes={name: free[name] for name in INPUTS}
                | ({"more": tuple(free[name] for name in more)} if more else {}),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().split("\n")[0]
            raise Mistake(f"this model cannot be written as an ONNX graph: {reason}") from None
    _keep_sums_apart(program.model)
    program.save(path, external_data=False)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep to itself what the exporter says about its inside, such as libraries that it would know, too."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


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
    with _unsaid():
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
    """A graph that was written by `write_graph` or `write_int8`, at work in onnxruntime.

    `apart` reads texts by themselves, for heads that ask for features of them (`GraphOriginal.vectors`).
    """

    def __init__(self, path: Path, threads: int, apart: Apart | None = None) -> None:
        self._session = _session(path, threads)
        self._apart = apart
        self._more = {one.name: one.shape[1] for one in self._session.get_inputs()[len(INPUTS) :]}
        self._run = needed("onnxruntime", "onnx").RunOptions()
        self._run.only_execute_path_to_fetches = True  # other tasks of the graph cost nothing

    def outputs(self, task: Task, examples: Examples, batch_size: int = 64) -> Tensor:
        """The outputs for all examples of a task, as `scoring.evaluation.outputs_of` gives them: (N, outputs), of words
        (N, W, outputs).
        """
        if self._apart is not None and beside_of(task):
            examples = examples.read_beside(self._apart)
        parts = []
        for order in examples.orders:
            for batch in order.in_order_of_length(batch_size):
                (outputs,) = self._session.run([task.name], self._fed(batch), self._run)
                parts.append((torch.from_numpy(batch.rows), torch.from_numpy(outputs)))
        return summed(parts, len(examples), task.outputs) / len(examples.orders)

    def _fed(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """All inputs of the graph: zeros where the batch's task has no use for one."""
        vectors = [] if batch.beside is None else batch.beside.repeat(batch.sequences, 1, 1).unbind(1)
        there = {WORDS: batch.words} | dict(zip(APART, vectors, strict=False))
        none = {WORDS: torch.zeros(len(batch.tokens), 1, dtype=torch.int64)}
        none |= {name: torch.zeros(len(batch.tokens), self._more[name]) for name in APART if name in self._more}
        more = {name: none[name] if (one := there.get(name)) is None else one for name in self._more}
        return _fed(batch) | {name: one.numpy() for name, one in more.items()}


class GraphOriginal:
    """A graph that was written by `write_original`, or its eight bits, at work in onnxruntime."""

    def __init__(self, path: Path, threads: int, tokenizer: Tokenizer, original: Original) -> None:
        self._session = _session(path, threads)
        self._tokenizer = tokenizer
        self._shape = original.encoder.shape

    def vectors(self, tokens: Tokens, told: Told) -> Tensor:
        """As `Original.vectors`: (N, D), of numbers that float16 can hold."""
        examples = Examples(SENTENCE, [tokens], self._tokenizer, self._shape.positions)
        vectors = torch.empty(len(tokens), self._shape.width)
        for batch in examples.in_order_of_length(64):
            (found,) = self._session.run([VECTOR], _fed(batch))
            vectors[torch.from_numpy(batch.rows)] = torch.from_numpy(found)
            told(len(batch))
        return vectors


def _session(path: Path, threads: int) -> Any:
    runtime = needed("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _fed(batch: Batch) -> dict[str, NDArray[np.int64]]:
    given = batch.tokens, batch.segments, batch.mask.long()
    return {name: tensor.numpy() for name, tensor in zip(INPUTS, given, strict=True)}
