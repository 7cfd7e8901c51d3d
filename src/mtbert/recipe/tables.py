"""`table:` in a recipe: a file named once, and a task for each of its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mtbert.errors import Mistake, Place, shown

TABLE, LABELS = "table", "labels"

Say = Callable[[Place, str], str]  # a message about a place in the recipe, with file and line


class LabelOfTable(NamedTuple):
    """A task that a table has: what the table says of all its tasks, what the label says, and where both stand."""

    shared: Mapping[str, Any]
    own: Mapping[str, Any]
    table: Place
    place: Place


def labels_of_tables(content: Mapping[str, Any], say: Say) -> dict[str, LabelOfTable]:
    """Task -> what the tables of a recipe say of it. Its label is the column of its name, unless it says another.

    Raises Mistake, with file and line, where a table names no labels, or two name one task.
    """
    given = content.get(TABLE)
    tables = (
        {(TABLE, number): one for number, one in enumerate(given)} if isinstance(given, list) else {(TABLE,): given}
    )
    found: dict[str, LabelOfTable] = {}
    for place, table in tables.items() if given is not None else ():
        if not isinstance(table, Mapping):
            raise Mistake(say(place, f"holds {shown(table)} where keys and values are expected"))
        labels, at = table.get(LABELS), (*place, LABELS)
        if not isinstance(labels, Mapping) or not labels:
            raise Mistake(say(place, "names no tasks: `labels: {mood: classification, stars: {kind: ordinal}}`"))
        if "label" in table:
            raise Mistake(
                say((*place, "label"), "each of `labels` has its own: the column of its name, or its `label`")
            )
        shared = {key: value for key, value in table.items() if key != LABELS}
        for name, said in labels.items():
            own = {"name": said} if isinstance(said, str) else said or {}
            if not isinstance(own, Mapping):
                raise Mistake(say((*at, name), f"is {shown(said)}, neither a kind of task nor its keys and values"))
            if str(name) in found:
                raise Mistake(say((*at, name), "is named by two tables"))
            own = {"kind" if key == "name" else key: value for key, value in own.items()}
            found[str(name)] = LabelOfTable(shared, {"label": str(name), **own}, place, (*at, name))
    return found
