"""Connections that say nothing, or too much before a request is there, are closed; the others are not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from itertools import chain

import pytest

from mtbert.bench.clients import request
from mtbert.server.app import Limits, make_app
from mtbert.server.connections import HEAD, Hurried
from tests.support.served import MOOD, listening, predictor

SOON = 0.4  # seconds, in place of half a minute
LATE = 20  # by then whatever happens has happened


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hurried, "seconds", SOON)
        with listening(make_app({"run": predictor([], [MOOD])}, Limits(seconds=SOON))) as number:
            yield number


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LATE)


def send_all(connection: socket.socket, pieces: Iterable[bytes], pause: float = 0) -> None:
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(pause)


@pytest.mark.parametrize("sent", [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: here\r\n"])
def test_a_request_that_does_not_come_is_not_waited_for(port: int, sent: bytes) -> None:
    with connected(port) as silent:
        silent.sendall(sent)
        assert silent.recv(100) == b""


def test_nor_one_that_comes_a_byte_at_a_time_also_after_one_that_was_answered(port: int) -> None:
    with connected(port) as slow:
        slow.sendall(request(b'{"text": "good film"}'))
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_all(slow, (bytes([byte]) for byte in request(b"{}") * 100), pause=0.02)


def test_a_body_that_does_not_come_is_408(port: int) -> None:
    with connected(port) as slow:
        slow.sendall(request(b'{"text": "good film"}')[:-5])
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def test_headers_without_an_end_are_not_read(port: int) -> None:
    headers = (b"X-%d: " % number + b"y" * 1000 + b"\r\n" for number in range(HEAD))
    with connected(port) as flood, pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_all(flood, chain([b"GET / HTTP/1.1\r\n"], headers))


def test_a_connection_that_asks_now_and_then_stays(port: int) -> None:
    with connected(port) as patient:
        for _ in range(4):
            time.sleep(SOON / 2)
            patient.sendall(request(b'{"text": "good film"}'))
            assert patient.recv(1000).startswith(b"HTTP/1.1 200")


def test_who_closes_its_half_after_a_request_gets_the_answer_and_no_one_else_is_kept(port: int) -> None:
    sound = request(b'{"text": "good film"}')
    with connected(port) as done:
        done.sendall(sound)
        done.shutdown(socket.SHUT_WR)
        assert done.recv(1000).startswith(b"HTTP/1.1 200")
    for sent in (b"", sound[:20], sound[:-5]):
        began = time.monotonic()
        with connected(port) as gone:
            gone.sendall(sent)
            gone.shutdown(socket.SHUT_WR)
            assert gone.recv(1000) == b""
        assert time.monotonic() - began < SOON
