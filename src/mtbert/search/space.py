"""What a search may change: keys of a recipe, each with its choices or its ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from mtbert.errors import Mistake, shown
from mtbert.recipe.text import as_line, read_written


class Trial(Protocol):
    """What draws values: a trial of optuna."""

    def suggest_categorical(self, name: str, choices: list[str]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...


Number = Annotated[int, Strict()] | Annotated[float, Strict()]


class Ends(BaseModel):
    """A stretch of numbers, whole ones where both ends are whole; `log` draws evenly from the logarithms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Number
    high: Number
    step: Annotated[Number, Field(gt=0)] | None = None
    log: Annotated[bool, Strict()] = False


@dataclass(frozen=True)
class Dimension:
    """A key of a recipe, as an override names it, and the values that it may have."""

    key: str
    values: list[str] | Ends  # choices as YAML writes them in a line

    def draw(self, trial: Trial) -> str:
        """The override for a trial: `key=value`."""
        return f"{self.key}={self._drawn(trial)}"

    @property
    def outermost(self) -> list[str]:
        """Overrides that try the key out: every choice, or both ends."""
        values = self.values if isinstance(self.values, list) else [repr(self.values.low), repr(self.values.high)]
        return [f"{self.key}={value}" for value in values]

    def _drawn(self, trial: Trial) -> str:
        if isinstance(self.values, list):
            return str(trial.suggest_categorical(self.key, self.values))
        low, high, step, log = self.values.low, self.values.high, self.values.step, self.values.log
        if isinstance(low, int) and isinstance(high, int):
            return repr(trial.suggest_int(self.key, low, high, step=int(step or 1), log=log))
        return repr(trial.suggest_float(self.key, float(low), float(high), step=step, log=log))


def read_space(path: Path) -> list[Dimension]:
    """A file of `key: [choice, ...]` and `key: {low: ..., high: ..., log: true}`; raises Mistake with file and line."""
    written = read_written(path)
    content = written.content
    if not content:
        raise Mistake(f"{path} names no key to search over")
    found = []
    for key, given in content.items():
        try:
            found.append(Dimension(str(key), _values(given)))
        except Mistake as mistake:
            raise Mistake(written.say((key,), str(mistake))) from None
    return found


def _values(given: Any) -> list[str] | Ends:
    if isinstance(given, list):
        choices = [as_line(choice).strip() for choice in given]
        if len(set(choices)) < max(2, len(choices)):
            raise Mistake(f"holds {shown(given)}; give two different choices or more")
        return choices
    if not isinstance(given, dict):
        raise Mistake(f"holds {shown(given)}; give choices, [a, b], or ends, {{low: 1e-5, high: 1e-3, log: true}}")
    try:
        ends = Ends.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"] if step in Ends.model_fields) or str(first["loc"][-1])
        raise Mistake(f"{place}: {first['msg'][0].lower()}{first['msg'][1:]} (keys: low, high, step, log)") from None
    if ends.low >= ends.high or (ends.log and (ends.low <= 0 or ends.step is not None)):
        raise Mistake(f"holds {shown(given)}; low is below high and, with log, above 0 and without step")
    return ends
