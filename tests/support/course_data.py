"""The course's files, tiny: the columns and file names that recipes/reports/ name, with made-up rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.support.small import sentence

# as many as the samplers need: 17 parts of a batch of 8, and a batch of 64 of every task
ROWS = {"ids-sst": 72, "quora": 136, "sts": 136, "ids-cfimdb": 24}
TINY = [  # overrides that make any recipe small; `stages.*.steps` is left to say
    "encoder={name: random, layers: 1, width: 24, heads: 2, inner: 32}",
    "stages.*.epochs=null",
]


def write_course_data(folder: Path) -> Path:
    """Train, dev and unlabelled test files of all four tasks."""
    folder.mkdir(parents=True)
    for name, count in ROWS.items():
        single = name.startswith("ids-")
        texts = "sentence" if single else "sentence1\tsentence2"
        label = "sentiment" if single else {"quora": "is_duplicate", "sts": "similarity"}[name]
        for split, rows in {"train": range(count), "dev": range(1000, 1010)}.items():
            lines = [f"{i}\tid{i}\t{_texts(i, single)}\t{_label(name, i)}" for i in rows]
            _write(folder / f"{name}-{split}.csv", f"\tid\t{texts}\t{label}", lines)
        lines = [f"{i}\tid{i}\t{_texts(i, single)}" for i in range(2000, 2005)]
        _write(folder / f"{name}-test-student.csv", f"\tid\t{texts}", lines)
    return folder


def _texts(number: int, single: bool) -> str:
    return sentence(number) if single else f"{sentence(number)}\t{sentence(number + 2)}"


def _label(name: str, number: int) -> float | int:
    return {"ids-sst": number % 5, "ids-cfimdb": number % 2, "quora": float(number % 2), "sts": number % 11 / 2}[name]


def _write(path: Path, header: str, lines: Iterable[str]) -> None:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
