"""The schema of a recipe: it takes what reading takes and refuses what that refuses, and every method is in it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.data.kinds.table import KINDS
from mtbert.errors import Mistake
from mtbert.recipe.completion import recipe_schema
from mtbert.recipe.families import FAMILIES
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe, Stage

ROOT = Path(__file__).parents[2]
TYPES = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return recipe_schema()


def refusals(given: Any, schema: dict[str, Any], whole: dict[str, Any], place: str = "") -> Iterator[str]:
    """Where JSON does not fit a schema: the keywords that ours uses, as draft 2020-12 defines them."""
    if "$ref" in schema:
        yield from refusals(given, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], whole, place)
    for word, few, many in (("anyOf", 1, 10**9), ("oneOf", 1, 1)):
        if word in schema:
            fitting = sum(not list(refusals(given, one, whole, place)) for one in schema[word])
            if not few <= fitting <= many:
                yield f"{place}: {fitting} of {word}"
    if "not" in schema and not list(refusals(given, schema["not"], whole, place)):
        yield f"{place}: not"
    if "enum" in schema and given not in schema["enum"]:
        yield f"{place}: enum"
    if "const" in schema and given != schema["const"]:
        yield f"{place}: const"
    if "type" in schema and not _of_type(given, schema["type"]):
        yield f"{place}: {schema['type']}"
        return
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        bounds: dict[str, Callable[[float], bool]] = {
            "minimum": lambda bound: given >= bound,
            "maximum": lambda bound: given <= bound,
            "exclusiveMinimum": lambda bound: given > bound,
            "exclusiveMaximum": lambda bound: given < bound,
        }
        yield from (f"{place}: {word}" for word, fits in bounds.items() if word in schema and not fits(schema[word]))
    if isinstance(given, list):
        items = schema.get("prefixItems", [])
        for index, one in enumerate(given):
            yield from refusals(one, items[index] if index < len(items) else schema.get("items", {}), whole, place)
        if not schema.get("minItems", 0) <= len(given) <= schema.get("maxItems", 10**9):
            yield f"{place}: items"
    if isinstance(given, str) and len(given) < schema.get("minLength", 0):
        yield f"{place}: minLength"
    if isinstance(given, dict):
        for key in given:
            yield from refusals(key, schema.get("propertyNames", {}), whole, f"{place}.{key}")
        yield from (f"{place}: {key} is missing" for key in schema.get("required", []) if key not in given)
        for key, value in given.items():
            known = schema.get("properties", {})
            inner = known.get(key, schema.get("additionalProperties", True))
            if inner is False:
                yield f"{place}: {key} is unknown"
            elif isinstance(inner, dict):
                yield from refusals(value, inner, whole, f"{place}.{key}")
        if not schema.get("minProperties", 0) <= len(given) <= schema.get("maxProperties", 10**9):
            yield f"{place}: properties"


def _of_type(given: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(given, int if kind == "integer" else (int, float)) and not isinstance(given, bool)
    return isinstance(given, TYPES[kind])


def test_the_keywords_are_those_that_are_checked_here(schema: dict[str, Any]) -> None:
    words = set(re.findall(r'"(\$?[a-zA-Z]+)":', json.dumps(_keywords(schema))))
    assert words <= {
        "$ref", "$defs", "$schema", "anyOf", "oneOf", "not", "enum", "const", "type", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "items", "prefixItems", "minItems", "maxItems", "minLength", "required",
        "properties", "additionalProperties", "propertyNames", "minProperties", "maxProperties",
        "title", "description", "default",
    }  # fmt: skip


def _keywords(schema: Any) -> Any:
    """The schema with the names of properties taken out."""
    if isinstance(schema, list):
        return [_keywords(one) for one in schema]
    if not isinstance(schema, dict):
        return None
    return {
        key: [_keywords(one) for one in value.values()] if key in ("properties", "$defs") else _keywords(value)
        for key, value in schema.items()
        if key != "default"
    }


def test_what_all_tasks_have_need_not_stand_in_each(schema: dict[str, Any], small_recipe: dict[str, Any]) -> None:
    recipe = json.loads(json.dumps(small_recipe))
    kind = recipe["tasks"]["mood"].pop("kind")
    assert list(refusals(recipe, schema, schema))
    assert list(refusals({"task_defaults": {"kind": kind}, **recipe}, schema, schema)) == []


def test_every_recipe_of_the_project_fits(schema: dict[str, Any], small_recipe: dict[str, Any]) -> None:
    paths = [*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("src/mtbert/demo/*.yaml")]
    recipes = {str(path): yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths}
    assert len(recipes) > 4
    recipes["small"] = json.loads(json.dumps(small_recipe))
    recipes["as run"] = yaml.safe_load(read_recipe(small_recipe).as_yaml())
    for name, recipe in recipes.items():
        assert list(refusals(recipe, schema, schema)) == [], name


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("encodr",), "minilm"),
        (("tasks", "mood", "kind"), "classify"),
        (("tasks", "mood", "claases"), 3),
        (("tasks", "mood", "classes"), 1),
        (("tasks", "mood", "text"), ["a", "b", "c"]),
        (("tasks", "near", "range"), [1]),
        (("tasks", "near", "head"), "linaer"),
        (("stages", 0, "sampler"), "propotional"),
        (("stages", 0, "optimizer"), {"learning_rate": 1e-3}),
        (("stages", 0, "optimizer"), {"lr": "fast"}),
        (("stages", 0, "batch_size"), 0),
        (("stages", 0, "schedule"), {"warmup": 1.5}),
        (("stages", 0, "regularizers"), [{"name": "smart", "radios": 1.0}]),
        (("modules",), ["adaptor"]),
        (("seed",), -1),
    ],
)
def test_what_reading_refuses_is_refused(
    place: tuple[Any, ...], value: Any, schema: dict[str, Any], small_recipe: dict[str, Any]
) -> None:
    wrong: Any = json.loads(json.dumps(small_recipe))
    assert list(refusals(wrong, schema, schema)) == []
    inner = wrong
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(Mistake):
        read_recipe(copy.deepcopy(wrong))
    assert list(refusals(wrong, schema, schema)) != []


def test_every_key_and_every_method_with_its_options_is_there(schema: dict[str, Any]) -> None:
    assert set(Recipe.model_fields) <= set(schema["properties"])
    assert set(Stage.model_fields) <= set(schema["$defs"]["Stage"]["properties"])
    kinds = schema["anyOf"][0]["properties"]["tasks"]["additionalProperties"]["oneOf"]
    assert [one["properties"]["kind"]["const"] for one in kinds] == list(KINDS)
    for word, family in FAMILIES.items():
        if word == "kind":
            continue
        forms = schema["$defs"][f"method of {word}"]["anyOf"]
        told = {form["properties"]["name"].get("const"): form for form in forms if "name" in form.get("properties", {})}
        for name in family.table:
            assert set(family.table.options(name)) <= set(told[name]["properties"]), (word, name)
