"""The server: what it can be asked, by whom, how much at a time, and what it answers."""

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtbert.data.formats.base import whole_text
from mtbert.data.kinds.base import Task
from mtbert.data.kinds.regression import Regression
from mtbert.server.queue import Busy, Worker
from mtbert.serving.predictor import Predictor

FAILED = "the server failed"
OPEN = ("/", "/health")  # what needs no token
PAGE_POLICY = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'"


_type: Any = create_model  # fields and classes are known once a run is there, which no type checker sees


@dataclass(frozen=True)
class Limits:
    """How much is taken at a time, and how long it may take."""

    body: int = 1 << 20  # bytes of a request
    texts: int = 256  # of a request
    letters: int = 20_000  # of a text
    waiting: int = 4096  # texts of all requests together
    seconds: float = 30.0  # until a request is there, and then until its answer


def make_app(models: Mapping[str, Predictor], limits: Limits, token: str | None = None, threads: int = 1) -> FastAPI:
    """The server of some models by name, of which the first one answers where a request names none."""
    worker = Worker(dict(models), limits.waiting, threads)
    asked, began = Counter[str](), time.time()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, worker.close)

    app = FastAPI(title="mtbert", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.worker = worker
    app.add_middleware(Guard, limits=limits, token=token, asked=asked)
    question: Any = _question(models, limits)
    answers = _answers(models)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> JSONResponse:
        # what was sent is not said again: texts stay out of logs, also of those who log answers
        wrong = [{"where": ".".join(map(str, one["loc"])), "what": one["msg"]} for one in error.errors()]
        if not _says_json(request):
            wrong = [{"where": "header", "what": "send JSON, and say so: content-type: application/json"}]
        return JSONResponse({"detail": wrong}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": FAILED}, 500)

    # annotations are types here, not texts (no `from __future__ import annotations`), as this one is made just above
    @app.post("/predict", response_model=answers, response_model_exclude_none=True)
    async def predict(asking: question) -> Any:
        """What tasks say of texts: one text or many, one task or all that read such texts."""
        name, tasks, texts = _read(models, asking)
        try:
            answer = worker.ask(name, tasks, texts)
        except Busy:
            raise _later("too many texts wait") from None
        try:
            return {"answers": await asyncio.wait_for(answer, limits.seconds)}
        except TimeoutError:
            raise _later(f"no answer within {limits.seconds:g} seconds") from None
        except Exception:  # whatever the model made of it
            raise HTTPException(500, FAILED) from None

    @app.get("/tasks")
    async def tasks() -> dict[str, Any]:
        """Every model's tasks: what they read, and what they say."""
        return {name: {task: _described(model.task(task)) for task in model.tasks} for name, model in models.items()}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether it answers, and how many texts wait."""
        return {"status": "ok", "waiting": worker.waiting}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Counts since the start, as Prometheus reads them."""
        lines = [f'mtbert_requests_total{{status="{status}"}} {count}' for status, count in sorted(asked.items())]
        lines += [f"mtbert_texts_total {worker.answered}", f"mtbert_batches_total {worker.batches}"]
        lines += [f"mtbert_texts_waiting {worker.waiting}", f"mtbert_up_seconds {time.time() - began:.0f}"]
        return "\n".join(lines) + "\n"

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        """A page on which a person can try the tasks."""
        content = (files("mtbert.server") / "page.html").read_text(encoding="utf-8")
        return HTMLResponse(content, headers={"Content-Security-Policy": PAGE_POLICY})

    return app


class Guard:
    """Refuses what has no token, is too large or too slow before anything reads it, and counts what came of all."""

    def __init__(self, app: ASGIApp, limits: Limits, token: str | None, asked: Counter[str]) -> None:
        self.app, self.limits, self.asked = app, limits, asked
        self.token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.asked[str(message["status"])] += 1
            await send(message)

        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"")
        if self.token is not None and scope["path"] not in OPEN and not hmac.compare_digest(given, self.token):
            said = JSONResponse({"detail": "this server wants its token"}, 401, {"WWW-Authenticate": "Bearer"})
            await said(scope, receive, counted)
            return
        try:
            body = await asyncio.wait_for(self._body(headers, receive), self.limits.seconds)
        except TimeoutError:
            limit = f"a request has to be there within {self.limits.seconds:g} seconds"
            await JSONResponse({"detail": limit}, 408, {"Connection": "close"})(scope, receive, counted)
            return
        if body is None:
            limit = f"a request holds at most {self.limits.body:,} bytes"
            await JSONResponse({"detail": limit}, 413, {"Connection": "close"})(scope, receive, counted)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return unread.pop() if unread else await receive()

        await self.app(scope, again, counted)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """What was sent, or None where it is too much."""
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self.limits.body:
            return None
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break  # the client has hung up
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self.limits.body:
                return None
        return b"".join(parts)


def _question(models: Mapping[str, Predictor], limits: Limits) -> Any:
    """What a request to predict may hold, as a type: the names of models and tasks stand in it."""
    text: Any = Annotated[str, Field(max_length=limits.letters)]
    pair: Any = Annotated[list[text], Field(min_length=2, max_length=2)]
    names: Any = Literal[tuple(dict.fromkeys(task for model in models.values() for task in model.tasks))]
    several: Any = Annotated[list[text | pair], Field(min_length=1, max_length=limits.texts)]
    return _type(
        "Question",
        __config__=ConfigDict(extra="forbid"),
        text=(text | pair | None, Field(None, description="one text, or a pair of texts")),
        texts=(several | None, Field(None, description="many: all texts, or all pairs")),
        task=(names | None, Field(None, description="the task to ask; all that read such texts by default")),
        tasks=(list[names] | None, Field(None, description="several of them")),
        model=(Literal[tuple(models)], Field(next(iter(models)), description="which of the server's models")),
    )


def _answers(models: Mapping[str, Predictor]) -> Any:
    """What a request is answered with, as a type: classes and ranges stand in it."""
    said: dict[str, Any] = {}
    for model in models.values():
        for name in model.tasks:
            one = _said(model, name, several=len(models) > 1)
            # by an alias, as a task may be called like a method of pydantic's
            said[name] = (one | None, Field(None, alias=name))
    answer: Any = _type("Answer", **{f"task_{number}": field for number, field in enumerate(said.values())})
    return _type("Answers", answers=(list[answer], ...))


def _said(model: Predictor, name: str, several: bool) -> Any:
    """What a task says of a text, as a type; of several models tasks of the same name may differ."""
    task = model.task(name)
    fields: dict[str, Any] = {"prediction": (Any, ...)}
    if not several and isinstance(task, Regression):
        low, high = task.range
        fields["prediction"] = (Annotated[float, Field(ge=low, le=high)], ...)
    elif not several and task.exclusive:
        fields["prediction"] = (Literal[model.may_say(name)], ...)
    if task.class_names:
        share = Annotated[float, Field(ge=0, le=1)]
        fields["probabilities"] = (dict[str, share], Field(..., description=", ".join(task.class_names[:50])))
    return _type(f"Said_by_{task.name}", __base__=BaseModel, **fields)


def _read(models: Mapping[str, Predictor], asking: Any) -> tuple[str, list[str], list[Any]]:
    """Model, tasks and texts that are asked for; raises HTTPException 422 where they do not go together."""
    if (asking.text is None) == (asking.texts is None):
        raise HTTPException(422, "give `text` or `texts`")
    if asking.task is not None and asking.tasks is not None:
        raise HTTPException(422, "give `task` or `tasks`, not both")
    texts = [asking.text] if asking.texts is None else asking.texts
    pairs = not isinstance(texts[0], str)
    if any(isinstance(text, str) == pairs for text in texts):
        raise HTTPException(422, "give texts alone, or pairs alone")
    model = models[asking.model]
    named = [asking.task] if asking.task is not None else asking.tasks
    if named is None:
        named = [name for name in model.tasks if len(model.task(name).text) == 1 + pairs]
        if not named:
            raise HTTPException(422, f"no task reads {'pairs' if pairs else 'single texts'}")
    for name in named:
        if name not in model.tasks:
            raise HTTPException(422, f"model '{asking.model}' has no task '{name}' ({', '.join(model.tasks)})")
        if len(model.task(name).text) != 1 + pairs:
            due = "single texts, not pairs" if pairs else "pairs, not single texts"
            raise HTTPException(422, f"task '{name}' reads {due}")
    # half characters, which no UTF-8 holds, are replaced as in files
    return asking.model, list(dict.fromkeys(named)), [_whole(text) for text in texts]


def _whole(text: Any) -> Any:
    return whole_text(text) if isinstance(text, str) else [whole_text(part) for part in text]


def _described(task: Task) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": task.kind, "reads": list(task.text), "says": task.meaning}
    if task.class_names:
        described["classes"] = list(task.class_names)
    if isinstance(task, Regression):
        described["range"] = list(task.range)
    return described


def _says_json(request: Request) -> bool:
    """Whether a request is said to hold JSON. A page of another site cannot say so without asking, and is not read."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return said == "application/json" or (said.startswith("application/") and said.endswith("+json"))


def _later(why: str) -> HTTPException:
    return HTTPException(503, f"{why}; try again", {"Retry-After": "1"})
