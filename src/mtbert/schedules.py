"""What changes during training: progress in [0, 1] -> factor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator

from mtbert.errors import Mistake
from mtbert.registry import Registry, Share


class Schedule(Protocol):
    """A value as a function of progress through the stage, 0 at its first step and 1 at its end."""

    def __call__(self, progress: float) -> float: ...


class Constant:
    """The full value throughout, after an optional linear warm-up."""

    def __init__(self, *, warmup: Share = 0.0) -> None:
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        return _warmed(progress, self.warmup)


class Linear:
    """Rise linearly over the share `warmup` of the stage, then fall linearly to `end` (Devlin et al., 2019)."""

    def __init__(self, *, warmup: Share = 0.1, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return _warmed(progress, self.warmup)
        fallen = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return 1 - (1 - self.end) * min(fallen, 1.0)


def _warmed(progress: float, warmup: float) -> float:
    return progress / warmup if progress < warmup else 1.0


SCHEDULES: Registry[Schedule] = Registry("schedule", {"constant": Constant, "linear": Linear})


def _checked(given: Any) -> Any:
    number = given.get("value", 1.0) if isinstance(given, Mapping) else given
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
        raise Mistake(f"value should be a number of at least 0, not {number!r}")
    if not isinstance(given, Mapping):
        return float(given)
    if "name" not in given:
        raise Mistake(f"a value that changes needs the name of its schedule: {', '.join(SCHEDULES)}")
    options = {key: value for key, value in given.items() if key not in ("name", "value")}
    return {"name": given["name"], "value": float(number), **SCHEDULES.complete(given["name"], options)}


# an option that may change during training: a number, or {name: linear, value: 5, warmup: 0.1}
Varying = Annotated[float | dict[str, Any], BeforeValidator(_checked)]


class Varied:
    """A number, or a schedule times its `value`, as a function of progress."""

    def __init__(self, given: float | Mapping[str, Any]) -> None:
        options: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"name": "constant", "value": given}
        self._value = float(options.pop("value", 1.0))
        self._schedule = SCHEDULES[options.pop("name")](**options)

    def __call__(self, progress: float) -> float:
        return self._value * self._schedule(progress)
