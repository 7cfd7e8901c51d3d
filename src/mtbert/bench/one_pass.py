"""Several tasks that read the same texts, asked together and one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mtbert.data.kinds.classification import Classification
from mtbert.model.multitask import MultiTask
from mtbert.runs.build import Experiment
from mtbert.serving.predictor import Predictor


@dataclass(frozen=True)
class TogetherBench:
    """What `mtbert bench together` measured: texts a second that all tasks have answered, medians over rounds."""

    tasks: int
    one_pass: float
    passes: float  # as many as there are tasks
    ratio: float  # the median of the rounds'
    ratios: tuple[float, float]  # the least and the largest
    texts: int
    threads: int


def bench_together(experiment: Experiment, texts: Sequence[str], tasks: int, rounds: int) -> TogetherBench:
    """Let tasks of the recipe's encoder answer all texts, in turns in one pass and in a pass for each."""
    kinds = [Classification(name=f"task{one}", text=("text",), label="label", classes=5) for one in range(tasks)]
    model = Predictor(MultiTask(experiment.model.encoder, kinds), experiment.tokenizer)
    together, apart = [], []
    model.predict_all(texts[:256])  # warm up
    for _ in range(rounds):
        started = time.perf_counter()
        model.predict_all(texts)
        between = time.perf_counter()
        for task in model.tasks:
            model.predict(task, texts)
        together.append(between - started)
        apart.append(time.perf_counter() - between)
    ratios = [slow / fast for slow, fast in zip(apart, together, strict=True)]
    return TogetherBench(
        tasks,
        len(texts) / statistics.median(together),
        len(texts) / statistics.median(apart),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        len(texts),
        torch.get_num_threads(),
    )
