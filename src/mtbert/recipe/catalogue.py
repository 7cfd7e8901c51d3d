"""The tables of methods, as a reader sees them: from docstrings and signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.tasks import KINDS, Classification, Regression
from mtbert.errors import Mistake, unknown
from mtbert.model.encoder import Encoder
from mtbert.model.heads import FEATURES, HEADS, POOLINGS
from mtbert.model.multitask import MultiTask
from mtbert.model.parameters.selection import SELECTORS
from mtbert.model.shape import Shape
from mtbert.model.sources import ENCODERS
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.text import as_line
from mtbert.registry import Registry
from mtbert.schedules import SCHEDULES
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.keeping import KEEP_RULES
from mtbert.training.observers import OBSERVERS
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.table import WEIGHTINGS

TABLES: dict[str, Registry[Any]] = {
    "encoders": ENCODERS,
    "kinds of task": KINDS,
    "poolings": POOLINGS,
    "pair features": FEATURES,
    "heads": HEADS,
    "task modules": TASK_MODULES,
    "samplers": SAMPLERS,
    "schedules": SCHEDULES,
    "optimizers": OPTIMIZERS,
    "regularizers": REGULARIZERS,
    "combiners": COMBINERS,
    "loss weightings": WEIGHTINGS,
    "observers": OBSERVERS,
    "keep rules": KEEP_RULES,
    "parts to train": SELECTORS,
}


# how docstrings name their sources: report 'Title', or (Devlin et al., 2019; Reimers and Gurevych, 2019)
REPORT = r"report '[^']+'"
PAPER = r"[A-Z][^();]*? \d{4}[a-z]?"

# family -> how a recipe names one of it; braces stand for the name, or {name: ..., option: value}
PLACES = {
    "encoders": "encoder: {}",
    "kinds of task": "kind: {}",
    "poolings": "pooling: {}",
    "pair features": "features: {}",
    "heads": "head: {}",
    "task modules": "modules: [{}]",
    "samplers": "sampler: {}",
    "schedules": "schedule: {}",
    "optimizers": "optimizer: {}",
    "regularizers": "regularizers: [{}]",
    "combiners": "combiner: {}",
    "loss weightings": "weighting: {}",
    "observers": "observe: [{}]",
    "keep rules": "keep: {}",
    "parts to train": "train: [{}]",
}

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
class Method:
    """An entry of a table, as its docstring and signature tell it."""

    family: str
    name: str
    summary: str  # the docstring's first sentence, without its sources
    papers: list[str]
    text: str  # the whole docstring
    options: dict[str, Option]
    example: str  # a line of a recipe
    size: Size | None  # of task modules

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def line(self) -> str:
        """Summary, sources, size, options and their defaults in a line."""
        unsaid = "; ".join(paper for paper in self.papers if paper not in self.summary)
        papers = f" ({unsaid})" if unsaid else ""
        size = f"; {self.size}" if self.size else ""
        options = ", ".join(
            name if option.required else f"{name}={option.default}" for name, option in self.options.items()
        )
        return f"{self.summary}{papers}{size}" + (f" [{options}]" if options else "")


def list_methods() -> dict[str, dict[str, Method]]:
    """family -> name -> method, for all there are."""
    return {family: {name: _method(family, name) for name in table} for family, table in TABLES.items()}


def find_methods(name: str) -> list[Method]:
    """The methods of this name, whichever table they stand in; raises Mistake where there is none."""
    found = [_method(family, name) for family, table in TABLES.items() if name in table]
    if not found:
        raise Mistake(unknown("method", name, dict.fromkeys(one for table in TABLES.values() for one in table)))
    return found


def _method(family: str, name: str) -> Method:
    table = TABLES[family]
    text = inspect.getdoc(table[name]) or ""
    options = _options(table, name)
    return Method(
        family,
        name,
        _summary(text),
        _papers(text),
        text,
        options,
        PLACES[family].format(_entry(family, name, options)),
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
    """The first sentence, sources taken out."""
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(text.split("\n\n")[0].split()))[0]
    return re.sub(rf"\s*\((?:{REPORT}|{PAPER})(?:; (?:{REPORT}|{PAPER}))*\)", "", sentence).removesuffix(".")


def _papers(text: str) -> list[str]:
    """The sources it names, each once: reports anywhere, papers in parentheses."""
    found = re.findall(rf"{REPORT}|(?:(?<=\()|(?<=; )){PAPER}(?=[);])", " ".join(text.split()))
    return list(dict.fromkeys(found))


def _entry(family: str, name: str, options: dict[str, Option]) -> str:
    """The method as a recipe writes it, with its defaults; the keys of a task stand beside its kind."""
    given = {key: "..." if option.required else option.default for key, option in options.items()}
    return as_line({"name": name, **given}) if given and TABLES[family] is not KINDS else name


def _size(name: str) -> Size | None:
    """The size of a task module, counted without storage; None where it depends on what a recipe must give."""
    for task in SAMPLE_TASKS:
        with suppress(Mistake), torch.device("meta"):
            model = MultiTask(Encoder(Shape()), [task], [ModulePlan(name, TASK_MODULES.complete(name, {}))])
            added, encoder = (_count(part) for part in (model.modules_by_task, model.encoder))
            return Size(added, added / encoder)
    return None


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _said(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(map(_said, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = {"integer": "whole number", "number": "number", "boolean": "true | false", "string": "text", "null": "null"}
    if schema.get("type") == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        many = f"{least} " if least is not None and least == most else ""
        item = schema.get("items") or schema.get("prefixItems", [{}])[0]
        return f"list of {many}({_said(item)})"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"names with a {_said(values)} each" if isinstance(values, Mapping) else "{name: ..., option: ...}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f" from {low:g} to {high:g}" if low is not None and high is not None else ""
    if not bounds:
        words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
        bounds = "".join(f", {word} {schema[key]:g}" for key, word in words.items() if key in schema)
    return kind.get(schema.get("type", ""), "anything") + bounds
