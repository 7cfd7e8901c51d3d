"""Tasks that read alike and others that do not, a predictor for them, and what it says: to compare answers with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.model.task_modules.base import ModulePlan
from mtbert.server.connections import Hurried
from mtbert.server.run import taken
from mtbert.serving.predictor import Predictor
from tests.support.tiny_models import make_model, shaken, tiny_tokenizer

MOOD = Classification(name="mood", text="text", label="mood", classes=["low", "mid", "high"])
TONE = Classification(name="tone", text="text", label="tone", classes=2, pooling="cls", head="one_logit")
HEAT = Regression(name="heat", text="text", label="heat", range=(0, 10))


def predictor(plans: Sequence[ModulePlan], tasks: Sequence[Task], seed: int = 0) -> Predictor:
    return Predictor(shaken(make_model(plans, tasks), seed), tiny_tokenizer())


def due(model: Predictor, task: str, text: Any) -> dict[str, Any]:
    """What the model itself says of one text or pair, as the server says it."""
    (prediction,) = model.predict(task, [text])
    if model.task(task).scored:
        return {"prediction": pytest.approx(prediction, abs=1e-4)}
    (shares,) = model.probabilities(task, [text])
    return {"prediction": prediction, "probabilities": {name: pytest.approx(p, abs=1e-4) for name, p in shares.items()}}


@contextmanager
def listening(app: FastAPI) -> Iterator[int]:
    """The port on which a server answers, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, http=Hurried, log_level="critical", lifespan="on"))
    with taken("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()
