"""The recipe: one YAML file (or dict) and key=value overrides, checked on reading, every default filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Strict,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from mtbert.data.samplers.table import SAMPLERS
from mtbert.data.tasks import KINDS, Task
from mtbert.errors import Mistake, MistakeAt, Place, unknown
from mtbert.model.heads import FEATURES, HEADS, POOLINGS
from mtbert.model.parameters.selection import SELECTORS
from mtbert.model.sources import ENCODERS, complete_options
from mtbert.model.task_modules.base import ModulePlan
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.text import RecipeText, as_text
from mtbert.registry import Count, OptionMistake, Positive, Registry
from mtbert.schedules import SCHEDULES
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.keeping import KEEP_RULES
from mtbert.training.observers import OBSERVERS
from mtbert.training.optimizer import OPTIMIZERS
from mtbert.training.regularizers.table import REGULARIZERS
from mtbert.training.weightings.table import WEIGHTINGS

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
    if name not in table:
        raise OptionMistake(unknown(table.family, name, table), "name")
    return Method(
        name=name, options=table.complete(name, {key: value for key, value in given.items() if key != "name"})
    )


def _encoder(given: Any) -> Method:
    """A name from the table, or a folder or hub id, which take the options of any published encoder."""
    name = given.get("name") if isinstance(given, Mapping) else given
    if isinstance(given, Method) or name in ENCODERS or not isinstance(name, str):
        return _method(ENCODERS, "minilm", given)
    options = {key: value for key, value in given.items() if key != "name"} if isinstance(given, Mapping) else {}
    return Method(name=name, options=complete_options(name, options))


def _part(given: Any) -> Method:
    """A part to train; `{layers: [4, 5]}` is short for `{name: layers, which: [4, 5]}`."""
    if isinstance(given, Mapping) and len(given) == 1:
        [(name, value)] = given.items()
        options = SELECTORS.options(name) if name in SELECTORS else {}
        given = {"name": name} | dict.fromkeys(options, value) if options else given
    return _method(SELECTORS, None, given)


Encoder = Annotated[Method, BeforeValidator(_encoder)]
Sampler = Annotated[Method, BeforeValidator(partial(_method, SAMPLERS, "proportional"))]
Optimizer = Annotated[Method, BeforeValidator(partial(_method, OPTIMIZERS, "adamw"))]
Schedule = Annotated[Method, BeforeValidator(partial(_method, SCHEDULES, "linear"))]
Combiner = Annotated[Method, BeforeValidator(partial(_method, COMBINERS, "sum"))]
Weighting = Annotated[Method, BeforeValidator(partial(_method, WEIGHTINGS, "fixed"))]
Observer = Annotated[Method, BeforeValidator(partial(_method, OBSERVERS, None))]
KeepRule = Annotated[Method, BeforeValidator(partial(_method, KEEP_RULES, "best"))]
Regularizer = Annotated[Method, BeforeValidator(partial(_method, REGULARIZERS, None))]
Part = Annotated[Method, BeforeValidator(_part)]


def _default(name: str) -> Any:
    return Field(default=name)  # a name, completed like one that was written


def _one_or_more(given: Any) -> Any:
    return (given,) if isinstance(given, (str, Mapping)) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]


class Stage(BaseModel):
    """One stretch of training: an entry of `stages:`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    tasks: Annotated[Names, Field(min_length=1)] | None = None
    sampler: Sampler = _default("proportional")
    epochs: Positive | None = None
    steps: Count | None = None
    steps_per_epoch: Count | None = None
    batch_size: Count = 32
    train: Annotated[tuple[Part, ...], BeforeValidator(_one_or_more)] = _default("all")
    cache_features: bool = True
    optimizer: Optimizer = _default("adamw")
    schedule: Schedule = _default("linear")
    clip: Positive | None = 1.0
    regularizers: tuple[Regularizer, ...] = ()
    combiner: Combiner = _default("sum")
    weighting: Weighting = _default("fixed")
    reduction: Literal["mean", "fixed_batch"] = "mean"
    accumulate: Count = 1
    observe: Annotated[tuple[Observer, ...], BeforeValidator(_one_or_more)] = ()
    evaluate_every: Count | None = None
    patience: Count | None = None
    keep: KeepRule = _default("best")
    for_each_task: bool = False

    @field_serializer("train")
    def _short(self, parts: tuple[Method, ...]) -> list[Any]:
        return [part.model_dump() if part.options else part.name for part in parts]

    @field_validator("regularizers", "observe")
    @classmethod
    def _each_once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        names = [one.name for one in methods]
        for name in names:
            if names.count(name) > 1:
                raise Mistake(f"'{name}' is given twice")
        return methods

    @model_validator(mode="after")
    def _one_length(self) -> Stage:
        if (self.epochs is None) == (self.steps is None):
            given = "neither is" if self.epochs is None else "both are"
            raise Mistake(f"a stage is `epochs` or `steps` long; {given} given (key=null unsets a value)")
        return self


