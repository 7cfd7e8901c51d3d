"""A server under way: models loaded, a port taken, and a shutdown that finishes what was begun."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import uvicorn

from mtbert.errors import Mistake
from mtbert.process import keep_for_good
from mtbert.server.app import Limits, make_app
from mtbert.server.connections import Hurried
from mtbert.serving.predictor import Predictor

BACKLOG = 2048  # connections that wait to be taken


def serve(
    runs: Sequence[Path], host: str, port: int, token: str | None, limits: Limits, told: Callable[[str], None]
) -> None:
    """Answer until a signal ends it, having told the address; raises Mistake for a run without a kept model and a port
    that is taken.
    """
    names = [run.resolve().name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise Mistake(f"two runs are named '{name}', and requests name models by their folders; copy one elsewhere")
    with taken(host, port) as listener:
        models = {name: Predictor.load(run) for name, run in zip(names, runs, strict=True)}
        keep_for_good()
        app = make_app(models, limits, token, torch.get_num_threads())
        told(f"http://{host}:{listener.getsockname()[1]}/")
        # uvicorn's own log would hold addresses of clients; what goes wrong is counted in /metrics
        config = uvicorn.Config(
            app, http=Hurried, log_level="critical", access_log=False, backlog=BACKLOG, lifespan="on"
        )
        uvicorn.Server(config).run(sockets=[listener])


def taken(host: str, port: int) -> socket.socket:
    """A socket that listens on a port, 0 for any that is free; raises Mistake where it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Mistake(
            f"port {port} of {host} cannot be taken: {error.strerror or error}; name another with --port"
        ) from None
