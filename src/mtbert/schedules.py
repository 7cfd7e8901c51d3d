"""Schedules, which say how a value changes during training: progress in [0, 1] -> factor."""

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
    """A factor as a function of progress through the stage, which is 0 before its first step and 1 after its last."""

    def __call__(self, progress: float) -> float:
        """The factor at this progress, from 0 to 1."""


class Constant:
    """The full value throughout, after an optional linear warm-up over the share `warmup` of the stage."""

    def __init__(self, *, warmup: Share = 0.0) -> None:
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """The factor at this progress.

        >>> [Constant(warmup=0.5)(progress) for progress in (0, 0.25, 0.5, 1)]
        [0.0, 0.5, 1.0, 1.0]
        """
        return _warmed(progress, self.warmup, lambda rest: 1.0)


class Linear:
    """Rise linearly over the share `warmup` of the stage, then fall linearly to `end`.

    It begins to fall from 1. The code released with PALs jumps to 1 - warmup when the warm-up ends, which is
    `piecewise` with the points [0, 0], [0.1, 1], [0.1, 0.9], [1, 0].

    Source: Devlin et al., 2019, appendix A.2, https://arxiv.org/abs/1810.04805
    """

    def __init__(self, *, warmup: Share = 0.1, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        """The factor at this progress.

        >>> [Linear(warmup=0.5)(progress) for progress in (0, 0.25, 0.5, 0.75, 1)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        return _warmed(progress, self.warmup, lambda rest: 1 - (1 - self.end) * rest)


class Cosine:
    """Fall to `end` along half a cosine, after an optional linear warm-up; the paper's restarts are left out.

    Source: Loshchilov and Hutter, 2017, equation 5, https://arxiv.org/abs/1608.03983
    """

    def __init__(self, *, warmup: Share = 0.0, end: Share = 0.0) -> None:
        self.warmup = warmup
        self.end = end

    def __call__(self, progress: float) -> float:
        """The factor at this progress.

        >>> [round(Cosine()(progress), 3) for progress in (0, 0.25, 0.5, 1)]
        [1.0, 0.854, 0.5, 0.0]
        """
        return _warmed(progress, self.warmup, lambda rest: _cosine(1.0, self.end, rest))


class Step:
    """Multiply by `gamma` after each share `every` of the stage.

    What happens every e of E epochs is `every: e / E`. With a warm-up, the shares are those of what follows it.

    Source: report 'MultiBERT'
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
        """The factor at this progress.

        >>> [Step(gamma=0.5, every=0.25)(progress) for progress in (0, 0.2, 0.25, 0.5, 0.75)]
        [1.0, 1.0, 0.5, 0.25, 0.125]
        """
        # a share is over at its last step even where a quotient was rounded down
        return _warmed(progress, self.warmup, lambda rest: self.gamma ** math.floor(rest / self.every + 1e-9))


class OneCycle:
    """Rise from `start` along a cosine over the share `rise` of the stage, then fall along a cosine to `end`.

    The rise takes the place of a warm-up. The defaults are those of torch.

    Source: Smith and Topin, 2018, https://arxiv.org/abs/1708.07120
    """

    def __init__(self, *, rise: Share = 0.3, start: Share = 0.04, end: Share = 4e-6) -> None:
        self.rise = rise
        self.start = start
        self.end = end

    def __call__(self, progress: float) -> float:
        """The factor at this progress.

        >>> [round(OneCycle(rise=0.5, start=0.2)(progress), 3) for progress in (0, 0.25, 0.5, 0.75, 1)]
        [0.2, 0.6, 1.0, 0.5, 0.0]
        """
        if progress < self.rise:
            return _cosine(self.start, 1.0, progress / self.rise)
        return _cosine(1.0, self.end, _rest(progress, self.rise))


def _rising(points: list[list[float]]) -> list[list[float]]:
    """The points as they are; raises Mistake if progress falls from one point to the next, or passes 1."""
    for (earlier, _), (later, _) in pairwise(points):
        if later < earlier:
            raise Mistake(f"progress may not fall from one point to the next, as it does from {earlier} to {later}")
    if points[-1][0] > 1:
        raise Mistake(f"progress is at most 1, not {points[-1][0]}")
    return points


Point = Annotated[list[NonNegative], Field(min_length=2, max_length=2)]
Points = Annotated[list[Point], Field(min_length=1), AfterValidator(_rising)]


class Piecewise:
    """Straight lines through `points`, each [progress, factor]; constant before the first and after the last point.

    Two points at the same progress make a jump. The default is the slanted triangle of the paper.

    Source: Howard and Ruder, 2018, equation 3, https://arxiv.org/abs/1801.06146
    """

    def __init__(self, *, points: Points = [[0, 1 / 32], [0.1, 1.0], [1.0, 1 / 32]]) -> None:  # noqa: B006
        self.times = [time for time, _ in points]
        self.factors = [factor for _, factor in points]

    def __call__(self, progress: float) -> float:
        """The factor at this progress.

        >>> [Piecewise(points=[[0, 1], [0.5, 1], [0.5, 0.5], [1, 0]])(progress) for progress in (0.25, 0.5, 0.75)]
        [1.0, 0.5, 0.25]
        """
        after = bisect_right(self.times, progress)
        if after in (0, len(self.times)):
            return self.factors[min(after, len(self.times) - 1)]
        earlier, later = self.times[after - 1 : after + 1]
        before, then = self.factors[after - 1 : after + 1]
        return before + (then - before) * (progress - earlier) / (later - earlier)


def _warmed(progress: float, warmup: float, then: Callable[[float], float]) -> float:
    """A linear rise from 0 to 1 over the warm-up, and then `then` of how much of the rest is over, from 0 to 1."""
    return progress / warmup if progress < warmup else then(_rest(progress, warmup))


def _rest(progress: float, begun: float) -> float:
    """How much of the stretch from `begun` to the end of the stage is over, from 0 to 1."""
    return min((progress - begun) / (1 - begun), 1.0) if begun < 1 else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine, of which `share` is over."""
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
    """A number, or a schedule by name with its options completed; raises Mistake for anything else."""
    number = given.get("value", 1.0) if isinstance(given, Mapping) else given
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
        raise Mistake(f"value should be a number of at least 0, not {number!r}")
    if not isinstance(given, Mapping):
        return float(given)
    if "name" not in given:
        raise Mistake(f"a value that changes needs the name of its schedule: {', '.join(SCHEDULES)}")
    options = {key: value for key, value in given.items() if key not in ("name", "value")}
    return {"name": given["name"], "value": float(number), **SCHEDULES.complete(given["name"], options)}


def _checked_by_task(given: Any) -> Any:
    if isinstance(given, Mapping) and given and not {"name", "value"} & set(given):
        return {task: _checked(one) for task, one in given.items()}
    return _checked(given)


# an option that may change during training: a number, or {name: linear, value: 5, warmup: 0.1}
Varying = Annotated[float | dict[str, Any], BeforeValidator(_checked)]
# the same, or one for each task: {mood: 1, near: 5}
VaryingByTask = Annotated[float | dict[str, Any], BeforeValidator(_checked_by_task)]


class Varied:
    """An option that may change during training, as a function of progress: a number, or a schedule times its `value`.

    >>> weight = Varied({"name": "linear", "value": 5, "warmup": 0.5})
    >>> weight(0.25), weight(0.5), Varied(2.0)(0.9)
    (2.5, 5.0, 2.0)
    """

    def __init__(self, given: float | Mapping[str, Any]) -> None:
        options: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"name": "constant", "value": given}
        self._value = float(options.pop("value", 1.0))
        self._schedule = SCHEDULES[options.pop("name")](**options)

    def __call__(self, progress: float) -> float:
        return self._value * self._schedule(progress)
