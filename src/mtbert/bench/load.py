"""A server under load, beside the same texts through `predict`: nothing lost, nothing mixed up, how fast, how large."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mtbert.bench.clients import Answered, answer_length, ask_all, misbehave, request, status_of
from mtbert.cost import seconds
from mtbert.errors import Mistake
from mtbert.runs.data import read_splits
from mtbert.runs.folder import Run
from mtbert.serving.predictor import Predictor

CLOSE = 1e-4  # how far a score or a probability may lie from what `predict` says, as texts are padded otherwise
LONG_EVERY, LONG_TEXTS = 100, 20  # of so many texts one is as long as so many
LONELY = 200  # requests whose latency is measured

Said = dict[str, Any]


class Question(NamedTuple):
    """A text or a pair, and the task that is asked of it."""

    task: str
    text: Any


@dataclass(frozen=True)
class ServeBench:
    """What `mtbert bench serve` measured; rates are texts a second, times seconds, memory resident."""

    requests: int
    clients: int
    threads: int
    lost: int
    mixed_up: int  # answers that are not what `predict` says of the same text
    distinct: int  # answers that no other text of the same task was due, so that a mix-up would show
    statuses: str
    misbehaved: str
    rate: float
    predict_rate: float
    ratio: float
    latency: tuple[float, float, float]  # median, 95 and 99 of a hundred
    server_cpu: float
    clients_cpu: float
    memory_gib: tuple[float, ...]  # before, after each quarter of the requests
    lonely: float  # the latency of a request when there is no other, median
    direct: float  # of a call of `predict` in a process, median
    lonely_ratio: float


def questions_of(run: Path, count: int, data: Path | None = None) -> list[Question]:
    """So many texts or pairs of the run's training rows, its tasks mixed evenly; one of LONG_EVERY is long."""
    recipe = Run.open(run).recipe(data)
    rows = read_splits(recipe, list(recipe.tasks), ["train"])["train"]
    chance = np.random.default_rng(1)
    texts = {name: [column.to_pylist() for column in some.texts] for name, some in rows.items()}
    orders = {name: chance.permutation(len(some)) for name, some in rows.items()}

    def text(task: str, number: int, column: Sequence[str]) -> str:
        several = LONG_TEXTS if number % LONG_EVERY == 0 else 1
        order = orders[task]
        return " ".join(column[order[(number + more) % len(order)]] for more in range(several))

    questions = []
    for number, place in enumerate(chance.integers(len(texts), size=count)):
        task = list(texts)[place]
        parts = [text(task, number, column) for column in texts[task]]
        questions.append(Question(task, parts if len(parts) > 1 else parts[0]))
    return questions


