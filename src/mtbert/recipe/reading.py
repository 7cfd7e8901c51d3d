"""From the text of a recipe, a YAML file or a dict with key=value overrides, to the checked recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mtbert.data.kinds.base import Task
from mtbert.data.kinds.table import KINDS
from mtbert.errors import Mistake, Mistakes, Place, shown, unknown
from mtbert.model.task_modules.base import ModulePlan
from mtbert.recipe.families import FAMILIES
from mtbert.recipe.schema import DEFAULT_STAGE, LENGTHS, Base, Recipe, Stage
from mtbert.recipe.tables import TABLE
from mtbert.recipe.text import FOR_ALL, LIKE, Override, RecipeText
from mtbert.registry import OptionMistake
from mtbert.training.regularizers.base import weights_by_task

M = TypeVar("M", bound=BaseModel)
FOR_THE_TEXT = (LIKE, TABLE, *FOR_ALL)  # keys of a recipe that are gone when its text has been spelt out


def read_recipe(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str | Override] = (),
    data: str | Path | None = None,
) -> Recipe:
    """Read a recipe file or dict; raises Mistake naming file, line and value of everything that is wrong in it.

    Paths in a recipe are relative to its `data` folder, which is relative to the recipe's own folder; `data` given here
    is relative to where one stands.
    """
    text = RecipeText(source)
    text.content.setdefault("stages", [_default_stage(text.content.get("stage_defaults"))])
    for override in overrides:
        text.override(override)
    given = text.spelt_out()
    if data is not None and not Path(data).is_dir():
        raise Mistake(f"there is no data folder {data}")
    reader = _Reader(text)
    folder = given.get("data") or "."
    if not isinstance(folder, (str, Path)):
        reader.problem(("data",), f"is {shown(folder)}, not a folder")
        reader.raise_problems()
    given["data"] = str(Path(data or text.folder / Path(folder).expanduser()).resolve())

    parts: dict[str, Any] = {
        "tasks": {name: reader.task(name, entry) for name, entry in reader.mapping(given, "tasks").items()},
        "modules": [reader.module(i, entry) for i, entry in enumerate(reader.listing(given, "modules"))],
        "stages": [
            reader.model(Stage, entry, ("stages", i)) for i, entry in enumerate(reader.listing(given, "stages"))
        ],
    }
    for name, weight in reader.mapping(given, "overall").items():
        if name not in parts["tasks"]:
            reader.problem(("overall", name), unknown("task", name, parts["tasks"]))
        elif isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < 1e9:
            reader.problem(("overall", name), f"is {shown(weight)}, not a number above 0")
        elif parts["tasks"][name] is not None:
            parts["tasks"][name] = parts["tasks"][name].model_copy(update={"counts": float(weight)})
    read = {name: task for name, task in parts["tasks"].items() if task is not None}
    reader.readable = Readable(given["data"], read | reader.rests)
    reader.raise_problems()
    recipe: Recipe = reader.model(Recipe, given | parts, ())
    reader.raise_problems()
    reader.cross_check(recipe)
    reader.raise_problems()
    recipe._text = text
    return recipe


def _default_stage(of_all_stages: Any) -> dict[str, Any]:
    """The stage of a recipe that names none, but for what the recipe says of all stages."""
    said = set(of_all_stages) if isinstance(of_all_stages, Mapping) else set()
    left_out = said | ({"epochs"} if said & set(LENGTHS) else set())
    return {key: deepcopy(value) for key, value in DEFAULT_STAGE.items() if key not in left_out}


class Readable(NamedTuple):
    """What can be read of a recipe that has mistakes: its data folder, and its tasks but for their wrong keys."""

    data: str
    tasks: Mapping[str, Task]


class RecipeMistakes(Mistakes):
    """Everything that is wrong in a recipe, and what of it can be read all the same."""

    def __init__(self, messages: Sequence[str], readable: Readable | None) -> None:
        super().__init__(messages)
        self.readable = readable


class _Reader:
    """Checks the sections of a recipe one by one and collects all mistakes, so that one reading tells every one."""

    def __init__(self, text: RecipeText) -> None:
        self.text = text
        self.problems: list[str] = []
        self.rests: dict[str, Task] = {}  # tasks without the keys that are wrong
        self.readable: Readable | None = None

    def raise_problems(self) -> None:
        if self.problems:
            raise RecipeMistakes(self.problems, self.readable)

    def problem(self, place: Place, message: str) -> None:
        self.problems.append(self.text.say(place, message))

    def model(self, kind: type[M], given: Any, place: Place) -> M | Any:
        if not isinstance(given, Mapping):
            self.problem(place, f"holds {shown(given)} where keys and values are expected")
            return None
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            said: dict[Place, list[str]] = {}
            for one in error.errors():
                key, message = self._mistake(kind, given, one, whole=kind is Recipe and not place)
                said.setdefault(key, []).append(message)
            for key, messages in said.items():  # several where a value may be of several types, and is of none
                self.problem((*place, *key), ", or ".join(dict.fromkeys(messages)))
            return None

    def _mistake(self, kind: type[BaseModel], given: Any, one: Any, whole: bool) -> tuple[Place, str]:
        """Where below a section one of its mistakes stands, and what it is."""
        key = _as_written(one["loc"], given)
        if one["type"] == "extra_forbidden":
            section = _section(kind, key[:-1])
            keys = [name for name in section.model_fields if name != "name" or section is not kind]
            return key, unknown("key", key[-1], [*keys, *(FOR_THE_TEXT if whole else [])])
        if one["type"] == "missing":
            return (*key, one["loc"][-1]), f"needs `{one['loc'][-1]}`"
        if one["type"] == "value_error":
            mistake = one["ctx"]["error"]
            return (*key, mistake.option) if isinstance(mistake, OptionMistake) else key, str(mistake)
        if one["type"] == "too_short":
            return key, f"needs at least {one['ctx']['min_length']}"
        if one["type"] == "too_long":
            return key, f"takes at most {one['ctx']['max_length']} (found {shown(one['input'])})"
        if one["type"] in ("bool_type", "bool_parsing"):
            return key, f"input should be true or false (found {shown(one['input'])})"
        if one["type"] == "tuple_type":
            return key, f"is a list: [..., ...] (found {shown(one['input'])})"
        return key, f"{one['msg'][0].lower()}{one['msg'][1:]} (found {shown(one['input'])})"

    def task(self, name: Any, given: Any) -> Task | None:
        place = ("tasks", str(name))
        if not isinstance(given, Mapping) or "kind" not in given:
            self.problem(place, f"needs a `kind`: {' or '.join(KINDS)}")
            return None
        kind: Any = self.attempt((*place, "kind"), lambda: KINDS[given["kind"]])
        if kind is not None and "name" in given:
            keys = [key for key in kind.model_fields if key != "name"]
            self.problem((*place, "name"), unknown("key", "name", keys))
        if kind is None:
            return None
        whole = {**given, **self.methods(kind, given, place), "name": str(name)}
        task: Task | None = self.model(kind, whole, place)
        if task is None:
            self.keep_rest(kind, whole)
        return task

    def keep_rest(self, kind: type[Task], given: Mapping[str, Any]) -> None:
        """Note what a task is without its wrong keys, if it is one: what is wrong in its files is told too."""
        try:
            self.rests[given["name"]] = kind.model_validate(given)
        except ValidationError as error:
            wrong = {one["loc"][0] for one in error.errors() if one["loc"]}
            if wrong and wrong <= given.keys():
                self.keep_rest(kind, {key: value for key, value in given.items() if key not in wrong})

    def methods(self, kind: type[Task], given: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """The methods that a task names, or has by default, with their options checked and complete."""
        written = {}
        for word, family in FAMILIES.items():
            if family.section != "task" or family.table is KINDS:
                continue
            default = kind.usual_method(word, given)
            named = given.get(word, default)
            chosen = self.attempt((*place, word), partial(family.choose, named))
            written[word] = default if chosen is None else chosen.short
        return written

    def module(self, index: int, given: Any) -> ModulePlan | None:
        place = ("modules", index)
        entry = {"name": given} if isinstance(given, str) else given
        if not isinstance(entry, Mapping):
            self.problem(place, f"write a name, or {{name: ..., option: value}}, not {shown(given)}")
            return None
        tasks, shared = entry.get("tasks"), entry.get("shared", False)
        options = {key: value for key, value in entry.items() if key not in ("tasks", "shared")}
        method = self.attempt(place, lambda: FAMILIES["modules"].choose(options))
        if not isinstance(shared, bool):
            self.problem((*place, "shared"), f"is {shown(shared)}, not true or false")
        names = [tasks] if isinstance(tasks, str) else tasks
        if names is not None and not (
            isinstance(names, list) and names and all(isinstance(name, str) for name in names)
        ):
            self.problem((*place, "tasks"), f"is {shown(tasks)}, not a list of tasks (leave it out for all of them)")
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
            self.problem((key,), f"holds {shown(entries)} where names and their settings are expected")
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
        for index, stage in enumerate(recipe.stages):
            self._known_tasks(stage.tasks or (), recipe, ("stages", index, "tasks"))
            for key in ("batch_size", "reduction"):
                by_task = getattr(stage, key)
                if isinstance(by_task, dict):
                    self._known_tasks(list(by_task), recipe, ("stages", index, key))
            if isinstance(stage.batch_size, dict):
                missing = [name for name in stage.tasks or recipe.learned if name not in stage.batch_size]
                if missing:
                    said = f"names no size for {', '.join(missing)}: write one number, or one for each task"
                    self.problem(("stages", index, "batch_size"), said)
            for number, one in enumerate(stage.regularizers):
                place = ("stages", index, "regularizers", number, "tasks")
                limited = one.options.get("tasks") or ()  # a preset need not leave its tasks open
                self._known_tasks(limited, recipe, place)
                weighed = weights_by_task(one.options.get("weight", 1.0))
                self._known_tasks(list(weighed), recipe, (*place[:-1], "weight"))
                for name in set(limited) & set(recipe.tasks) - set(stage.tasks or recipe.tasks):
                    self.problem(place, f"'{name}' is none of the tasks of this stage: {', '.join(stage.tasks or ())}")
        for index, plan in enumerate(recipe.modules):
            self._known_tasks(plan.tasks or (), recipe, ("modules", index, "tasks"))
        self._unlabelled(recipe)
        every = [f"{name}.{metric}" for name in recipe.learned for metric in recipe.tasks[name].reported]
        measures = ["overall", "mean", *recipe.learned, *every]
        self._known_measure(recipe.keep, measures, recipe.tasks, ("keep",))
        for index, stage in enumerate(recipe.stages):
            if index == 0 and getattr(stage.keep.maker, "needs_earlier_stage", False):
                said = f"'{stage.keep.name}' compares with an earlier stage, and there is none"
                self.problem(("stages", 0, "keep"), said)
            by = stage.keep.options.get("by") or "overall"
            self._known_measure(by, measures, recipe.tasks, ("stages", index, "keep", "by"))
        if recipe.base is not None:
            self._base(recipe, recipe.base)

    def _unlabelled(self, recipe: Recipe) -> None:
        """Texts without labels are there for teachers."""
        taught = {name for stage in recipe.stages if stage.distill for name in stage.tasks or recipe.learned}
        for name, task in recipe.tasks.items():
            if task.unlabelled is not None and name not in taught:
                said = f"nothing learns from texts without labels but a stage with `distill`, and none trains '{name}'"
                self.problem(("tasks", name, "unlabelled"), said)

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

    def _known_measure(self, name: str, measures: Sequence[str], tasks: Mapping[str, Task], place: Place) -> None:
        if name in measures:
            return
        task, _, metric = name.partition(".")
        if task in tasks and metric in tasks[task].all_metrics:
            self.problem(place, f"'{name}' is not reported: set `report: {metric}` on task '{task}'")
        else:
            self.problem(place, unknown("measure", name, measures))

    def _known_tasks(self, names: Sequence[str], recipe: Recipe, place: Place) -> None:
        for name in names:
            if name not in recipe.tasks:
                self.problem(place, unknown("task", name, recipe.tasks))
        for name in {name for name in names if names.count(name) > 1}:
            self.problem(place, f"names '{name}' twice")


def _as_written(steps: Sequence[str | int], given: Any) -> Place:
    """The steps that a recipe's keys and entries are, without those that name one of the types a value may have."""
    written: list[str | int] = []
    for step in steps:
        entries = range(len(given)) if isinstance(given, (list, tuple)) else given
        if isinstance(entries, (range, Mapping)) and step in entries:
            given = given[step]
            written.append(step)
    return tuple(written)


def _section(kind: type[BaseModel], steps: Place) -> type[BaseModel]:
    """The part of a section that its keys lead to."""
    for step in steps:
        parts = _within(kind.model_fields[step].annotation) if step in kind.model_fields else []
        kind = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), kind)
    return kind


def _within(annotation: Any) -> list[Any]:
    return [annotation, *(part for one in get_args(annotation) for part in _within(one))]
