"""Every family of methods that a recipe names from: the one list for reading, building and the catalogue.

A new family is a line here, and a field of the section that it stands in: `Recipe` or `Stage` (schema.py), or `Task`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mtbert.data.kinds.table import KINDS
from mtbert.data.samplers.table import SAMPLERS
from mtbert.model.heads.head import HEADS
from mtbert.model.heads.pair_features import FEATURES
from mtbert.model.heads.pooling import POOLINGS
from mtbert.model.parameters.selection import SELECTORS
from mtbert.model.sources import ENCODERS
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.registry import Choice, Registry
from mtbert.schedules import SCHEDULES
from mtbert.training.averaging import AVERAGES
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.keeping import KEEP_RULES
from mtbert.training.loggers.table import LOGGERS
from mtbert.training.observers import OBSERVERS
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.table import WEIGHTINGS


def _as_written(given: Any) -> Any:
    return given


def _part_spelt_out(given: Any) -> Any:
    """`{layers: [4, 5]}` is short for `{name: layers, which: [4, 5]}`."""
    if not isinstance(given, Mapping) or len(given) != 1:
        return given
    [(name, value)] = given.items()
    options = SELECTORS.options(name) if name in SELECTORS else {}
    return {"name": name} | dict.fromkeys(options, value) if options else given


@dataclass(frozen=True)
class Family:
    """A family of methods, and how a recipe names one of it."""

    word: str  # the key under which a recipe names one
    title: str  # of its table in the catalogue
    table: Registry[Any]
    section: Literal["recipe", "task", "stage"]  # where the key stands
    default: str | None = None  # the method where a recipe names none
    listed: bool = False  # whether the key takes several methods
    spelt_out: Callable[[Any], Any] = _as_written  # undoes what the family alone lets a recipe write shorter

    def choose(self, given: Any) -> Choice[Any]:
        """The method that a recipe names, with its options checked and complete.

        Options without a name are those of the default method; in a list every entry names its own. Raises Mistake as
        `Registry.choose` does.
        """
        return self.table.choose(self.spelt_out(given), None if self.listed else self.default)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In `Annotated[Choice[...], family]` the family reads the field, and writes it as a recipe does."""
        written = core_schema.plain_serializer_function_ser_schema(lambda choice: choice.written)
        return core_schema.no_info_plain_validator_function(self.choose, serialization=written)

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Anything: which methods there are is said once for all places (completion.py)."""
        return {}

    def line(self, entry: str) -> str:
        """A line of a recipe that names one method."""
        return f"{self.word}: [{entry}]" if self.listed else f"{self.word}: {entry}"


FAMILIES: dict[str, Family] = {
    family.word: family
    for family in (
        Family("encoder", "encoders", ENCODERS, "recipe", "minilm"),
        Family("kind", "kinds of task", KINDS, "task"),
        Family("pooling", "poolings", POOLINGS, "task"),
        Family("features", "pair features", FEATURES, "task"),
        Family("head", "heads", HEADS, "task"),
        Family("modules", "task modules", TASK_MODULES, "recipe", listed=True),
        Family("sampler", "samplers", SAMPLERS, "stage", "proportional"),
        Family("schedule", "schedules", SCHEDULES, "stage", "linear"),
        Family("optimizer", "optimizers", OPTIMIZERS, "stage", "adamw"),
        Family("regularizers", "regularizers", REGULARIZERS, "stage", listed=True),
        Family("combiner", "combiners", COMBINERS, "stage", "sum"),
        Family("weighting", "loss weightings", WEIGHTINGS, "stage", "fixed"),
        Family("observe", "observers", OBSERVERS, "stage", listed=True),
        Family("average", "averages", AVERAGES, "stage", "none"),
        Family("log", "loggers", LOGGERS, "recipe", listed=True),
        Family("keep", "keep rules", KEEP_RULES, "stage", "best"),
        Family("train", "parts to train", SELECTORS, "stage", "all", listed=True, spelt_out=_part_spelt_out),
    )
}
