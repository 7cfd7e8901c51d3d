"""The recipe: one YAML file (or dict) and key=value overrides, checked on reading, every default filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from mtbert.data.samplers import SAMPLERS
from mtbert.data.tasks import KINDS, Task
from mtbert.errors import Mistake, unknown
from mtbert.model.encoders import ENCODERS
from mtbert.model.heads import FEATURES, HEADS, POOLINGS
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.registry import Count, Positive, Registry
from mtbert.schedules import SCHEDULES
from mtbert.training.gradients import COMBINERS
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers import REGULARIZERS
from mtbert.training.selection import SELECTORS

Place = tuple[str | int, ...]  # where in the recipe: ("stages", 0, "sampler")
M = TypeVar("M", bound=BaseModel)


class Method(BaseModel):
    """A name from a table and its options, all filled in: `name`, or `{name: ..., option: value}` in the recipe."""

    model_config = ConfigDict(frozen=True)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}


def _method(table: Registry[Any], default: str | None, given: Any) -> Method:
    if isinstance(given, Method):
        return given
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        raise Mistake(f"write a name, or {{name: ..., option: value}}, not {given!r}")
    name = given.get("name", default)
    if name is None:
        raise Mistake(f"needs a name: {', '.join(table)}")
    return Method(
        name=name, options=table.complete(name, {key: value for key, value in given.items() if key != "name"})
    )


def _encoder(given: Any) -> Method:
    """A name from the table, or a folder or hub id, which take the options of any published encoder."""
    name = given.get("name") if isinstance(given, Mapping) else given
    if isinstance(given, Method) or name in ENCODERS or not isinstance(name, str):
        return _method(ENCODERS, "minilm", given)
    options = {key: value for key, value in given.items() if key != "name"} if isinstance(given, Mapping) else {}
    return Method(name=name, options=ENCODERS.complete("minilm", options))


Encoder = Annotated[Method, BeforeValidator(_encoder)]
Sampler = Annotated[Method, BeforeValidator(partial(_method, SAMPLERS, "proportional"))]
Optimizer = Annotated[Method, BeforeValidator(partial(_method, OPTIMIZERS, "adamw"))]
Schedule = Annotated[Method, BeforeValidator(partial(_method, SCHEDULES, "linear"))]
Combiner = Annotated[Method, BeforeValidator(partial(_method, COMBINERS, "sum"))]
Regularizer = Annotated[Method, BeforeValidator(partial(_method, REGULARIZERS, None))]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda given: (given,) if isinstance(given, str) else given)]


class Stage(BaseModel):
    """One stretch of training: an entry of `stages:`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    tasks: Names | None = None
    sampler: Sampler = Field(default="proportional")
    epochs: Positive | None = None
    steps: Count | None = None
    steps_per_epoch: Count | None = None
    batch_size: Count = 32
    train: Names = ("all",)
    optimizer: Optimizer = Field(default="adamw")
    schedule: Schedule = Field(default="linear")
    clip: Positive | None = 1.0
    regularizers: tuple[Regularizer, ...] = ()
    combiner: Combiner = Field(default="sum")
    evaluate_every: Count | None = None
    patience: Count | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Stage:
        if (self.epochs is None) == (self.steps is None):
            given = "neither" if self.epochs is None else "both"
            raise Mistake(f"a stage is `epochs` or `steps` long; {given} is given (key=null unsets a value)")
        return self


class Recipe(BaseModel):
    """Everything a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    encoder: Encoder = Field(default="minilm")
    data: str = "."
    tasks: dict[str, SerializeAsAny[Task]] = Field(min_length=1)
    modules: tuple[ModulePlan, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    keep: str = "overall"
    seed: int = Field(11711, ge=0)

    @field_serializer("tasks")
    def _tasks_by_name(self, tasks: dict[str, Task]) -> dict[str, Any]:
        return {name: _dumped(task) for name, task in tasks.items()}

    @field_serializer("modules")
    def _flat_modules(self, plans: tuple[ModulePlan, ...]) -> list[dict[str, Any]]:
        flat = [asdict(plan) for plan in plans]
        return [{key: value for key, value in plan.items() if key != "options"} | plan["options"] for plan in flat]

    def as_yaml(self) -> str:
        """The recipe with every default filled in; reading it gives the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)

    def source(self, task: str, split: str) -> Any:
        """Where a task's rows of a split are: a path, a table, or None where the recipe names none."""
        given = getattr(self.tasks[task], split)
        return Path(self.data) / given if isinstance(given, (str, Path)) else given


