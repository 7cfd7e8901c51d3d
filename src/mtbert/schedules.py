"""What changes during training: progress in [0, 1] -> factor."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from mtbert.errors import Mistake
from mtbert.registry import NonNegative, Registry, Share


class Schedule(Protocol):
    """A value as a function of progress through the stage, 0 at its first step and 1 at its end."""

    def __call__(self, progress: float) -> float: ...


class Constant:
    """The full value throughout, after an optional linear warm-up."""

    def __init__(self, *, warmup: Share = 0.0) -> None:
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        return _warmed(progress, self.warmup, lambda rest: 1.0)


class Linear:
    """Rise linearly over the share `warmup` of the stage, then fall linearly to `end` (Devlin et al., 2019).

    It falls from 1 where the warm-up ends; the code of (Stickland and Murray, 2019) drops to 1 - warmup there, which is
    `piecewise` with the points [0, 0], [0.1, 1], [0.1, 0.9], [1, 0].
    """

    def __init__(self, *, warmup: Share = 0.1, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        return _warmed(progress, self.warmup, lambda rest: 1 - (1 - self.end) * rest)


class Cosine:
    """Fall to `end` along half a cosine (Loshchilov and Hutter, 2017), after an optional linear warm-up."""

    def __init__(self, *, warmup: Share = 0.0, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        return _warmed(progress, self.warmup, lambda rest: _cosine(1.0, self.end, rest))


class Step:
    """Multiply by `gamma` whenever another share `every` of the stage is over (report 'MultiBERT').

    What the report does every e of E epochs is `every: e / E`; a warm-up shortens the shares alike.
    """

    def __init__(
        self,
        *,
        warmup: Share = 0.0,
        gamma: Share = 0.1,
        every: Annotated[float, Strict(), Field(gt=0, le=1)] = 1 / 3,
    ) -> None:
        self.warmup = warmup
        self.gamma = gamma
        self.every = every

    def __call__(self, progress: float) -> float:
        # a share is over at its last step even where a quotient was rounded down
        return _warmed(progress, self.warmup, lambda rest: self.gamma ** math.floor(rest / self.every + 1e-9))


class OneCycle:
    """Rise from `start` over the share `rise` of the stage, then fall to `end`, along cosines (Smith and Topin, 2018).

    Its rise is its warm-up; the defaults are torch's.
    """

    def __init__(self, *, rise: Share = 0.3, start: Share = 0.04, end: Share = 4e-6) -> None:
        self.rise = rise
        self.start = start
        self.end = end

    def __call__(self, progress: float) -> float:
        if progress < self.rise:
            return _cosine(self.start, 1.0, progress / self.rise)
        return _cosine(1.0, self.end, _rest(progress, self.rise))


def _rising(points: list[list[float]]) -> list[list[float]]:
    for (earlier, _), (later, _) in pairwise(points):
        if later < earlier:
            raise Mistake(f"progress may not fall from one point to the next, as it does from {earlier} to {later}")
    if points[-1][0] > 1:
        raise Mistake(f"progress is at most 1, not {points[-1][0]}")
    return points


Point = Annotated[list[NonNegative], Field(min_length=2, max_length=2)]
Points = Annotated[list[Point], Field(min_length=1), AfterValidator(_rising)]


class Piecewise:
    """Straight lines through `points`, each [progress, factor], level before the first and after the last.

    Two points at the same progress are a jump. The default is the slanted triangle of (Howard and Ruder, 2018).
    """

    def __init__(self, *, points: Points = [[0, 1 / 32], [0.1, 1.0], [1.0, 1 / 32]]) -> None:  # noqa: B006
        self.times = [time for time, _ in points]
        self.factors = [factor for _, factor in points]

    def __call__(self, progress: float) -> float:
        after = bisect_right(self.times, progress)
        if after in (0, len(self.times)):
            return self.factors[min(after, len(self.times) - 1)]
        earlier, later = self.times[after - 1 : after + 1]
        before, then = self.factors[after - 1 : after + 1]
        return before + (then - before) * (progress - earlier) / (later - earlier)


def _warmed(progress: float, warmup: float, then: Callable[[float], float]) -> float:
    """A line from nothing to the full value, and what follows as a function of the share of the rest that is over."""
    return progress / warmup if progress < warmup else then(_rest(progress, warmup))


def _rest(progress: float, begun: float) -> float:
    """How much of what follows `begun` is over, in [0, 1]."""
    return min((progress - begun) / (1 - begun), 1.0) if begun < 1 else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {
        "constant": Constant,
        "linear": Linear,
        "cosine": Cosine,
        "step": Step,
        "one_cycle": OneCycle,
        "piecewise": Piecewise,
    },
)


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
