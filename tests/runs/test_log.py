"""The log: what is written is read, old lines too, and damage is said with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtbert.errors import Mistake
from mtbert.runs.log import Evaluation, Line, Log, Look, Note, Step

LINES: list[Line] = [
    Step(0, 1, 1e-3, {"mood": {"loss": 1.5, "smart": 0.25}}, 0.5, 8, 0.01),
    Look(0, 1, "conflict", {"tasks": ["mood", "ä"], "cosines": {"layer 0": [[1.0, -0.5], [-0.5, 1.0]]}}),
    Evaluation(0, 1, True, 0.75, {"mood": {"accuracy": 0.75, "macro_f1": 0.7}}),
    Note(0, 1, "SIGTERM"),
]

# as they stood in a log of format 1
FORMAT_1 = [
    {"stage": 0, "step": 1, "lr": 1e-3, "terms": {"mood": {"loss": 1.5, "smart": 0.25}}}
    | {"gradient_norm": 0.5, "examples": 8, "seconds": 0.01},
    {"stage": 0, "step": 1}
    | {"conflict": {"tasks": ["mood", "ä"], "cosines": {"layer 0": [[1.0, -0.5], [-0.5, 1.0]]}}},
    {"stage": 0, "step": 1, "kept": True}
    | {"scores": {"overall": 0.75, "tasks": {"mood": {"accuracy": 0.75, "macro_f1": 0.7}}}},
]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log.jsonl")


def test_lines_are_read_as_they_were_written(log: Log) -> None:
    for line in LINES:
        log.write(line)
    assert list(log) == LINES
    assert list(log.only(Evaluation)) == [LINES[2]]


def test_the_log_is_cut_back_to_a_size(log: Log) -> None:
    log.write(LINES[0])
    size = log.size
    log.write(LINES[1])
    log.cut(size)
    assert list(log) == LINES[:1]
    log.cut(10**9)  # nothing to cut
    assert log.size == size


def test_a_log_that_was_never_written_has_no_lines(log: Log) -> None:
    assert (list(log), log.size) == ([], 0)


def test_lines_of_format_1_are_read(log: Log) -> None:
    log.path.write_text("".join(json.dumps(line) + "\n" for line in FORMAT_1), encoding="utf-8")
    assert list(log) == LINES[:3]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"type": "step", "stage": 0, "st', "no whole JSON object"),
        ("[]", "no whole JSON object"),
        ("3", "no whole JSON object"),
        ("null", "no whole JSON object"),
        ('{"type": "stap", "stage": 0}', "stap"),
        ('{"stage": 0, "step": 1}', "no whole JSON object"),
        ('{"type": "note", "stage": "first", "step": 1, "text": "x"}', "stage"),
        ('{"type": "look", "stage": 0, "step": 1, "observer": "conflict", "seen": 3}', "seen"),
        ("\x00\ufffd", "no whole JSON object"),
    ],
)
def test_a_damaged_line_is_said_with_file_and_line(log: Log, text: str, why: str) -> None:
    log.write(LINES[0])
    with log.path.open("a", encoding="utf-8") as file:
        file.write(text)
    with pytest.raises(Mistake, match=r"log\.jsonl, line 2: .*" + why):
        list(log)
