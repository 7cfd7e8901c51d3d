"""The server: every answer is the right one's, whoever asks at the same time and whatever else is sent."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import mtbert
from mtbert.errors import Mistake
from mtbert.scoring.decisions import NOT_SURE, Decision
from mtbert.server import extra
from mtbert.server.app import Limits, make_app
from mtbert.server.queue import Answer, Worker
from mtbert.server.run import serve, taken
from mtbert.serving.predictor import Predictor
from tests.support.served import HEAT, MOOD, TONE, due
from tests.support.served import predictor as predictor_of
from tests.support.small import recipe_over, write_small_data
from tests.support.tiny_models import NEAR, SAME, plan
from tests.test_documents import shown_commands

TASKS = [MOOD, TONE, HEAT, SAME, NEAR]
SMALL = Limits(body=2_000, texts=5, letters=100, waiting=40, seconds=30)


def model(seed: int = 0) -> Predictor:
    return predictor_of([plan("lora", tasks=["heat"])], TASKS, seed)


def asking(
    talk: Callable[[httpx.AsyncClient, Any], Awaitable[None]],
    limits: Limits = SMALL,
    token: str | None = None,
    **models: Predictor,
) -> None:
    """Talk to a server that ends afterwards."""
    app = make_app(models or {"run": model()}, limits, token)

    async def run() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            await talk(client, app)

    try:
        asyncio.run(run())
    finally:
        app.state.worker.close()


# ---- answers


def test_one_text_is_answered_by_all_tasks_that_read_one_and_many_by_the_one_named() -> None:
    predictor = model()

    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        (answer,) = (await client.post("/predict", json={"text": "good film"})).json()["answers"]
        assert answer == {task: due(predictor, task, "good film") for task in ("mood", "tone", "heat")}
        pairs = [["good", "film"], ["the film", "a good film"]]
        answers = (await client.post("/predict", json={"texts": pairs, "task": "near"})).json()["answers"]
        assert answers == [{"near": due(predictor, "near", tuple(pair))} for pair in pairs]
        (answer,) = (await client.post("/predict", json={"text": pairs[0], "tasks": ["same"]})).json()["answers"]
        assert answer == {"same": due(predictor, "same", tuple(pairs[0]))}

    asking(talk, run=predictor)


def test_many_at_once_each_get_their_own_answer_in_few_passes() -> None:
    predictor, other = model(), model(seed=5)
    chance = random.Random(3)
    questions: list[dict[str, Any]] = []
    for _ in range(300):
        text = " ".join(chance.choices(["good", "bad", "film", "the", "1999"], k=chance.randint(0, 17)))
        task = chance.choice(["mood", "tone", "heat", "same", "near"])
        asked = [text, text + " film"] if task in ("same", "near") else text
        questions.append({"text": asked, "task": task, "model": chance.choice(["run", "other"])})

    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        async def ask(question: dict[str, Any]) -> Any:
            if chance.random() < 0.1:  # in between what is no question
                assert (await client.post("/predict", content=b"\xff{")).status_code == 422
            return (await client.post("/predict", json=question)).json()["answers"][0]

        answers = await asyncio.gather(*map(ask, questions))
        assert app.state.worker.answered == 300
        assert app.state.worker.batches < 100
        assert app.state.worker.waiting == 0
        for question, answer in zip(questions, answers, strict=True):
            text = question["text"]
            asked = tuple(text) if isinstance(text, list) else text
            named = {"run": predictor, "other": other}[question["model"]]
            assert answer == {question["task"]: due(named, question["task"], asked)}

    asking(talk, Limits(waiting=10_000), run=predictor, other=other)


def test_whoever_hangs_up_costs_the_others_nothing() -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        async def ask(number: int) -> Any:
            return await client.post("/predict", json={"text": f"film {number}"})

        waiting = [asyncio.create_task(ask(number)) for number in range(20)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [one.status_code for one in found[1::2]] == [200] * 10
        assert app.state.worker.waiting == 0

    asking(talk)


# ---- refusals


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "give `text` or `texts`"),
        ({"text": "a", "texts": ["a"]}, "give `text` or `texts`"),
        ({"texts": []}, "at least 1 item"),
        ({"texts": ["a"] * 6}, "at most 5 items"),
        ({"text": "a" * 101}, "at most 100 characters"),
        ({"text": "a", "task": "mod"}, "'mood', 'tone', 'heat', 'same' or 'near'"),
        ({"text": "a", "model": "x"}, "Input should be 'run'"),
        ({"text": ["a", "b"], "task": "mood"}, "task 'mood' reads single texts, not pairs"),
        ({"text": "a", "task": "near"}, "task 'near' reads pairs, not single texts"),
        ({"texts": ["a", ["b", "c"]]}, "texts alone, or pairs alone"),
        ({"text": ["a"]}, "at least 2 items"),
        ({"text": "a", "task": "mood", "tasks": ["mood"]}, "not both"),
        ({"text": "a", "txt": "b"}, "Extra inputs are not permitted"),
        ([], "valid dictionary"),
        ({"text": None}, "give `text` or `texts`"),
        ({"text": 7}, "valid string"),
    ],
)
def test_what_cannot_be_answered_is_422_and_says_why_without_the_text(body: Any, said: str) -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        answer = await client.post("/predict", json=body)
        assert answer.status_code == 422
        assert said in json.dumps(answer.json(), ensure_ascii=False)
        assert "aaaa" not in answer.text

    asking(talk)


@pytest.mark.parametrize("said", [None, "application/x-www-form-urlencoded", "text/plain; charset=utf-8"])
def test_json_that_is_not_said_to_be_json_is_refused_with_the_header_to_send(said: str | None) -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        headers = {} if said is None else {"content-type": said}
        answer = await client.post("/predict", content=b'{"text": "a"}', headers=headers)
        assert answer.status_code == 422
        (wrong,) = answer.json()["detail"]
        assert "content-type: application/json" in wrong["what"]
        right = {"content-type": "Application/JSON; charset=utf-8"}
        assert (await client.post("/predict", content=b'{"text": "a"}', headers=right)).status_code == 200

    asking(talk)


def test_a_body_that_is_too_large_is_413_whatever_it_says_of_its_length() -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b"x" * 100

    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        assert (await client.post("/predict", content=b"x" * 2_001)).status_code == 413
        assert (await client.post("/predict", content=pieces())).status_code == 413
        assert (await client.post("/predict", content=b"no json")).status_code == 422

    asking(talk)


def test_too_many_that_wait_are_asked_to_come_again_and_late_answers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(client: httpx.AsyncClient, app: Any) -> None:
        answers = await asyncio.gather(*(client.post("/predict", json={"texts": ["a"] * 5}) for _ in range(60)))
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 503}
        assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"1"}

    asking(full)

    async def late(client: httpx.AsyncClient, app: Any) -> None:
        assert (await client.post("/predict", json={"text": "a"})).status_code == 503

    answer = Predictor.answer

    def slow(self: Predictor, *given: Any) -> Any:
        time.sleep(0.5)
        return answer(self, *given)

    monkeypatch.setattr(Predictor, "answer", slow)
    asking(late, Limits(seconds=0.1))


def test_who_asks_and_ends_before_the_answer_takes_nothing_from_others() -> None:
    worker = Worker({"run": model()}, most=100, threads=1)

    async def leave() -> None:
        for _ in range(20):  # the loop ends with more to answer than the thread has come to
            worker.ask("run", ["mood"], ["a"])

    async def stay() -> list[Answer]:
        return await asyncio.wait_for(worker.ask("run", ["mood"], ["a"]), 30)

    asyncio.run(leave())
    try:
        assert [list(answer) for answer in asyncio.run(stay())] == [["mood"]]
    finally:
        worker.close()


def test_the_heap_is_trimmed_after_several_texts_and_once_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, trimmed = threading.Event(), list[bool]()
    monkeypatch.setattr("mtbert.server.queue.return_freed_memory", lambda: trimmed.append(answered.wait(30)))
    worker = Worker({"run": model()}, most=100, threads=1)

    async def ask() -> None:
        for texts in (["a"], ["a", "b"]):
            await asyncio.wait_for(worker.ask("run", ["mood"], texts), 10)

    try:
        asyncio.run(ask())
    finally:
        answered.set()
        worker.close()
    assert trimmed == [True]


def test_a_token_is_wanted_for_everything_but_the_page_and_its_health() -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        for path in ("/tasks", "/metrics", "/openapi.json"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"Authorization": "Bearer no"})).status_code == 401
            assert (await client.get(path, headers={"Authorization": "Bearer yes"})).status_code == 200
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/health")).json() == {"status": "ok", "waiting": 0}

    asking(talk, token="yes")


def test_a_failure_of_the_model_is_500_without_a_trace_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = model()
    monkeypatch.setattr(predictor.tokenizer, "encode", lambda texts: 1 / 0)

    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        answer = await client.post("/predict", json={"text": "a"})
        assert (answer.status_code, answer.json()) == (500, {"detail": "the server failed"})
        monkeypatch.undo()
        assert (await client.post("/predict", json={"text": "a"})).status_code == 200
        said = (await client.get("/metrics")).text
        assert 'mtbert_requests_total{status="500"} 1' in said
        assert "mtbert_texts_waiting 0" in said

    asking(talk, run=predictor)


# ---- what it says of itself


def test_classes_and_ranges_stand_in_the_schema() -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        schema = (await client.get("/openapi.json")).json()
        parts = schema["components"]["schemas"]
        assert parts["Said_by_mood"]["properties"]["prediction"]["enum"] == ["low", "mid", "high"]
        assert parts["Said_by_heat"]["properties"]["prediction"] | {"title": ""} == {
            "type": "number",
            "minimum": 0.0,
            "maximum": 10.0,
            "title": "",
        }
        assert "mood" in json.dumps(parts["Question"])
        said = (await client.get("/tasks")).json()["run"]
        assert said["mood"]["classes"] == ["low", "mid", "high"]
        assert said["near"] == {
            "kind": "regression",
            "reads": ["a", "b"],
            "says": said["near"]["says"],
            "range": [0, 5],
        }

    asking(talk)


def test_a_task_that_may_not_be_sure_says_so_and_its_schema_too() -> None:
    predictor = model()
    predictor.decisions["mood"] = Decision(sure_from=1.0)

    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        answer = await client.post("/predict", json={"text": "good film", "task": "mood"})
        assert answer.json()["answers"][0]["mood"]["prediction"] == NOT_SURE
        parts = (await client.get("/openapi.json")).json()["components"]["schemas"]
        assert parts["Said_by_mood"]["properties"]["prediction"]["enum"] == ["low", "mid", "high", NOT_SURE]
        assert parts["Said_by_tone"]["properties"]["prediction"]["enum"] == ["0", "1"]

    asking(talk, run=predictor)


def test_the_page_asks_nobody_else() -> None:
    async def talk(client: httpx.AsyncClient, app: Any) -> None:
        page = await client.get("/")
        assert "://" not in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]

    asking(talk)


# ---- a process


def test_a_port_that_is_taken_a_run_without_a_model_and_two_of_a_name_are_mistakes(tmp_path: Path) -> None:
    with (
        taken("127.0.0.1", 0) as busy,
        pytest.raises(Mistake, match=r"port \d+ of 127\.0\.0\.1 cannot be taken: .*--port"),
    ):
        serve([tmp_path], "127.0.0.1", busy.getsockname()[1], None, SMALL, print)
    with pytest.raises(Mistake, match="none"):
        serve([tmp_path / "none"], "127.0.0.1", 0, None, SMALL, print)
    with pytest.raises(Mistake, match="two runs are named 'a'"):
        serve([tmp_path / "a", tmp_path / "b" / ".." / "a"], "127.0.0.1", 0, None, SMALL, print)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mtbert.server.run", None)
    with pytest.raises(Mistake, match=r"pip install 'mtbert\[serve\]'"):
        extra.server_parts()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run."""
    folder = tmp_path_factory.mktemp("served")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 1, "evaluate_every": 1}
    mtbert.train(recipe, out=folder / "RUN")
    return folder / "RUN"


