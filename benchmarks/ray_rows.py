"""Rows through `mtbert predict --engine ray`, a worker killed once, beside `mtbert predict`: same rows, and the memory.

python benchmarks/ray_rows.py --rows 20000 --rows 200000
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

import mtbert

TASKS = {"mood": ["low", "mid", "high"], "topic": ["art", "food"]}
FILES = 8  # in the folder


class Taken(NamedTuple):
    """What a command took."""

    seconds: float
    peak: float  # GiB of it and all that it started, shared pages counted once
    killed: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, action="append", required=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        train(place)
        for rows in arguments.parse_args().rows:
            folder = place / f"rows-{rows}"
            write_rows(folder, rows)
            here = predict(place, folder, place / "here.parquet", [], kill=False)
            spread = predict(place, folder, place / "ray.parquet", ["--engine", "ray"], kill=True)
            same = pq.read_table(place / "here.parquet").equals(pq.read_table(place / "ray.parquet"))
            print(f"{rows:,} rows: same rows and values: {same}; workers killed: {spread.killed}")
            for side, taken in {"predict": here, "predict --engine ray": spread}.items():
                print(f"  {side:<22} {taken.seconds:.1f} s, peak {taken.peak:.2f} GiB")


def texts(rows: int) -> list[str]:
    words = ["good", "bad", "film", "plot", "warm", "cold", "slow", "quick", "bright", "dull", "tea", "river", "stone"]
    generator = np.random.default_rng(1)
    return [" ".join(generator.choice(words, length)) for length in generator.integers(3, 20, rows)]


def train(place: Path) -> None:
    """A run with a tiny encoder, which answers as it happens to."""
    given = texts(64)
    tables = {
        task: pa.table({"text": given, "label": [classes[row % len(classes)] for row in range(len(given))]})
        for task, classes in TASKS.items()
    }
    tasks = {
        task: {"kind": "classification", "text": "text", "label": "label", "classes": classes}
        | {"train": tables[task], "dev": tables[task]}
        for task, classes in TASKS.items()
    }
    encoder = {"name": "random", "layers": 2, "width": 32, "heads": 2, "inner": 64}
    stages = [{"steps": 4, "batch_size": 8}]
    mtbert.train({"encoder": encoder, "tasks": tasks, "stages": stages}, out=place / "run")


def write_rows(folder: Path, rows: int) -> None:
    folder.mkdir()
    table = pa.table({"id": [f"r{row}" for row in range(rows)], "text": texts(rows)})
    for number, start in enumerate(range(0, rows, rows // FILES)):
        pq.write_table(table.slice(start, rows // FILES), folder / f"part-{number:03}.parquet")


def predict(place: Path, folder: Path, out: Path, more: list[str], kill: bool) -> Taken:
    """Run the command, and kill one of Ray's workers while it answers."""
    command = [sys.executable, "-m", "mtbert", "predict", place / "run", "--input", folder, "--output", out, *more]
    began, peak, killed = time.monotonic(), 0, 0
    process = psutil.Popen([str(one) for one in command], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        family = [process, *process.children(recursive=True)]
        peak = max(peak, sum(map(memory_of, family)))
        answering = [one for one in family if title_of(one).startswith("ray::Worker.answer")]
        if kill and answering and not killed:
            os.kill(answering[0].pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"the command failed: {process.returncode}")
    return Taken(time.monotonic() - began, peak / 2**30, killed)


def memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def title_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    main()