class Base(BaseModel):
    """The run whose kept model a recipe goes on from, and the tasks that come from it; `mtbert add-task` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    tasks: Annotated[Names, Field(min_length=1)]


class Recipe(BaseModel):
    """Everything a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    base: Base | None = None
    encoder: Encoder = _default("minilm")
    data: str = "."
    tasks: dict[str, SerializeAsAny[Task]] = Field(min_length=1)
    modules: tuple[ModulePlan, ...] = ()
    stages: tuple[Stage, ...] = Field(min_length=1)
    keep: str = "overall"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    recompute: bool = False
    save_every: Positive | None = 600.0
    seed: Annotated[int, Strict()] = Field(11711, ge=0)
    _text: RecipeText | None = PrivateAttr(None)

    @field_serializer("tasks")
    def _tasks_by_name(self, tasks: dict[str, Task]) -> dict[str, Any]:
        return {name: _dumped(task) for name, task in tasks.items()}

    @field_serializer("modules")
    def _flat_modules(self, plans: tuple[ModulePlan, ...]) -> list[dict[str, Any]]:
        flat = [asdict(plan) for plan in plans]
        return [{key: value for key, value in plan.items() if key != "options"} | plan["options"] for plan in flat]

    def as_yaml(self) -> str:
        """The recipe with every default filled in; reading it gives the same recipe."""
        return as_text(self.model_dump(mode="json"))

    def unrolled(self) -> list[tuple[int, Stage]]:
        """The stages as they are run, each with the number of its entry: one a task where it says so."""
        return [
            (number, stage if names is None else stage.model_copy(update={"tasks": names}))
            for number, stage in enumerate(self.stages)
            for names in ([(task,) for task in stage.tasks or self.tasks] if stage.for_each_task else [None])
        ]

    @property
    def learned(self) -> list[str]:
        """The tasks that this recipe trains: all but those of its base."""
        return [name for name in self.tasks if self.base is None or name not in self.base.tasks]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__  # wherever the two were read

    def without_lines(self) -> Recipe:
        """The same recipe, of whose places no file knows the lines."""
        other = self.model_copy()
        other._text = None
        return other

    @contextmanager
    def lines(self) -> Iterator[None]:
        """Mistakes at a place in this recipe say file and line, where it was read from one."""
        try:
            yield
        except MistakeAt as mistake:
            if self._text is None:
                raise
            raise Mistake(self._text.say(mistake.place, mistake.message)) from None

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
    text = RecipeText(source)
    for assignment in overrides:
        text.override(assignment)
    given = text.content
    if data is not None and not Path(data).is_dir():
        raise Mistake(f"there is no data folder {data}")
    reader = _Reader(text)
    folder = given.get("data") or "."
    if not isinstance(folder, (str, Path)):
        reader.problem(("data",), f"is {folder!r}, not a folder")
        reader.raise_problems()
    given["data"] = str(Path(data or text.folder / folder).resolve())

    parts: dict[str, Any] = {
        "tasks": {name: reader.task(name, entry) for name, entry in reader.mapping(given, "tasks").items()},
        "modules": [reader.module(i, entry) for i, entry in enumerate(reader.listing(given, "modules"))],
        "stages": [
            reader.model(Stage, entry, ("stages", i)) for i, entry in enumerate(reader.listing(given, "stages"))
        ],
    }
    reader.raise_problems()
    recipe: Recipe = reader.model(Recipe, given | parts, ())
    reader.raise_problems()
    reader.cross_check(recipe)
    reader.raise_problems()
    recipe._text = text
    return recipe


