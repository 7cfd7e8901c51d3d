"""Clients of a server, as cheap as Python has them: many that ask and wait, and some that do what nobody should."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

PATIENCE = 120.0  # seconds that an answer is waited for before it counts as lost
LONG = 1_000_000  # letters of a text that is much too long
BUSY = 503


@dataclass(frozen=True)
class Answered:
    """What came of requests, in the order of the requests; of one that was lost, nothing."""

    bodies: list[bytes | None]
    latencies: list[float]  # seconds from the first try to the answer
    statuses: Counter[int] = field(default_factory=Counter)  # of all tries
    seconds: float = 0.0


class Client(asyncio.Protocol):
    """Asks one request after the other on one connection, and again where the server asks for that."""

    def __init__(self, bodies: Sequence[bytes], turns: Iterator[int], answered: Answered) -> None:
        self.bodies, self.turns, self.answered = bodies, turns, answered
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._current = -1
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        length = answer_length(self._buffer)
        if length is None:
            return
        answer, self._buffer = bytes(self._buffer[:length]), self._buffer[length:]
        status = status_of(answer)
        self.answered.statuses[status] += 1
        if status == BUSY:
            asyncio.get_running_loop().call_later(1.0, self._ask)
            return
        self.answered.bodies[self._current] = answer
        self.answered.latencies[self._current] = time.perf_counter() - self._asked
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        self._current = next(self.turns, -1)
        if self._current < 0:
            self.transport.close()
            return
        self._asked = time.perf_counter()
        self._ask()

    def _ask(self) -> None:
        self.transport.write(self.bodies[self._current])


def request(body: bytes, host: str = "here") -> bytes:
    """A request to predict as bytes on the wire."""
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def status_of(answer: bytes) -> int:
    """The status of an answer on the wire."""
    return int(answer[9:12])


def answer_length(buffer: bytearray) -> int | None:
    """How long the answer at the beginning is; None where its end has not come."""
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return None
    start = buffer.lower().find(b"content-length:", 0, head)
    end = buffer.find(b"\r\n", start)
    length = head + 4 + int(buffer[start + 15 : end])
    return length if len(buffer) >= length else None


async def ask_all(
    requests: Sequence[bytes], port: int, clients: int, done: Callable[[int], None] = lambda done: None
) -> Answered:
    """The answers to all requests, which so many clients at once take in turn; of one that is lost, None."""
    answered = Answered([None] * len(requests), [0.0] * len(requests))

    def turns() -> Iterator[int]:
        for number in range(len(requests)):
            done(number)
            yield number

    loop, turn, started = asyncio.get_running_loop(), turns(), time.perf_counter()
    made = [loop.create_connection(lambda: Client(requests, turn, answered), "127.0.0.1", port) for _ in range(clients)]
    connected = [protocol for _, protocol in await asyncio.gather(*made)]
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(one.done for one in connected)), PATIENCE + len(requests) / 10)
    return Answered(answered.bodies, answered.latencies, answered.statuses, time.perf_counter() - started)


# ---- clients that do what nobody should


async def misbehave(sound: Sequence[bytes], port: int, times: int, at_once: int = 40) -> dict[str, Counter[str]]:
    """Do each of MISCHIEF so many times, so many at once; what the server said to each."""
    said: dict[str, Counter[str]] = {name: Counter() for name in MISCHIEF}
    chance = random.Random(1)
    acts = [name for name in MISCHIEF for _ in range(times)]
    chance.shuffle(acts)
    turn = iter(acts)

    async def one() -> None:
        for name in turn:
            said[name][await _said(MISCHIEF[name](chance.choice(sound), chance), port)] += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return said


@dataclass(frozen=True)
class Mischief:
    """What is sent, and how it ends: with an answer that is read, by hanging up, or by closing one's own half."""

    pieces: Sequence[bytes]
    hangs_up: bool = False
    half_closes: bool = False
    pause: float = 0.0  # seconds between the pieces


def _hang_up(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([sound], hangs_up=True)


def _hang_up_midway(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([sound[: chance.randrange(1, len(sound))]], hangs_up=True)


def _half_close(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([sound], half_closes=True)


def _garbage(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([chance.randbytes(chance.randrange(1, 5000)), b"\r\n\r\n"], half_closes=True)


def _no_json(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([request(chance.choice([b"{{{", b"", b"\xff\xfe", b'{"text": "a"', b"[" * 10_000, b"NaN"]))])


def _long_text(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([request(b'{"text": "' + b"x " * (LONG // 2) + b'"}')])


def _large_body(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([request(b'{"text": "' + b"x" * (2 * LONG) + b'"}')])


def _many_texts(sound: bytes, chance: random.Random) -> Mischief:
    return Mischief([request(b'{"texts": [' + b'"a",' * 100_000 + b'"a"]}')])


def _many_headers(sound: bytes, chance: random.Random) -> Mischief:
    head, body = sound.split(b"\r\n\r\n", 1)
    return Mischief([head + b"".join(b"\r\nX-%d: %s" % (n, b"y" * 100) for n in range(2000)) + b"\r\n\r\n" + body])


def _slowly(sound: bytes, chance: random.Random) -> Mischief:
    places = sorted(chance.sample(range(1, len(sound)), min(20, len(sound) - 1)))
    return Mischief([sound[a:b] for a, b in zip([0, *places], [*places, len(sound)], strict=True)], pause=0.1)


MISCHIEF: Mapping[str, Callable[[bytes, random.Random], Mischief]] = {
    "hangs up before the answer": _hang_up,
    "hangs up midway": _hang_up_midway,
    "closes its half": _half_close,
    "garbage": _garbage,
    "no JSON": _no_json,
    "a text of 1 MB": _long_text,
    "a body of 2 MB": _large_body,
    "100,001 texts": _many_texts,
    "2,000 headers": _many_headers,
    "slowly": _slowly,
}


async def _said(mischief: Mischief, port: int) -> str:
    """The status of the answer, or how it went without one."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "no connection"
    try:
        for piece in mischief.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(mischief.pause)
        if mischief.hangs_up:
            return "hung up"
        if mischief.half_closes:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(1 << 16), PATIENCE)
        return str(status_of(answer)) if answer else "closed"
    except OSError:
        return "closed"
    except TimeoutError:
        return "nothing"
    finally:
        writer.transport.abort()
