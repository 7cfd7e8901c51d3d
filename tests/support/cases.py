"""Many cases of one claim inside one test: as thorough as a test a case, without a test's cost a case."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch


def each(**values: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with every combination of the values, each of them a subtest: one that fails is named by its values.

    Every case starts from the random state that a test of its own would start from. The cases share the test's
    fixtures, so the test must not change what these give it.
    """
    cases = [dict(zip(values, case, strict=True)) for case in itertools.product(*values.values())]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def all_cases(*, subtests: pytest.Subtests, **fixtures: Any) -> None:
            for case in cases:
                torch.manual_seed(0)
                with subtests.test(**case):
                    test(**fixtures, **case)

        signature = inspect.signature(test)
        asked = [name for name in signature.parameters if name not in values]
        all_cases.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in [*asked, "subtests"]]
        )
        return all_cases

    return decorate
