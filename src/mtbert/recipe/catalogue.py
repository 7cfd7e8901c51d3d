"""The tables of methods, as a reader sees them: from docstrings and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from mtbert.data.kinds.classification import Classification
from mtbert.data.kinds.regression import Regression
from mtbert.data.kinds.table import KINDS
from mtbert.errors import Mistake, unknown
from mtbert.model.encoder import Encoder
from mtbert.model.multitask import MultiTask
from mtbert.model.shape import Shape
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.families import FAMILIES, Family
from mtbert.recipe.text import as_line
from mtbert.registry import Registry

# tasks that a module may serve, the plainest first
SAMPLE_TASKS = (
    Classification(name="text", text=("text",), label="label", classes=("no", "yes")),
    Regression(name="pair", text=("a", "b"), label="label", range=(0, 1), pairs="separate"),
)


@dataclass(frozen=True)
class Size:
    """What a task module adds for one task of an encoder of BERT-base's shape, heads aside."""

    parameters: int
    share: float  # of the encoder's parameters

    def __str__(self) -> str:
        return f"{self.parameters:,} parameters a task, {100 * self.share:.3g} % of BERT-base"


@dataclass(frozen=True)
class Option:
    """An option of a method: what a recipe may give, as a JSON schema, and the default."""

    schema: dict[str, Any]
    required: bool
    default: Any = None

    @property
    def values(self) -> str:
        """What it may be, in words."""
        return _said(self.schema)


@dataclass(frozen=True)
class Citation:
    """Where a method comes from: a line `Source: ...` at the end of its docstring.

    As in `Source: Jiang et al., 2020, equation 6, https://arxiv.org/abs/1911.03437` or `Source: report 'MultiBERT'`:
    the work, then where in it, then a link, with commas between; all but the work may be left out.
    """

    work: str  # authors and year, or the title of a report
    place: str  # the section or equation; empty for the whole
    link: str  # empty where there is none

    @classmethod
    def read(cls, line: str) -> Citation:
        """From what stands behind `Source:`."""
        *parts, last = (part.strip() for part in line.split(","))
        link = last if last.startswith("https://") else ""
        parts += [] if link else [last]
        years = [number for number, part in enumerate(parts) if part.isdecimal() and len(part) == 4]
        end = years[0] + 1 if years else 1
        return cls(", ".join(parts[:end]), ", ".join(parts[end:]), link)


@dataclass(frozen=True)
class Method:
    """An entry of a table, as its docstring and signature tell it."""

    family: str
    name: str
    summary: str  # the docstring's first paragraph
    sources: list[Citation]
    text: str  # the whole docstring
    options: dict[str, Option]
    example: str  # a line of a recipe
    size: Size | None  # of task modules

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def line(self) -> str:
        """Summary, sources, size, options and their defaults in a line."""
        unsaid = "; ".join(dict.fromkeys(one.work for one in self.sources if one.work not in self.summary))
        sources = f" ({unsaid})" if unsaid else ""
        size = f"; {self.size}" if self.size else ""
        options = ", ".join(
            f"{name} (required)" if option.required else f"{name}={option.default}"
            for name, option in self.options.items()
        )
        return f"{self.summary}{sources}{size}" + (f" [{options}]" if options else "")


def list_methods() -> dict[str, dict[str, Method]]:
    """family -> name -> method, for all there are."""
    return {family.title: {name: _method(family, name) for name in family.table} for family in FAMILIES.values()}


def find_methods(name: str) -> list[Method]:
    """The methods of this name, whichever table they stand in; raises Mistake where there is none."""
    found = [_method(family, name) for family in FAMILIES.values() if name in family.table]
    if not found:
        names = dict.fromkeys(one for family in FAMILIES.values() for one in family.table)
        raise Mistake(unknown("method", name, names))
    return found


def _method(family: Family, name: str) -> Method:
    table = family.table
    text = inspect.getdoc(table[name]) or ""
    options = _options(table, name)
    return Method(
        family.title,
        name,
        _summary(text),
        _sources(text),
        text,
        options,
        family.line(_entry(family, name, options)),
        _size(name) if table is TASK_MODULES else None,
    )


def _options(table: Registry[Any], name: str) -> dict[str, Option]:
    parameters = table.options(name)
    if table is KINDS:  # whose options are the keys of a task, `name` the key that it stands under
        maker: Any = table[name]
        schemas = {key: schema for key, schema in maker.model_json_schema()["properties"].items() if key != "name"}
    else:
        schemas = {key: TypeAdapter(one.annotation).json_schema() for key, one in parameters.items()}
    return {key: _option(schema, parameters[key].default) for key, schema in schemas.items()}


def _option(schema: dict[str, Any], default: Any) -> Option:
    required = default is inspect.Parameter.empty
    return Option(schema, required, None if required else default)


def _summary(text: str) -> str:
    """The first paragraph in one line."""
    return " ".join(text.split("\n\n")[0].split()).removesuffix(".")


def _sources(text: str) -> list[Citation]:
    """What the lines `Source: ...` name."""
    return [Citation.read(line.removeprefix("Source:")) for line in text.splitlines() if line.startswith("Source:")]


def _entry(family: Family, name: str, options: dict[str, Option]) -> str:
    """The method as a recipe writes it, with its defaults; the keys of a task stand beside its kind."""
    given = {key: "..." if option.required else option.default for key, option in options.items()}
    return as_line({"name": name, **given}) if given and family.table is not KINDS else name


@cache
def _size(name: str) -> Size | None:
    """The size of a task module, made to be counted; None where it depends on what a recipe must give."""
    for task in SAMPLE_TASKS:
        with suppress(Mistake), torch.random.fork_rng(devices=[]), _Undrawn():
            model = MultiTask(_bert_base(), [task], [ModulePlan(name, TASK_MODULES.complete(name, {}))])
            added, encoder = (_count(part) for part in (model.modules_by_task, model.encoder))
            return Size(added, added / encoder)
    return None


@cache
def _bert_base() -> Encoder:
    """An encoder to be counted, its memory never touched."""
    return Encoder(Shape())


class _Undrawn(TorchFunctionMode):
    """Nothing is drawn for the parameters of modules, which takes a second for an encoder of this size.

    On the device `meta` nothing is drawn either, but torch takes seconds to import what it feigns drawing with.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs else args[0]
        if getattr(func, "__name__", None) in ("normal_", "uniform_"):
            return args[0].zero_()  # not as it lies in memory: a truncated normal is drawn again until it is in bounds
        if getattr(func, "__name__", None) in ("erfinv_", "mul_", "add_", "clamp_"):
            return args[0]  # with which a truncated normal is made of what was drawn
        return func(*args, **(kwargs or {}))


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _said(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words; what a field says of itself comes first."""
    if "description" in schema:
        return str(schema["description"])
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_said, several))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null"}
    if schema.get("type") == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        many = f"{least} " if least is not None and least == most else ""
        item = schema.get("items") or schema.get("prefixItems", [{}])[0]
        each = _said(item)
        return f"list of {many}texts" if each == "text" else f"list of {many}({each})"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"names with a {_said(values)} each" if isinstance(values, Mapping) else "{name: ..., option: ...}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f" from {low:g} to {high:g}" if low is not None and high is not None else ""
    if not bounds:
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        bounds = "".join(f", {word} {schema[key]:g}" for key, word in words.items() if key in schema)
    return kind.get(schema.get("type", ""), "anything") + bounds
