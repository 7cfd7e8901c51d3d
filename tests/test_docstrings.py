"""The examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import mtbert

SOURCE = Path(mtbert.__file__).parent
MODULES = sorted(
    ".".join(("mtbert", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_show_what_they_give(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, "the report above shows which"


def test_there_are_examples_to_run() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert {"mtbert.registry.Registry", "mtbert.data.batches.Stream"} <= {test.name for test in tests}
