"""Commands on terminals and in pipes of given widths, each screen in a process that starts with everything imported.

Run as a program: `python -m tests.support.terminal '[["live", 80, ["train a.yaml", ...]], ...]'`. It prints, as JSON,
what each screen was sent.
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
from unittest import mock

HEAVY = ("mtbert.runs.train", "mtbert.reports.table", "scipy.stats", "sklearn.metrics")


def screen(kind: str, width: int, commands: list[str]) -> str:
    """What a `live` terminal of this width, or a pipe, is sent by these commands."""
    ours, theirs = pty.openpty() if kind == "live" else os.pipe()
    if kind == "live":
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    child = os.fork()
    if not child:
        os.close(ours)
        for stream in range(3) if kind == "live" else (1, 2):
            os.dup2(theirs, stream)
        os.environ |= {"TERM": "xterm"} if kind == "live" else {"COLUMNS": str(width)}
        os._exit(_run(commands))
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
    return sent.decode()


def _run(commands: list[str]) -> int:
    from mtbert.app import cli

    try:
        for words in commands:
            print(f"\n$ {words}", flush=True)
            cli.app(words.split(), standalone_mode=False)
            sys.stdout.flush()
    except BaseException as error:
        print(repr(error), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    for variable in ("COLUMNS", "LINES"):
        os.environ.pop(variable, None)
    for name in HEAVY:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)  # no threads that a fork would lose
    # pages and drawings are files, not screens, and would take most of the time
    mock.patch("mtbert.pages.write.write_page").start()
    importlib.import_module("mtbert.reports.conflict").ConflictReport.draw = lambda report, folder: [
        folder / "conflict.png"
    ]
    print(json.dumps([screen(*one) for one in json.loads(sys.argv[1])]))
