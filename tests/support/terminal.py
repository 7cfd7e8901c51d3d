"""Commands on a terminal and in a pipe, each in a process that starts with everything imported, at several widths.

Run as a program: `python -m tests.support.terminal '[["live", [[80, ["check a.yaml", ...]], ...]], ...]'`. It prints,
as JSON, what was sent to each of the two at each width. A recipe is read once, and a dry run is made once and shown at
every width.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

HEAVY = ("mtbert.runs.train", "mtbert.reports.table", "scipy.stats", "sklearn.metrics")
ONCE = (
    "mtbert.recipe.reading.read_recipe",
    "mtbert.runs.folder.read_recipe",
    "mtbert.runs.build.build",
    "mtbert.reports.check.check",
)
NEXT = "\f"  # between two widths
At = tuple[int, list[str]]  # a width, and the commands that are seen at it


def screens(kind: str, at: list[At]) -> list[str]:
    """What a `live` terminal, or a pipe, is sent by these commands at each width."""
    ours, theirs = pty.openpty() if kind == "live" else os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        for stream in range(3) if kind == "live" else (1, 2):
            os.dup2(theirs, stream)
        os._exit(_run(kind, at))
    os.close(theirs)
    sent = b""
    try:
        while some := os.read(ours, 1 << 16):
            sent += some
    except OSError:  # how a terminal says that its other end is closed
        pass
    os.close(ours)
    _, status = os.waitpid(child, 0)
    assert status == 0, sent.decode()
    return sent.decode().split(NEXT)[1:]


def _run(kind: str, at: list[At]) -> int:
    from mtbert.app import cli

    os.environ["TERM"] = "xterm"
    program = importlib.import_module("typer").main.get_command(cli.app)
    try:
        for width, commands in at:
            print(NEXT, flush=True)
            _set_width(kind, width)
            for words in commands:
                print(f"\n$ {words}", flush=True)
                program.main(words.split(), standalone_mode=False)
                sys.stdout.flush()
    except BaseException as error:
        print(repr(error), flush=True)
        return 1
    return 0


def _set_width(kind: str, width: int) -> None:
    if kind == "live":
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        return
    os.environ["COLUMNS"] = str(width)
    importlib.import_module("mtbert.app.console").OUTPUT.width = width  # a console reads the variable as it is made


def _once(name: str) -> None:
    """Let a function answer as before where its first argument is the same file or object."""
    module, _, attribute = name.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    answers: dict[object, tuple[object, Any]] = {}

    @wraps(function)
    def once(first: Any, *others: Any, **named: Any) -> Any:
        key = first if isinstance(first, Path) else id(first)
        if key not in answers:
            answers[key] = first, function(first, *others, **named)  # held, so that no other object has its identity
        return answers[key][1]

    mock.patch(name, once).start()


if __name__ == "__main__":
    for variable in ("COLUMNS", "LINES"):
        os.environ.pop(variable, None)
    for module in HEAVY:
        importlib.import_module(module)
    importlib.import_module("torch").set_num_threads(1)  # no threads that a fork would lose
    # pages and drawings are files, not screens, and would take most of the time
    mock.patch("mtbert.pages.write.write_page").start()
    importlib.import_module("mtbert.reports.conflict").ConflictReport.draw = lambda report, folder: [
        folder / "conflict.png"
    ]
    for name in ONCE:
        _once(name)
    print(json.dumps([screens(*one) for one in json.loads(sys.argv[1])]))
