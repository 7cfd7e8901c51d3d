"""Prediction by our back ends against those of sentence-transformers and a transformers pipeline: the same encoder over
the same texts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from mtbert.bench.peers import peer
from mtbert.bench.rate import Rate
from mtbert.data.batches import Examples
from mtbert.data.kinds.regression import Regression
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import save_encoder
from mtbert.model.multitask import MultiTask
from mtbert.runs.build import Experiment
from mtbert.serving.predictor import Predictor
from mtbert.shipping.graph import GraphModel, write_graph, write_int8

Encode = Callable[[list[str]], object]
TASK = Regression(name="any", text=("text",), label="none", range=(0, 1))


@dataclass(frozen=True)
class PredictBench:
    """What `mtbert bench predict` measured: texts a second, medians over rounds."""

    backend: str  # of ours
    against: str
    ours: float
    theirs: float
    ratio: float
    ours_quartiles: tuple[float, float]
    theirs_quartiles: tuple[float, float]
    texts: int
    threads: int


def mixed_texts(experiment: Experiment, count: int) -> list[str]:
    """So many texts of all tasks' training rows, evenly mixed; repeated where there are fewer."""
    columns = [column for rows in experiment.rows["train"].values() for column in rows.texts]
    texts = [text for column in columns for text in column.to_pylist()]
    order = np.random.default_rng(experiment.recipe.seed).permutation(len(texts))
    return [texts[order[number % len(texts)]] for number in range(count)]


def bench_predict(
    experiment: Experiment, texts: Sequence[str], against: str, rounds: int, backend: str = "torch"
) -> PredictBench:
    """Encode all texts `rounds` times on each side, in turns; another of our back ends may be the peer.

    Raises Mistake where a side is unknown or missing.
    """
    if against not in PEERS and against not in BACKENDS:
        raise Mistake(unknown("peer", against, [*PEERS, *BACKENDS]))
    if backend not in BACKENDS:
        raise Mistake(unknown("back end", backend, BACKENDS))
    model, tokenizer = MultiTask(experiment.model.encoder, [TASK]), experiment.tokenizer
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(model.encoder, tokenizer, Path(folder))
        sides: dict[str, Encode] = {
            "ours": BACKENDS[backend](model, tokenizer),
            "theirs": PEERS[against](folder) if against in PEERS else BACKENDS[against](model, tokenizer),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for encode in sides.values():
            encode(list(texts[:256]))  # warm up
        for _ in range(rounds):
            for name, encode in sides.items():
                started = time.perf_counter()
                encode(list(texts))
                times[name].append(time.perf_counter() - started)
    ours, others = (Rate.of([len(texts)] * rounds, times[name]) for name in ("ours", "theirs"))
    return PredictBench(
        backend,
        against,
        ours.median,
        others.median,
        ours.median / others.median,
        (ours.low, ours.high),
        (others.low, others.high),
        len(texts),
        torch.get_num_threads(),
    )


def _torch(model: MultiTask, tokenizer: Tokenizer) -> Encode:
    predictor = Predictor(model, tokenizer)
    return lambda texts: predictor.outputs(TASK.name, texts)


def _onnx(model: MultiTask, tokenizer: Tokenizer, int8: bool = False) -> Encode:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_graph(model, path)
        if int8:
            write_int8(path, path.with_name("model.int8.onnx"))
        graph = GraphModel(path.with_name("model.int8.onnx") if int8 else path, torch.get_num_threads())
    positions = model.encoder.shape.positions
    return lambda texts: graph.outputs(TASK, Examples.from_texts(TASK, [texts], tokenizer, positions))


def _sentence_transformers(folder: str, backend: str = "torch", optimized: str = "") -> Encode:
    """Its encode by one of its back ends, with the O-level or the quantisation that its documentation proposes.

    Source: https://sbert.net/docs/sentence_transformer/usage/efficiency.html
    """
    library = peer("sentence_transformers")
    if backend != "torch":
        needs = "optimum.onnxruntime" if backend == "onnx" else "optimum.intel"
        peer(needs, f"sentence-transformers[{backend}]")
    model = library.SentenceTransformer(folder, device="cpu", backend=backend)
    if optimized:
        model.save_pretrained(folder)
        how = "dynamic_quantized" if "vnni" in optimized else "optimized"
        getattr(library, f"export_{how}_onnx_model")(model, optimized, folder)
        (written,) = Path(folder, "onnx").glob("model_*.onnx")
        model = library.SentenceTransformer(
            folder, device="cpu", backend=backend, model_kwargs={"file_name": f"onnx/{written.name}"}
        )
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _pipeline(folder: str) -> Encode:
    library = peer("transformers")
    pipe = library.pipeline("feature-extraction", model=folder, tokenizer=folder, device="cpu")
    return lambda texts: [states.mean(1) for states in pipe(texts, batch_size=32, return_tensors=True)]


BACKENDS: dict[str, Callable[[MultiTask, Tokenizer], Encode]] = {
    "torch": _torch,
    "onnx": _onnx,
    "int8": partial(_onnx, int8=True),
}
PEERS: dict[str, Callable[[str], Encode]] = {
    "sentence-transformers": _sentence_transformers,
    "sentence-transformers-onnx": partial(_sentence_transformers, backend="onnx"),
    "sentence-transformers-onnx-o3": partial(_sentence_transformers, backend="onnx", optimized="O3"),
    "sentence-transformers-onnx-int8": partial(_sentence_transformers, backend="onnx", optimized="avx512_vnni"),
    "sentence-transformers-openvino": partial(_sentence_transformers, backend="openvino"),
    "pipeline": _pipeline,
}
