"""Labels as people spell them: class names in recipes and files, numbers, and both in messages."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from mtbert.data.lookalikes import told_apart
from mtbert.errors import Mistake

MOST_CLASSES = 1_000_000
TRUTHS = {"false": "0", "true": "1"}  # in whatever case
NAMED = 12  # labels that a message names
FULL_OF_NAMES = 0.5  # the share of its rows that a column with another label in each is taken for no labels from


def _class_names(classes: Any) -> tuple[str, ...]:
    if classes is None:
        return ()
    if isinstance(classes, int) and not isinstance(classes, bool):
        if classes > MOST_CLASSES:
            raise Mistake(f"takes at most {MOST_CLASSES:,} classes, not {classes:,}")
        classes = range(classes)
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        raise Mistake("give the class names as a list, or how many there are (labels 0, 1, ...)")
    if any(not isinstance(name, (str, int)) for name in classes):
        raise Mistake("class names are texts, integers, or true and false; put everything else in quotes")
    names = tuple(str(name).lower() if isinstance(name, bool) else str(name).strip() for name in classes)
    if len(names) < 2:
        raise Mistake(f"needs at least two classes, not {len(names)}")
    for name, count in Counter(names).items():
        if count > 1:
            raise Mistake(f"class '{name}' is named twice")
    return names


# as a recipe writes them: names, or how many there are, named 0, 1, ...; none where they are left to the data
ClassNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_class_names),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]},
                    "minItems": 2,
                },
                {"type": "integer", "minimum": 2},
            ]
        }
    ),
]


@dataclass(frozen=True)
class Spellings:
    """Every way in which a file may name a class: its name, or its index where no class has a number for a name. True
    and false, in whatever case, and 1 and 0 are the same.
    """

    names: tuple[str, ...]

    def place(self, cell: object) -> int:
        """Which of the names a cell holds; raises Mistake if it holds none."""
        text = str(cell).strip()
        for spelt in (text, text.lower() if text.lower() in TRUTHS else "", integer(text)):
            if spelt in self._places:
                return self._places[spelt]
        either = f", nor an index from 0 to {len(self.names) - 1}" if self._indexed else ""
        hint = told_apart(text, self.names)
        remedy = f"; {hint}: write the same in the file and under `classes`" if hint else ""
        raise Mistake(f"label '{cut(text)}' is not one of {listed(self.names)}{either}{remedy}")

    @property
    def alike(self) -> list[str]:
        """What may be wrong with the names: those that differ by case only."""
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(name.casefold(), []).append(name)
        return [f"the classes {' and '.join(names)} differ by case only" for names in found.values() if len(names) > 1]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Spelling -> class; a name comes before all other spellings."""
        names = {name: index for index, name in enumerate(self.names)}
        truths = {name.lower(): index for name, index in names.items() if name.lower() in TRUTHS}
        if truths.keys() == set(TRUTHS):
            truths |= {TRUTHS[truth]: index for truth, index in truths.items()}
        elif names.keys() == set(TRUTHS.values()):
            truths = {truth: names[number] for truth, number in TRUTHS.items()}
        indices = {str(index): index for index in range(len(names))} if self._indexed else {}
        return indices | truths | names

    @property
    def _indexed(self) -> bool:
        """Whether a number in a file can be the index of a class: never where a class has a number for a name."""
        return not any(re.fullmatch(r"[+-]?[0-9]+(\.0*)?", name) or name.lower() in TRUTHS for name in self.names)


def classes_of(cells: Mapping[str, int]) -> tuple[str, ...]:
    """The classes that a column of labels names; raises Mistake where it holds too few, or hardly a label twice."""
    names, rows = class_names_in(cells), sum(cells.values())
    if len(names) < 2:
        only = f"only '{names[0]}'" if names else "no label"
        raise Mistake(f"holds {only}, and a task with classes needs two or more different labels")
    if len(names) > NAMED and len(names) > FULL_OF_NAMES * rows:
        few = f"{len(names):,} different labels in {rows:,} rows: {counted(cells)}"
        score = "; for scores write `kind: regression`" if all(map(is_number, names)) else ""
        raise Mistake(f"holds {few}; is it the column of labels?{score} (else name the `classes`)")
    return names


def proposed_classes(cells: Mapping[str, int]) -> str:
    """What to write into a recipe where these cells are no labels of the classes that it names."""
    names = class_names_in(cells)
    if len(names) > NAMED and all(map(is_number, names)):
        return "these look like scores: `kind: regression`"
    names_of_it = as_list(names) if len(names) <= NAMED else "[...], or leave `classes` out to take them from train"
    return f"the file holds {counted(cells)}: write `classes: {names_of_it}`"


def class_names_in(cells: Iterable[str]) -> tuple[str, ...]:
    """The classes that these cells name, each in one spelling: numbers in their order, names in the alphabet's."""
    names = {text.lower() if text.lower() in TRUTHS else integer(text) or text for text in map(str.strip, cells)}
    truths = names & TRUTHS.keys()
    if truths and names <= TRUTHS.keys() | set(TRUTHS.values()):
        names = set(TRUTHS)
    names.discard("")
    numbers = all(map(is_number, names))
    return tuple(sorted(names, key=lambda name: (float(name) if numbers else 0.0, name.casefold(), name)))


def scores_in(cells: Iterable[str]) -> list[float]:
    return [float(text) for text in cells if is_number(text) and math.isfinite(float(text))]


def is_number(text: str) -> bool:
    try:
        float(text.replace("_", "no digit"))
    except ValueError:
        return False
    return True


def as_list(names: Sequence[str]) -> str:
    """Names as a list of a recipe, in quotes where they need them."""
    plain = re.compile(r"(?!null$)(?:[^\W\d_](?:[\w -]*\w)?|0|-?[1-9][0-9]*)", re.IGNORECASE)
    quoted = [name if plain.fullmatch(name) else "'" + name.replace("'", "''") + "'" for name in names]
    return f"[{', '.join(quoted)}]"


def counted(cells: Mapping[str, int]) -> str:
    """The labels in a file, the most frequent first, with how many rows have each."""
    ranked = sorted(cells.items(), key=lambda item: (-item[1], item[0]))
    more = f", ... ({len(ranked):,} in all)" if len(ranked) > NAMED else ""
    return ", ".join(f"{cut(text, 40)} {count:,}" for text, count in ranked[:NAMED]) + more


def integer(text: str) -> str:
    """A whole number as it is counted with: '1' for '1.0' and '+1'; empty for everything else, '01' included."""
    return str(int(text.partition(".")[0])) if re.fullmatch(r"[+-]?(0|[1-9][0-9]{0,17})(\.0*)?", text) else ""


def cut(text: str, room: int = 80) -> str:
    return text if len(text) <= room else f"{text[:room]}..."


def listed(names: Sequence[str], shown: int = 50) -> str:
    """Names in a line, the first of them where there are many."""
    more = f", ... ({len(names):,} in all)" if len(names) > shown else ""
    return ", ".join(cut(name, 40) for name in names[:shown]) + more
