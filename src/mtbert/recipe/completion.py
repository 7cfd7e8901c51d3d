"""What an editor knows of recipes: their shape as a JSON Schema, made from the tables and models that read them."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter

from mtbert.data.kinds.table import KINDS
from mtbert.recipe.families import FAMILIES, Family
from mtbert.recipe.schema import Recipe
from mtbert.recipe.tables import LABELS, TABLE
from mtbert.recipe.text import FOR_ALL, LIKE

DIALECT = "https://json-schema.org/draft/2020-12/schema"

OF_ALL_TASKS, OF_ALL_STAGES = FOR_ALL

Schema = dict[str, Any]


def recipe_schema() -> Schema:
    """The JSON Schema of a recipe: every key, every method and its options, with types, bounds and defaults.

    Source: JSON Schema, draft 2020-12, https://json-schema.org/draft/2020-12
    """
    made = Recipe.model_json_schema()
    made["$defs"] |= {f"method of {word}": _methods(family) for word, family in FAMILIES.items() if word != "kind"}
    made["$defs"]["Stage"] = _with_methods(made["$defs"]["Stage"], "stage")
    made = _with_methods(made, "recipe")
    made["properties"] |= {
        "tasks": {"type": "object"},
        LIKE: {"type": "string", "description": "A recipe to take the rest from."},
        TABLE: {"anyOf": [_table(), {"type": "array", "items": _table(), "minItems": 1}]},
        OF_ALL_TASKS: _part_of_a_task(),
        OF_ALL_STAGES: {"$ref": "#/$defs/Stage"},
    }
    used = {name: part for name, part in made["$defs"].items() if name not in ("Task", "ModulePlan")}
    del made["required"]
    return made | {
        "$schema": DIALECT,
        "title": "A recipe of mtbert",
        "$defs": used,
        "anyOf": [
            {"required": ["tasks"], "properties": {"tasks": _tasks({"oneOf": [_task(kind) for kind in KINDS]})}},
            *(
                {"required": [rest], "properties": {"tasks": _tasks(_part_of_a_task())}}
                for rest in (LIKE, TABLE, OF_ALL_TASKS)
            ),
        ],
    }


def _tasks(one: Schema) -> Schema:
    return {"type": "object", "additionalProperties": one, "minProperties": 1}


def _table() -> Schema:
    """A file with its labels, and keys of a task that all of them have."""
    labels = {"anyOf": [{"enum": list(KINDS)}, _part_of_a_task()]}
    shared = {key: part for kind in KINDS for key, part in _task(kind)["properties"].items() if key != "label"}
    properties = {**shared, "kind": {"enum": list(KINDS)}, LABELS: _tasks(labels)}
    return {"type": "object", "properties": properties, "required": [LABELS], "additionalProperties": False}


def _part_of_a_task() -> Schema:
    """A task that has the rest from elsewhere, or is taken away by null."""
    return {"anyOf": [*(_task(kind) | {"required": []} for kind in KINDS), {"type": "null"}]}


def _task(kind: str) -> Schema:
    """A task of one kind, which its `kind` tells from the others."""
    maker: Any = KINDS[kind]
    made = _with_methods(maker.model_json_schema(), "task")
    properties = {key: part for key, part in made["properties"].items() if key != "name"}
    properties["kind"] = {"const": kind}
    required = [key for key in made["required"] if key != "name"] + ["kind"]
    return made | {"properties": properties, "required": list(dict.fromkeys(required))}


def _with_methods(model: Schema, section: str) -> Schema:
    """A model's schema in which each key of a family names its methods."""
    properties = dict(model["properties"])
    for word, family in FAMILIES.items():
        if family.section != section or word == "kind":
            continue
        one: Schema = {"$ref": f"#/$defs/method of {word}"}
        several = {"type": "array", "items": one}
        default = {key: value for key, value in properties[word].items() if key == "default"}
        properties[word] = ({"anyOf": [one, several]} if family.listed else one) | default
    return model | {"properties": properties}


def _methods(family: Family) -> Schema:
    """A method as a recipe writes it: a name, or `{name: ..., option: value}`."""
    named: Schema = {"enum": list(family.table)}
    if family.word == "encoder":  # a folder or a name on the hub too
        named = {"anyOf": [named, {"type": "string"}]}
    return {"anyOf": [named, *(_with_options(family, name) for name in family.table), *_otherwise(family)]}


def _otherwise(family: Family) -> list[Schema]:
    """Mappings whose name is none of the table's, and those that a family lets a recipe write shorter."""
    if family.word == "encoder":
        strange = {"name": {"type": "string", "not": {"enum": list(family.table)}}}
        return [{"type": "object", "properties": strange, "required": ["name"]}]
    if family.word == "train":
        names = [name for name in family.table if family.table.options(name)]
        return [{"type": "object", "properties": {name: {} for name in names}, "minProperties": 1, "maxProperties": 1}]
    return []


def _with_options(family: Family, name: str) -> Schema:
    options = family.table.options(name)
    summary = (inspect.getdoc(family.table[name]) or "").split("\n\n")[0]
    properties: Schema = {"name": {"const": name}}
    if family.word == "modules":
        properties |= {"tasks": TypeAdapter(list[str] | str).json_schema(), "shared": {"type": "boolean"}}
    for option, parameter in options.items():
        properties[option] = TypeAdapter(parameter.annotation).json_schema()
        if parameter.default is not inspect.Parameter.empty and isinstance(
            parameter.default, (str, int, float, bool, type(None))
        ):
            properties[option] = properties[option] | {"default": parameter.default}
    required = [option for option, parameter in options.items() if parameter.default is inspect.Parameter.empty]
    return {
        "type": "object",
        "description": " ".join(summary.split()),
        "properties": properties,
        "required": [*([] if family.default == name and not family.listed else ["name"]), *required],
        "additionalProperties": False,
    }
