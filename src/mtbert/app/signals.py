"""Signals that ask a process to end, heard as a listener: the step is finished and the state saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from mtbert.runs.listener import Listener

# those of them that this system has
ASKING_TO_END = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Signals(Listener):
    """While it is entered, a signal to end is a reason to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        self._before = {one: signal.signal(one, self._hear) for one in ASKING_TO_END}
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal, as a shell expects; 0 where none came."""
        return 0 if self.received is None else 128 + self.received

    def reason_to_stop(self) -> str | None:
        return None if self.received is None else self.received.name

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._give_back()

    def _give_back(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
