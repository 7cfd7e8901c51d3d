"""Who answers slices of rows: this process, or workers that share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from torch import Tensor


class Question(NamedTuple):
    """What some tasks are asked of N rows."""

    tasks: list[str]  # that read the same texts
    texts: list[list[Any]]  # one column or two of N


# something of the caller's with the questions about it, and whom to tell how many texts were read -> the same thing
# with the outputs of the tasks (N, outputs) for each question, in order
Asked = Iterable[tuple[Any, list[Question]]]
Answers = Iterator[tuple[Any, list[dict[str, Tensor]]]]
Engine = Callable[[Asked, Callable[[int], None]], Answers]
