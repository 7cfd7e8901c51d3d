"""What a recipe holds: its sections as checked settings, every default filled in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    Strict,
    field_serializer,
    field_validator,
    model_validator,
)

from mtbert.data.formats.hub import HubSplit
from mtbert.data.kinds.base import SOURCES, Task, share_of
from mtbert.data.samplers.base import Sampler
from mtbert.errors import Mistake, MistakeAt, Place
from mtbert.model.parameters.selection import Selector
from mtbert.model.sources import Source
from mtbert.model.task_modules.base import ModulePlan
from mtbert.recipe.families import FAMILIES
from mtbert.recipe.text import RecipeText, as_text
from mtbert.registry import EACH, ONE, ONE_OR_EACH, Choice, Count, Named, Positive
from mtbert.schedules import Schedule, Varying
from mtbert.training.averaging import Average
from mtbert.training.combiners.base import Combiner
from mtbert.training.keeping import KeepRule
from mtbert.training.loggers.base import Logger
from mtbert.training.observers import Observer
from mtbert.training.optimizer import Optimizer
from mtbert.training.regularizers.base import Regularizer
from mtbert.training.weightings.base import Weighting


def _default(word: str) -> Any:
    """The family's default: a name, completed like one that was written."""
    return Field(default=FAMILIES[word].default)


def _one_or_more(given: Any) -> Any:
    return (given,) if isinstance(given, (str, Mapping)) else given


def _how_many(given: Any) -> str:
    """Whether a number of teachers was meant, or their names."""
    return (ONE if isinstance(given, (int, float)) else EACH).tag


LENGTHS = ("epochs", "steps", "minutes")  # of these keys a stage has one
Reduction = Literal["mean", "fixed_batch"]
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...])]
Part = Annotated[Choice[Selector], FAMILIES["train"]]
Watcher = Annotated[Choice[Observer], FAMILIES["observe"]]


class Distill(BaseModel):
    """The models that a stage learns from beside its labels: those of runs, or of so many that are trained first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: Annotated[Annotated[Count, ONE] | Annotated[Names, Field(min_length=1), EACH], Discriminator(_how_many)]
    share: Varying = 0.5
    temperature: Positive = 1.0


class Stage(BaseModel):
    """One stretch of training: an entry of `stages:`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    tasks: Annotated[Names, Field(min_length=1)] | None = None
    sampler: Annotated[Choice[Sampler], FAMILIES["sampler"]] = _default("sampler")
    epochs: Positive | None = None
    steps: Count | None = None
    minutes: Positive | None = None
    steps_per_epoch: Count | None = None
    batch_size: Annotated[Annotated[Count, ONE] | Annotated[dict[str, Count], EACH], ONE_OR_EACH] = 32
    train: Annotated[tuple[Part, ...], BeforeValidator(_one_or_more)] = _default("train")
    cache_features: bool = True
    optimizer: Annotated[Choice[Optimizer], FAMILIES["optimizer"]] = _default("optimizer")
    schedule: Annotated[Choice[Schedule], FAMILIES["schedule"]] = _default("schedule")
    clip: Positive | None = 1.0
    regularizers: tuple[Annotated[Choice[Regularizer], FAMILIES["regularizers"]], ...] = ()
    combiner: Annotated[Choice[Combiner], FAMILIES["combiner"]] = _default("combiner")
    weighting: Annotated[Choice[Weighting], FAMILIES["weighting"]] = _default("weighting")
    reduction: Annotated[Annotated[Reduction, ONE] | Annotated[dict[str, Reduction], EACH], ONE_OR_EACH] = "mean"
    accumulate: Count = 1
    observe: Annotated[tuple[Watcher, ...], BeforeValidator(_one_or_more)] = ()
    evaluate_every: Count | None = None
    patience: Count | None = None
    keep: Annotated[Choice[KeepRule], FAMILIES["keep"]] = _default("keep")
    distill: Distill | None = None
    average: Annotated[Choice[Average], FAMILIES["average"]] = _default("average")
    for_each_task: bool = False

    @field_serializer("train")
    def _short(self, parts: tuple[Choice[Selector], ...]) -> list[Named]:
        return [part.short for part in parts]

    def divisors(self, tasks: Iterable[str]) -> dict[str, int]:
        """Task -> what the sum of its batch's losses is divided by, for tasks whose loss is not the batch's mean."""
        reductions = self.reduction if isinstance(self.reduction, dict) else dict.fromkeys(tasks, self.reduction)
        return {
            task: self.batch_size if isinstance(self.batch_size, int) else self.batch_size[task]
            for task in tasks
            if reductions.get(task) == "fixed_batch"
        }

    @field_validator("regularizers", "observe")
    @classmethod
    def _each_once(cls, methods: tuple[Choice[Any], ...]) -> tuple[Choice[Any], ...]:
        names = [one.name for one in methods]
        for name in names:
            if names.count(name) > 1:
                raise Mistake(f"'{name}' is given twice")
        return methods

    @model_validator(mode="after")
    def _one_length(self) -> Stage:
        given = [f"`{key}`" for key in LENGTHS if getattr(self, key) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} are" if given else "none is"
            raise Mistake(f"a stage is `epochs`, `steps` or `minutes` long; {said} given (key=null unsets a value)")
        return self


