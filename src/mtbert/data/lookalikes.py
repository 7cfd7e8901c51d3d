"""Names that look alike and are not: which signs set them apart, by their code points."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import zip_longest

# the letters of other scripts and the punctuation that most fonts draw as these
_DRAWN_AS = str.maketrans(
    "АВЕКМНОРСТУХЅІЈаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο‘’“”‐‑‒–—−",
    "ABEKMHOPCTYXSIJaeopcyxsijABEZHIKMNOPTYXo''\"\"------",
)


def told_apart(given: str, names: Iterable[str]) -> str:
    """What sets a text apart from the first of the names that looks the same; empty where none does.

    >>> told_apart("not\\xa0good", ["good", "not good"])
    "it looks like 'not good' but has U+00A0 (NO-BREAK SPACE) where that has U+0020 (SPACE)"
    """
    look = _look(given)
    alike = next((name for name in names if name != given and _look(name) == look), None)
    if alike is None:
        return ""
    ours, theirs = _differing(given, alike)
    return f"it looks like '{alike}' but has {_points(ours)} where that has {_points(theirs)}"


def _look(text: str) -> str:
    """The text as it looks: spaces and letters of one shape as one sign, invisible signs left out."""
    seen = unicodedata.normalize("NFKC", text).translate(_DRAWN_AS)
    seen = "".join(sign for sign in seen if unicodedata.category(sign) not in ("Cf", "Cc") or sign.isspace())
    return " ".join(seen.split())


def _differing(one: str, other: str) -> tuple[str, str]:
    """What is left of two texts without their common beginning and end."""
    start = next((at for at, (a, b) in enumerate(zip_longest(one, other)) if a != b), 0)
    one, other = one[start:], other[start:]
    end = next((at for at, (a, b) in enumerate(zip_longest(reversed(one), reversed(other))) if a != b), 0)
    return one[: len(one) - end], other[: len(other) - end]


def _points(signs: str) -> str:
    """'U+00A0 (NO-BREAK SPACE)' for each sign, the first few."""
    named = [f"U+{ord(sign):04X} ({unicodedata.name(sign, 'no name')})" for sign in signs[:4]]
    return ", ".join(named) + (", ..." if len(signs) > 4 else "") if named else "nothing"