class _Reader:
    """Turns the parts of a recipe into checked ones, and collects what is wrong with them."""

    def __init__(self, text: RecipeText) -> None:
        self.text = text
        self.problems: list[str] = []

    def raise_problems(self) -> None:
        if self.problems:
            raise Mistake("\n".join(self.problems))

    def problem(self, place: Place, message: str) -> None:
        self.problems.append(self.text.say(place, message))

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
                    mistake = one["ctx"]["error"]
                    message = str(mistake)
                    key = (*key, mistake.option) if isinstance(mistake, OptionMistake) else key
                elif one["type"] == "too_short":
                    message = f"needs at least {one['ctx']['min_length']}"
                elif one["type"] == "too_long":
                    message = f"takes at most {one['ctx']['max_length']} (found {one['input']!r})"
                elif one["type"] == "tuple_type":
                    message = f"is a list: [..., ...] (found {one['input']!r})"
                else:
                    message = f"{one['msg'][0].lower()}{one['msg'][1:]} (found {one['input']!r})"
                self.problem((*place, *key), message)
            return None

    def task(self, name: Any, given: Any) -> Task | None:
        place = ("tasks", str(name))
        if not isinstance(given, Mapping) or "kind" not in given:
            self.problem(place, f"needs a `kind`: {' or '.join(KINDS)}")
            return None
        kind: Any = self.attempt((*place, "kind"), lambda: KINDS[given["kind"]])
        if kind is not None and "name" in given:
            keys = [key for key in kind.model_fields if key != "name"]
            self.problem((*place, "name"), unknown("key", "name", keys))
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
        names = [tasks] if isinstance(tasks, str) else tasks
        if names is not None and not (
            isinstance(names, list) and names and all(isinstance(name, str) for name in names)
        ):
            self.problem((*place, "tasks"), f"is {tasks!r}, not a list of tasks (leave it out for all of them)")
            return None
        if method is None or not isinstance(shared, bool):
            return None
        return ModulePlan(method.name, method.options, None if names is None else tuple(names), shared)

    def attempt(self, place: Place, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Mistake as mistake:
            self.problem((*place, mistake.option) if isinstance(mistake, OptionMistake) else place, str(mistake))
            return None

    def mapping(self, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        entries = given.get(key) or {}
        if not isinstance(entries, Mapping):
            self.problem((key,), f"holds {entries!r} where names and their settings are expected")
            return {}
        return entries

    def listing(self, given: Mapping[str, Any], key: str) -> Sequence[Any]:
        entries = given.get(key) or []
        if not isinstance(entries, list):
            self.problem((key,), "is a list: each entry begins with a dash")
            return []
        return entries

    def cross_check(self, recipe: Recipe) -> None:
        """What one part says of another."""
        for name, task in recipe.tasks.items():
            self._in_table(POOLINGS, task.pooling, ("tasks", name, "pooling"))
            self._in_table(FEATURES, task.features, ("tasks", name, "features"))
            self._in_table(HEADS, task.head, ("tasks", name, "head"))
        for index, stage in enumerate(recipe.stages):
            self._known_tasks(stage.tasks or (), recipe, ("stages", index, "tasks"))
            for number, one in enumerate(stage.regularizers):
                place = ("stages", index, "regularizers", number, "tasks")
                self._known_tasks(one.options["tasks"] or (), recipe, place)
                for name in set(one.options["tasks"] or ()) & set(recipe.tasks) - set(stage.tasks or recipe.tasks):
                    self.problem(place, f"'{name}' is none of the tasks of this stage: {', '.join(stage.tasks or ())}")
        for index, plan in enumerate(recipe.modules):
            self._known_tasks(plan.tasks or (), recipe, ("modules", index, "tasks"))
        measures = ["overall", "mean", *recipe.learned]
        self._known_measure(recipe.keep, measures, ("keep",))
        for index, stage in enumerate(recipe.stages):
            if index == 0 and getattr(KEEP_RULES[stage.keep.name], "needs_earlier_stage", False):
                said = f"'{stage.keep.name}' compares with an earlier stage, and there is none"
                self.problem(("stages", 0, "keep"), said)
            self._known_measure(stage.keep.options.get("by") or "overall", measures, ("stages", index, "keep", "by"))
        if recipe.base is not None:
            self._base(recipe, recipe.base)

    def _base(self, recipe: Recipe, base: Base) -> None:
        """Tasks that come from elsewhere are not trained."""
        self._known_tasks(base.tasks, recipe, ("base", "tasks"))
        if not recipe.learned:
            self.problem(("tasks",), f"all of them come from {base.run}: there is none to add")
        for index, stage in enumerate(recipe.stages):
            for name in stage.tasks or base.tasks:
                if name in base.tasks:
                    message = (
                        f"'{name}' comes from {base.run} and is frozen (tasks to train: {', '.join(recipe.learned)})"
                    )
                    self.problem(("stages", index, "tasks"), message)

    def _known_measure(self, name: str, measures: Sequence[str], place: Place) -> None:
        if name not in measures:
            self.problem(place, unknown("measure", name, measures))

    def _in_table(self, table: Registry[Any], name: str, place: Place) -> None:
        if name not in table:
            self.problem(place, unknown(table.family, name, table))

    def _known_tasks(self, names: Sequence[str], recipe: Recipe, place: Place) -> None:
        for name in names:
            if name not in recipe.tasks:
                self.problem(place, unknown("task", name, recipe.tasks))
        for name in {name for name in names if names.count(name) > 1}:
            self.problem(place, f"names '{name}' twice")


def _dumped(task: Task) -> dict[str, Any]:
    tables = {split for split in ("train", "dev", "test") if not isinstance(getattr(task, split), (str, type(None)))}
    dumped = task.model_dump(mode="json", exclude={"name", *tables})
    return dumped | dict.fromkeys(sorted(tables), None)