# of a recipe that names none: docs/recipe.md says how it was chosen
DEFAULT_STAGE: Mapping[str, Any] = {"epochs": 5, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 1.2e-4}}


MOST_SEED = 2**62
SEEDS_APART = 1_000_003  # a teacher's seed and the next one's


class Base(BaseModel):
    """The run whose kept model a recipe goes on from, and the tasks that come from it; `mtbert add-task` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    tasks: Annotated[Names, Field(min_length=1)]


class Recipe(BaseModel):
    """Everything a run depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    base: Base | None = None
    encoder: Annotated[Choice[Source], FAMILIES["encoder"]] = _default("encoder")
    data: str = "."
    tasks: dict[str, SerializeAsAny[Task]] = Field(min_length=1)
    modules: tuple[ModulePlan, ...] = ()
    stages: tuple[Stage, ...] = Field(default=(Stage(**DEFAULT_STAGE),), min_length=1)
    overall: dict[str, Positive] = Field(default={}, description="task -> how much it counts in `overall`")
    keep: str = "overall"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    recompute: bool = False
    log: Annotated[tuple[Annotated[Choice[Logger], FAMILIES["log"]], ...], BeforeValidator(_one_or_more)] = ()
    save_every: Positive | None = 600.0
    seed: Annotated[int, Strict()] = Field(11711, ge=0, le=MOST_SEED)
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
        return [(number, one) for number, stage in enumerate(self.stages) for one in self._as_run(stage)]

    def _as_run(self, stage: Stage) -> list[Stage]:
        if not stage.for_each_task:
            return [stage]
        names = stage.tasks or tuple(self.tasks)
        minutes = None if stage.minutes is None else stage.minutes / len(names)
        return [stage.model_copy(update={"tasks": (name,), "minutes": minutes}) for name in names]

    @property
    def own_teachers(self) -> int:
        """How many teachers are trained before the first stage, each by `for_teacher`."""
        asked = [stage.distill.teachers for stage in self.stages if stage.distill is not None]
        return max((number for number in asked if isinstance(number, int)), default=0)

    def for_teacher(self, number: int) -> Recipe:
        """The recipe of a teacher that this one asks for: the same without any `distill`, and with another seed.

        It has no use for texts without labels. The seeds lie so far apart that the teachers of one seed are not those
        of the next.
        """
        stages = tuple(stage.model_copy(update={"distill": None}) for stage in self.stages)
        tasks = {name: task.model_copy(update={"unlabelled": None}) for name, task in self.tasks.items()}
        seed = (self.seed + number * SEEDS_APART) % MOST_SEED
        return self.model_copy(update={"stages": stages, "tasks": tasks, "seed": seed})

    @property
    def learned(self) -> list[str]:
        """The tasks that this recipe trains: all but those of its base."""
        return [name for name in self.tasks if self.base is None or name not in self.base.tasks]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.__dict__ == other.__dict__  # wherever the two were read

    def without_lines(self) -> Recipe:
        """The same recipe without the text that it was read from.

        For one whose parts have moved since: messages about them name no line, where the text's would be wrong.
        """
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
            raise Mistake(self.say(mistake.place, mistake.message)) from None

    def say(self, place: Place, message: str) -> str:
        """A message about a place in this recipe, with file and line where it was read from one."""
        return str(MistakeAt(place, message)) if self._text is None else self._text.say(place, message)

    def completed(self, tasks: dict[str, Task]) -> Recipe:
        """The recipe with these tasks in the place of its own: what it left to the data has been found there."""
        return self.model_copy(update={"tasks": self.tasks | tasks})

    def source(self, task: str, split: str) -> Any:
        """Where a task's rows of a split are: a path or several, a split of the hub, a table; None for a share."""
        given, hub = getattr(self.tasks[task], split), self.tasks[task].hub
        if share_of(given) is not None:
            return None
        if hub is not None and isinstance(given, str) and not Path(given).is_absolute():
            folder = Path(self.data) / Path(hub.name).expanduser()
            return HubSplit(str(folder) if folder.is_dir() else hub.name, given, hub.config, hub.revision)
        if isinstance(given, (list, tuple)):
            return [Path(self.data) / Path(one).expanduser() for one in given]
        return Path(self.data) / Path(given).expanduser() if isinstance(given, (str, Path)) else given


def _dumped(task: Task) -> dict[str, Any]:
    """A task as a recipe writes it, null in the place of a table in memory."""
    tables = {split for split in SOURCES if not isinstance(getattr(task, split), (str, list, type(None)))}
    unsaid = (set() if task.complete else task.from_data) | (set() if task.where else {"where"})
    dumped = task.model_dump(mode="json", exclude={"name", *tables})
    return {key: dumped.get(key) for key in type(task).model_fields if key not in {"name", *unsaid}}
