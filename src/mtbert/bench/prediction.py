"""Prediction against sentence-transformers and a transformers pipeline: the same encoder over the same texts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mtbert.bench.peers import peer
from mtbert.bench.rate import Rate
from mtbert.data.kinds.regression import Regression
from mtbert.errors import Mistake, unknown
from mtbert.model.checkpoints import save_encoder
from mtbert.model.multitask import MultiTask
from mtbert.runs.build import Experiment
from mtbert.serving.predictor import Predictor

Encode = Callable[[list[str]], object]


@dataclass(frozen=True)
class PredictBench:
    """What `mtbert bench predict` measured: texts a second, medians over rounds."""

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


def bench_predict(experiment: Experiment, texts: Sequence[str], against: str, rounds: int) -> PredictBench:
    """Encode all texts `rounds` times on each side, in turns; raises Mistake where the peer is unknown or missing."""
    if against not in PEERS:
        raise Mistake(unknown("peer", against, PEERS))
    task = Regression(name="any", text=("text",), label="none", range=(0, 1))
    encoder, tokenizer = experiment.model.encoder, experiment.tokenizer
    predictor = Predictor(MultiTask(encoder, [task]), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(encoder, tokenizer, Path(folder))
        sides: dict[str, Encode] = {
            "ours": lambda chosen: predictor.outputs(task.name, chosen),
            "theirs": PEERS[against](folder),
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
        against,
        ours.median,
        others.median,
        ours.median / others.median,
        (ours.low, ours.high),
        (others.low, others.high),
        len(texts),
        torch.get_num_threads(),
    )


def _sentence_transformers(folder: str) -> Encode:
    library = peer("sentence_transformers")
    model = library.SentenceTransformer(folder, device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _pipeline(folder: str) -> Encode:
    library = peer("transformers")
    pipe = library.pipeline("feature-extraction", model=folder, tokenizer=folder, device="cpu")
    return lambda texts: [states.mean(1) for states in pipe(texts, batch_size=32, return_tensors=True)]


PEERS: dict[str, Callable[[str], Encode]] = {
    "sentence-transformers": _sentence_transformers,
    "pipeline": _pipeline,
}
