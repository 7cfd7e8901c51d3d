"""Connections on which a request is long in coming, or has headers without an end: they are closed; those whose client
has said all it has to say are not, before it has its answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # one of two classes alike, by what is installed
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as Protocol

HEAD = 1 << 16  # bytes that come before a request is complete up to its body


class Hurried(Protocol):
    """A connection that is closed where a request's headers are not there in time, or are too many.

    uvicorn waits for them for ever, and whoever opens connections and says nothing would leave none for others. Bodies
    have their limits in `app.Guard`.
    """

    seconds = 30.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head, self._late = 0, self._clock()

    def data_received(self, data: bytes) -> None:
        if self._waits:
            self._head += len(data)
            self._late = self._late or self._clock()
        super().data_received(data)
        if not self._waits:
            self._stop()
        elif self._head > HEAD:
            self._end()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, uvicorn's own returns nothing
        """Whether the connection stays: for a client that closes its half after a request, and waits for the answer."""
        return not self._waits and not self.cycle.more_body

    def connection_lost(self, error: Exception | None) -> None:
        self._stop()
        super().connection_lost(error)

    @property
    def _waits(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def _clock(self) -> asyncio.TimerHandle | None:
        return asyncio.get_running_loop().call_later(self.seconds, self._end)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._head, self._late = 0, None

    def _end(self) -> None:
        self._stop()
        self.transport.close()
