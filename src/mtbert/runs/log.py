"""The log of a run: what its lines are, and the only place that writes and reads them.

`log.jsonl` holds one JSON object per line. Its `type` says which of the five classes here it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from mtbert.errors import Mistake

L = TypeVar("L", "Step", "Look", "Evaluation", "Note", "Settled")


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    stage: int  # counted from 0, as the stages are run
    step: int  # within the stage, counted from 1
    lr: float
    terms: dict[str, dict[str, float]]  # task -> its loss and penalties, each a mean over the task's batches
    gradient_norm: float  # before clipping
    examples: int
    seconds: float
    type: Literal["step"] = "step"


@dataclass(frozen=True)
class Look:
    """What an observer saw after a step."""

    stage: int
    step: int
    observer: str  # its name in a recipe
    seen: dict[str, Any]
    type: Literal["look"] = "look"


@dataclass(frozen=True)
class Evaluation:
    """The scores of the model after a step, on the dev sets."""

    stage: int
    step: int
    kept: bool  # whether the model became the run's kept model
    overall: float
    tasks: dict[str, dict[str, float]]  # task -> its metrics, the main one first
    average: bool = False  # whether the model is an average of the stage's weights
    type: Literal["evaluation"] = "evaluation"


@dataclass(frozen=True)
class Note:
    """Why training ended before its time."""

    stage: int
    step: int
    text: str
    type: Literal["note"] = "note"


@dataclass(frozen=True)
class Settled:
    """How long a stage is that lasts for so many minutes, as far as that could be told after a step."""

    stage: int
    step: int
    steps: int  # in all
    type: Literal["settled"] = "settled"


Line = Step | Look | Evaluation | Note | Settled
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="type")])


class Log:
    """The lines of one run, in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: Line) -> None:
        """Add a line; raises OSError where the disk refuses it."""
        with self.path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(line), ensure_ascii=False) + "\n")

    def __iter__(self) -> Iterator[Line]:
        """Every line; raises Mistake with file and line number where one is damaged or cut off."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as log:
            for number, text in enumerate(log, start=1):
                yield self._read(text, number)

    def only(self, kind: type[L]) -> Iterator[L]:
        """The lines of one kind."""
        return (line for line in self if isinstance(line, kind))

    @property
    def size(self) -> int:
        """In bytes; a checkpoint remembers it, so that what was logged after the checkpoint can be dropped."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Drop what was written behind the first `size` bytes."""
        if self.size > size:
            os.truncate(self.path, size)

    def _read(self, text: str, number: int) -> Line:
        try:
            record = json.loads(text)
            return _LINE.validate_python(record if "type" in record else _typed(record))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            why = _first(error) if isinstance(error, ValidationError) else "it is no whole JSON object"
            raise Mistake(
                f"{self.path}, line {number}: this is not a line of a run's log ({why}); where training was cut off, "
                "`mtbert train` with --resume repairs the log"
            ) from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _typed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of format 1, which had no `type`: a step has a rate, an evaluation has scores, a look has neither."""
    place = {"stage": record["stage"], "step": record["step"]}
    if "lr" in record:
        return {"type": "step", **record}
    if "scores" in record:
        return {"type": "evaluation", "kept": record["kept"], **place, **record["scores"]}
    [observer] = record.keys() - place.keys()
    return {"type": "look", "observer": observer, "seen": record[observer], **place}