SHOWN = [text for _, text in shown_commands() if "mtbert serve RUN" in text]


@pytest.mark.long
@pytest.mark.parametrize("shown", SHOWN)
def test_what_is_shown_of_serving_begins_and_answers(shown: str, run: Path) -> None:
    copy = run.with_name("RUN2")
    if not copy.exists():
        shutil.copytree(run, copy)
    words = shlex.split(re.sub(r" --port \d+", "", shown).replace("mtbert", f"{sys.executable} -m mtbert"))
    given = dict(word.split("=") for word in words if word.startswith("MTBERT_TOKEN="))
    arguments = [*words[len(given) :], "--port", "0"]
    with subprocess.Popen(
        arguments, cwd=run.parent, stderr=subprocess.PIPE, text=True, env=os.environ | given
    ) as process:
        port = process.stderr.readline().rstrip().rstrip("/").rpartition(":")[2]
        token = {"Authorization": f"Bearer {given['MTBERT_TOKEN']}"} if given else {}
        for headers, status in (({"x": "y"}, 401 if given else 200), (token, 200)):
            asked = httpx.post(
                f"http://127.0.0.1:{port}/predict", json={"text": "good film"}, headers=headers, timeout=60
            )
            assert asked.status_code == status
        process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM


def test_a_signal_ends_it_once_what_was_taken_is_answered(run: Path) -> None:
    arguments = [sys.executable, "-m", "mtbert", "serve", str(run), "--port", "0"]
    environment = os.environ | {"MTBERT_TOKEN": "secret"}
    with (
        ExitStack() as until_the_end,
        subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process,
    ):
        address = process.stderr.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        client = until_the_end.enter_context(httpx.Client(headers={"Authorization": "Bearer secret"}))
        texts = {"texts": ["good film " * 50] * 256, "task": "mood"}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                assert client.get(address + "health").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        with socket.create_connection((address.split(":")[1][2:], int(address.split(":")[2][:-1]))) as raw:
            body = json.dumps(texts).encode()
            lines = [
                "POST /predict HTTP/1.1",
                "Host: x",
                "Content-Type: application/json",
                "Authorization: Bearer secret",
                f"Content-Length: {len(body)}",
            ]
            raw.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            while client.get(address + "health").json()["waiting"] == 0 and time.monotonic() < deadline:
                time.sleep(0.001)
            process.send_signal(signal.SIGTERM)
            raw.settimeout(60)
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "good" not in said
    assert process.returncode == -signal.SIGTERM