def read_recipe(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), data: str | Path | None = None
) -> Recipe:
    """Read a recipe file or dict; raises Mistake naming file, line and value of everything that is wrong in it.

    Paths in a recipe are relative to its `data` folder, which is relative to the recipe's own folder; `data` given here
    is relative to where one stands.
    """
    text = _Text(source)
    given = text.content
    for override in overrides:
        _override(given, override)
    if data is not None and not Path(data).is_dir():
        raise Mistake(f"there is no data folder {data}")
    given["data"] = str(Path(data or text.folder / str(given.get("data", "."))).resolve())

    reader = _Reader(text)
    tasks = reader.mapping(given.get("tasks"), "tasks")
    recipe = reader.model(
        Recipe,
        given
        | {
            "tasks": {name: reader.task(name, entry) for name, entry in tasks.items()},
            "modules": [reader.module(i, entry) for i, entry in enumerate(reader.listing(given, "modules"))],
            "stages": [
                reader.model(Stage, entry, ("stages", i)) for i, entry in enumerate(reader.listing(given, "stages"))
            ],
        },
        (),
    )
    if not reader.problems:
        reader.cross_check(recipe)
    if reader.problems:
        raise Mistake("\n".join(reader.problems))
    return recipe


class _Text:
    """A recipe as it came, and the lines its parts stand on."""

    def __init__(self, source: str | Path | Mapping[str, Any]) -> None:
        self.node: yaml.Node | None = None
        if isinstance(source, Mapping):
            self.name, self.folder = "recipe", Path()
            self.content: dict[str, Any] = _copied(source)
            return
        path = Path(source)
        self.name, self.folder = str(path), path.parent
        if not path.is_file():
            raise Mistake(f"there is no recipe {path}")
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            self.node = loader.get_single_node()
            content = loader.construct_document(self.node) if self.node else None
        except UnicodeDecodeError:
            raise Mistake(f"{path} is not text in UTF-8") from None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise Mistake(f"{path}{line}: {error.problem}") from None
        except yaml.YAMLError as error:
            raise Mistake(f"{path}: {error}") from None
        if not isinstance(content, dict):
            raise Mistake(f"{path} is not a recipe: it holds no `tasks:` and `stages:`")
        self.content = content

    def at(self, place: Place) -> str:
        """'recipe.yaml, line 12' for a place in the recipe, or the nearest that the file shows."""
        if self.node is None:
            return self.name
        node, line = self.node, 0
        for step in place:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == str(step)]
                if not found:
                    break
                line, node = found[0][0].start_mark.line, found[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
        return f"{self.name}, line {line + 1}"


class _Reader:
    """Turns the parts of a recipe into checked ones, and collects what is wrong with them."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.problems: list[str] = []

    def problem(self, place: Place, message: str) -> None:
        where = ".".join(map(str, place))
        self.problems.append(f"{self.text.at(place)}: {where + ': ' if where else ''}{message}")

    def model(self, kind: type[M], given: Any, place: Place) -> M | Any:
        if not isinstance(given, Mapping):
            self.problem(place, f"holds {given!r} where keys and values are expected")
            return None
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            for one in error.errors():
                key = one["loc"]
                if one["type"] == "extra_forbidden":
                    message = unknown("key", key[-1], [name for name in kind.model_fields if name != "name"])
                elif one["type"] == "missing":
                    message = f"needs `{key[-1]}`"
                elif one["type"] == "value_error":
                    message = str(one["ctx"]["error"])
                else:
                    message = f"{one['msg'][0].lower()}{one['msg'][1:]} (found {one['input']!r})"
                if one["input"] is not None or one["type"] != "model_type":  # said already where it arose
                    self.problem((*place, *key), message)
            return None

    def task(self, name: Any, given: Any) -> Task | None:
        place = ("tasks", str(name))
        if not isinstance(given, Mapping) or "kind" not in given:
            self.problem(place, f"needs a `kind`: {' or '.join(KINDS)}")
            return None
        kind: Any = self.attempt((*place, "kind"), lambda: KINDS[given["kind"]])
        return None if kind is None else self.model(kind, {**given, "name": str(name)}, place)

    def module(self, index: int, given: Any) -> ModulePlan | None:
        place = ("modules", index)
        entry = {"name": given} if isinstance(given, str) else given
        if not isinstance(entry, Mapping):
            self.problem(place, f"write a name, or {{name: ..., option: value}}, not {given!r}")
            return None
        tasks, shared = entry.get("tasks"), entry.get("shared", False)
        options = {key: value for key, value in entry.items() if key not in ("tasks", "shared")}
        method = self.attempt(place, lambda: _method(TASK_MODULES, None, options))
        if not isinstance(shared, bool):
            self.problem((*place, "shared"), f"is {shared!r}, not true or false")
        names = (tasks,) if isinstance(tasks, str) else tasks
        return method and ModulePlan(method.name, method.options, None if names is None else tuple(names), shared)

    def attempt(self, place: Place, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Mistake as mistake:
            self.problem(place, str(mistake))
            return None

    def mapping(self, given: Any, key: str) -> Mapping[str, Any]:
        if given is not None and not isinstance(given, Mapping):
            self.problem((key,), f"holds {given!r} where names and their settings are expected")
        return given if isinstance(given, Mapping) else {}

    def listing(self, given: Mapping[str, Any], key: str) -> Sequence[Any]:
        entries = given.get(key) or []
        if not isinstance(entries, list):
            self.problem((key,), "is a list: each entry begins with a dash")
            return []
        return entries

    def cross_check(self, recipe: Recipe) -> None:
        """What one part says of another."""
        for name, task in recipe.tasks.items():
            for field, table in {"pooling": POOLINGS, "features": FEATURES, "head": HEADS}.items():
                self.attempt(
                    ("tasks", name, field), lambda table=table, task=task, field=field: table[getattr(task, field)]
                )
        for index, stage in enumerate(recipe.stages):
            for part in stage.train:
                self.attempt(("stages", index, "train"), lambda part=part: SELECTORS[part])
            self._known_tasks(stage.tasks or (), recipe, ("stages", index, "tasks"))
        for index, plan in enumerate(recipe.modules):
            self._known_tasks(plan.tasks or (), recipe, ("modules", index, "tasks"))
        if recipe.keep not in ("overall", *recipe.tasks):
            self.problem(("keep",), unknown("rule or task", recipe.keep, ["overall", *recipe.tasks]))

    def _known_tasks(self, names: Sequence[str], recipe: Recipe, place: Place) -> None:
        for name in names:
            if name not in recipe.tasks:
                self.problem(place, unknown("task", name, recipe.tasks))


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key given twice is an error, `5e-5` is a number, `yes` and `no` are texts."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, int] = {}
        for key, _ in node.value:
            if key.value in first:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' is given twice (first on line {first[key.value] + 1})", key.start_mark
                )
            first[key.value] = key.start_mark.line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf)|\.(?:nan|NaN))$"
    ),
    list("-+0123456789."),
)


def _override(recipe: dict[str, Any], override: str) -> None:
    """Apply one `stages.0.batch_size=64`."""
    key, equals, value = override.partition("=")
    if not equals:
        raise Mistake(f"'{override}' is neither an option nor key=value")
    try:
        parsed = yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise Mistake(f"{override}: '{value}' is not a YAML value") from None

    *path, last = key.split(".")
    place: Any = recipe
    for step in path:
        place = _entered(place, step, override)
    if isinstance(place, list):
        place[_index(place, last, override)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise Mistake(f"{override}: '{'.'.join(path)}' holds {place!r}, which has no '{last}'")


def _entered(place: Any, step: str, override: str) -> Any:
    if isinstance(place, list):
        index = _index(place, step, override)
        if isinstance(place[index], str):
            place[index] = {"name": place[index]}
        return place[index]
    if not isinstance(place, dict):
        raise Mistake(f"{override}: {place!r} has no '{step}'")
    if isinstance(place.get(step), str):  # `optimizer: adamw` is short for `optimizer: {name: adamw}`
        place[step] = {"name": place[step]}
    return place.setdefault(step, {})


def _index(entries: list[Any], step: str, override: str) -> int:
    if not step.isdigit() or int(step) >= len(entries):
        raise Mistake(f"{override}: there is no entry {step}; entries are 0 to {len(entries) - 1}")
    return int(step)


def _copied(given: Any) -> Any:
    """Nested dicts and lists anew, so that overrides do not reach the caller's; everything else as it is."""
    if isinstance(given, Mapping):
        return {key: _copied(value) for key, value in given.items()}
    return [_copied(value) for value in given] if isinstance(given, (list, tuple)) else given


def _dumped(task: Task) -> dict[str, Any]:
    tables = {split for split in ("train", "dev", "test") if not isinstance(getattr(task, split), (str, type(None)))}
    dumped = task.model_dump(mode="json", exclude={"name", *tables})
    return dumped | dict.fromkeys(sorted(tables), None)
