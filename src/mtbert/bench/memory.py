"""Memory and start of training on more pairs than anyone brings: made on the fly, trained in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import torch

import mtbert.demo
from mtbert.cost import peak_memory_gib
from mtbert.data.tables import read_table
from mtbert.errors import Mistake

CHUNK = 100_000  # pairs made and written at a time
DEV, BATCH = 64, 32


@dataclass(frozen=True)
class MemoryBench:
    """What `mtbert bench memory` measured; seconds are counted from the start of a process."""

    pairs: int
    file_gib: float
    tokenising_start_seconds: float  # until training begins, where the cache is empty
    tokenising_peak_gib: float
    start_seconds: float  # until training begins, tokens from the cache
    first_step_seconds: float  # until the first step has been taken
    peak_gib: float  # resident memory, over reading, all steps, the evaluation and the saves
    steps: int
    batch_size: int
    threads: int


class Apart(NamedTuple):
    """A process that trained: seconds until training began and until its first step was taken, and its peak."""

    start: float
    first_step: float
    peak_gib: float


def bench_memory(pairs: int, steps: int, encoder: str) -> MemoryBench:
    """Train `steps` steps on so many pairs, first with an empty cache and then with a full one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pairs(folder / "train.parquet", pairs, seed=1)
        write_pairs(folder / "dev.parquet", DEV, seed=2)
        cold = _train_apart(_recipe(encoder, folder, 1), folder)
        warm = _train_apart(_recipe(encoder, folder, steps), folder)
        size = (folder / "train.parquet").stat().st_size / 2**30
    return MemoryBench(
        pairs,
        size,
        cold.start,
        cold.peak_gib,
        warm.start,
        warm.first_step,
        warm.peak_gib,
        steps,
        BATCH,
        torch.get_num_threads(),
    )


def write_pairs(path: Path, pairs: int, seed: int) -> None:
    """Pairs of 4 to 20 words of the demo's, and whether they are the same: drawn, a chunk at a time."""
    rows = read_table(mtbert.demo.RECIPE.parent / "paraphrase-train.tsv").columns.column("question1").to_pylist()
    words = pa.array(sorted({word for text in rows for word in text.split()}))
    generator = np.random.default_rng(seed)
    schema = pa.schema({"first": pa.string(), "second": pa.string(), "same": pa.int64()})
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, pairs, CHUNK):
            count = min(CHUNK, pairs - start)
            texts = [_texts(words, count, generator) for _ in range(2)]
            writer.write_table(pa.table([*texts, generator.integers(0, 2, count)], schema=schema))


def _texts(words: pa.Array, count: int, generator: np.random.Generator) -> pa.Array:
    ends = np.cumsum(generator.integers(4, 21, count))
    drawn = words.take(pa.array(generator.integers(0, len(words), ends[-1])))
    return pa.compute.binary_join(pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), drawn), " ")


def _recipe(encoder: str, folder: Path, steps: int) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "data": str(folder),
        "tasks": {
            "pairs": {
                "kind": "classification",
                "text": ["first", "second"],
                "label": "same",
                "classes": 2,
                "train": "train.parquet",
                "dev": "dev.parquet",
            }
        },
        "stages": [{"steps": steps, "batch_size": BATCH}],
    }


def _train_apart(recipe: Mapping[str, Any], folder: Path) -> Apart:
    """Train in a fresh process, as `mtbert train` would."""
    command = [sys.executable, "-m", "mtbert.bench.memory", json.dumps(recipe), str(folder / "run")]
    cache = os.environ | {"MTBERT_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cache) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun = time.perf_counter() - started
        process.stdout.readline()
        first_step = time.perf_counter() - started
        peak = process.stdout.readline()
    if process.returncode:
        raise Mistake(f"the training apart failed (exit code {process.returncode}); what it said stands above")
    return Apart(begun, first_step, float(peak))


def _main() -> None:
    """The process apart: a line when training begins, one after its first step, and the peak in GiB at the end."""
    from mtbert.process import reuse_freed_memory
    from mtbert.runs.listener import Listener
    from mtbert.runs.train import train
    from mtbert.training.trainer import Record

    reuse_freed_memory()

    class Watch(Listener):
        def begin(self, stage: int, steps: int, done: int) -> None:
            print("begun", flush=True)

        def step(self, record: Record) -> None:
            if record.step == 1:
                print("first step", flush=True)

    train(json.loads(sys.argv[1]), out=sys.argv[2], overwrite=True, listener=Watch())
    print(peak_memory_gib())


if __name__ == "__main__":
    _main()