def bench_serve(
    run: Path, requests: int, clients: int, data: Path | None = None, mischief: int | None = None
) -> ServeBench:
    """Ask a server of the run so many questions from so many clients at once, while others misbehave.

    Half of the texts go through `predict` before and half after it, each task's at once. Raises Mistake where the
    server does not begin.
    """
    predictor, questions = Predictor.load(run), questions_of(run, requests, data)
    wire = [request(json.dumps({"text": one.text, "task": one.task}).encode()) for one in questions]
    before = _predicted(predictor, questions[::2])
    memory: list[float] = []
    with served(run) as (process, port):
        asyncio.run(ask_all(wire[:64], port, 8))  # warm up

        def note(number: int) -> None:
            if number % -(-requests // 4) == 0:
                memory.append(_memory_gib(process.pid))

        server_before, clients_before = _cpu_seconds(process.pid), time.process_time()
        answered, misbehaved = asyncio.run(
            _all_at_once(wire, port, clients, note, requests // 100 if mischief is None else mischief)
        )
        server_cpu, clients_cpu = _cpu_seconds(process.pid) - server_before, time.process_time() - clients_before
        memory.append(_memory_gib(process.pid))
        lonely, direct = _lonely(predictor, questions, wire, port)
    after = _predicted(predictor, questions[1::2])
    due: list[Said] = [{} for _ in questions]
    due[::2], due[1::2] = before.said, after.said
    rate, predict_rate = requests / answered.seconds, requests / (before.seconds + after.seconds)
    return ServeBench(
        requests,
        clients,
        torch.get_num_threads(),
        lost=answered.bodies.count(None),
        mixed_up=sum(
            not agrees(question.task, body, said)
            for question, body, said in zip(questions, answered.bodies, due, strict=True)
            if body is not None
        ),
        distinct=len({(question.task, str(said)) for question, said in zip(questions, due, strict=True)}),
        statuses=_counts(answered.statuses),
        misbehaved="; ".join(f"{name}: {_counts(said)}" for name, said in misbehaved.items()),
        rate=rate,
        predict_rate=predict_rate,
        ratio=rate / predict_rate,
        latency=_percentiles(answered.latencies),
        server_cpu=server_cpu,
        clients_cpu=clients_cpu,
        memory_gib=tuple(memory),
        lonely=lonely,
        direct=direct,
        lonely_ratio=lonely / direct,
    )


def agrees(task: str, answer: bytes, due: Said) -> bool:
    """Whether an answer on the wire is what `predict` says: numbers within CLOSE, and the prediction where no other is
    as likely.
    """
    if status_of(answer) != 200:
        return False
    (said,) = json.loads(answer.partition(b"\r\n\r\n")[2])["answers"]
    found = said.get(task, {})
    if list(said) != [task] or found.keys() != due.keys():
        return False
    if "probabilities" not in due:
        ours, theirs = found["prediction"], due["prediction"]
        if isinstance(theirs, float):
            return bool(abs(ours - theirs) <= CLOSE * max(1, abs(theirs)))
        return bool(ours == theirs)
    ours, theirs = found["probabilities"], due["probabilities"]
    close = ours.keys() == theirs.keys() and all(abs(ours[name] - theirs[name]) <= CLOSE for name in ours)
    ranked = sorted(theirs.values())
    return close and (found["prediction"] == due["prediction"] or ranked[-1] - ranked[-2] <= 2 * CLOSE)


@contextmanager
def served(run: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that serves a run, and its port; raises Mistake where it does not begin."""
    arguments = [sys.executable, "-m", "mtbert", "serve", str(run), "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "MTBERT_TOKEN"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if "http://" not in line:
                raise Mistake(f"the server did not begin: {line.strip()}")
            yield process, int(line.rstrip().rstrip("/").rpartition(":")[2])
        finally:
            process.terminate()


async def _all_at_once(
    wire: Sequence[bytes], port: int, clients: int, note: Any, mischief: int
) -> tuple[Answered, Mapping[str, Counter[str]]]:
    answered, misbehaved = await asyncio.gather(
        ask_all(wire, port, clients, note), misbehave(wire[: len(wire) // 10], port, mischief)
    )
    return answered, misbehaved


class _Predicted(NamedTuple):
    said: list[Said]  # in the order of the questions
    seconds: float


def _predicted(predictor: Predictor, questions: Sequence[Question]) -> _Predicted:
    """What the model says of each text, and the seconds that it takes when each task has all of its texts at once."""
    due: list[Said] = [{} for _ in questions]

    def all_tasks() -> None:
        for task in predictor.tasks:
            places = [place for place, one in enumerate(questions) if one.task == task]
            outputs = predictor.outputs(task, [questions[place].text for place in places])
            for place, said in zip(places, predictor.said(task, outputs), strict=True):
                due[place] = said

    return _Predicted(due, seconds(all_tasks))


def _lonely(
    predictor: Predictor, questions: Sequence[Question], wire: Sequence[bytes], port: int
) -> tuple[float, float]:
    """The median seconds of a request when there is no other, and of a call in this process, in turns."""
    asked, called = [], []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for (task, text), request_bytes in zip(questions[:LONELY], wire, strict=False):
            started = time.perf_counter()
            connection.sendall(request_bytes)
            answer = _whole_answer(connection)
            asked.append(time.perf_counter() - started)
            assert status_of(answer) == 200
            started = time.perf_counter()
            predictor.said(task, predictor.outputs(task, [text]))
            called.append(time.perf_counter() - started)
    return statistics.median(asked), statistics.median(called)


def _whole_answer(connection: socket.socket) -> bytes:
    answer = bytearray()
    while (length := answer_length(answer)) is None:
        part = connection.recv(1 << 16)
        if not part:
            raise Mistake("the server has closed the connection of a lonely client")
        answer += part
    return bytes(answer[:length])


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    half, most, nearly_all = np.percentile(values, [50, 95, 99]).tolist()
    return half, most, nearly_all


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items(), key=str))


def _memory_gib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**30


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
