"""From a name in the recipe to its maker.

A maker is a class or function. What stands before `*` in its signature is handed in by the program; what stands after
`*` are the options that a recipe may give. Name, type, bounds and default of an option are declared there, once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from pydantic import AfterValidator, Discriminator, Field, Strict, Tag, TypeAdapter, ValidationError

from mtbert.errors import Mistake, shown, unknown

T = TypeVar("T")


def _in_float32(value: float) -> float:
    if abs(value) > 3e38:
        raise ValueError("float32 has no number as large as that")
    return value


# strict, so that `true` is no number
Count = Annotated[int, Strict(), Field(ge=1)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False), AfterValidator(_in_float32)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False), AfterValidator(_in_float32)]
BelowOne = Annotated[float, Strict(), Field(ge=0, lt=1)]

# a value, or one for each of some keys: which of the two was meant is told by what was written, not by what fits
ONE, EACH = Tag("one"), Tag("each")
ONE_OR_EACH = Discriminator(lambda given: (EACH if isinstance(given, Mapping) else ONE).tag)

Named = str | dict[str, Any]  # a method as a recipe writes it: its name, or {name: ..., option: value}


class OptionMistake(Mistake):
    """A mistake in one option of a method."""

    def __init__(self, message: str, option: str) -> None:
        super().__init__(message)
        self.option = option


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """A family of methods: recipe name -> maker, with errors that show the names and options there are.

    Any other name is unknown, unless the family has a maker `otherwise`, which is handed the name first: as an encoder
    may be a folder.

    >>> def constant(*, value: Share = 0.5): return lambda progress: value
    >>> schedules = Registry("schedule", {"constant": constant})
    >>> schedules.complete("constant", {})
    {'value': 0.5}
    >>> schedules["constnat"]
    Traceback (most recent call last):
    mtbert.errors.Mistake: unknown schedule 'constnat'; did you mean 'constant'? (valid: constant)
    """

    def __init__(
        self, family: str, makers: Mapping[str, Callable[..., T]], otherwise: Callable[..., T] | None = None
    ) -> None:
        self.family = family
        self._makers = dict(makers)
        self._otherwise = otherwise

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name in self:
            return self._makers[name]
        if self._otherwise is None or not isinstance(name, str):
            raise Mistake(unknown(self.family, name, self._makers))
        return partial(self._otherwise, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The options of one method: the keyword-only parameters of its maker, types resolved."""
        maker = self[name]
        types = _types(maker)
        return {
            option: parameter.replace(annotation=types.get(option, Any))
            for option, parameter in inspect.signature(maker).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def choose(self, given: Any, default: str | None = None) -> Choice[T]:
        """The method that a recipe writes as `name` or `{name: ..., option: value}`, its options checked and complete.

        A mapping without a name chooses options of the `default`. Raises Mistake for what is neither, for an unknown
        name, and as `complete` does.
        """
        if isinstance(given, Choice):
            return given
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping):
            raise Mistake(f"write a name, or {{name: ..., option: value}}, not {shown(given)}")
        name = given.get("name", default)
        if name is None:
            raise Mistake(f"needs a name: {', '.join(self)}")
        try:
            self[name]
        except Mistake as mistake:
            raise OptionMistake(str(mistake), "name") from None
        return Choice(self, name, self.complete(name, {key: value for key, value in given.items() if key != "name"}))

    def complete(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check the options given and fill in the defaults of the rest.

        Raises Mistake for an option that does not exist, one that is missing, or a value outside its bounds.
        """
        options = self.options(name)
        for option in given:
            if not options:
                raise OptionMistake(f"unknown option of {self.family} '{name}': '{option}' (it has none)", option)
            if option not in options:
                raise OptionMistake(unknown(f"option of {self.family} '{name}':", option, options), option)

        complete = {}
        for option, parameter in options.items():
            if option not in given and parameter.default is inspect.Parameter.empty:
                raise Mistake(f"{self.family} '{name}' needs the option '{option}'")
            value = given.get(option, parameter.default)
            try:
                # strict, so that `yes` is no number and "3" no count; integers still pass as floats
                complete[option] = TypeAdapter(parameter.annotation).validate_python(value, strict=True)
            except ValidationError as error:
                first = error.errors()[0]
                problem = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
                message = f"{option} of {self.family} '{name}' is {shown(value)}: {problem[0].lower()}{problem[1:]}"
                raise OptionMistake(message, option) from None
        return complete


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A name from a table and its options, all filled in."""

    table: Registry[T] = field(repr=False, compare=False)
    name: str
    options: Mapping[str, Any]

    @property
    def maker(self) -> Callable[..., T]:
        return self.table[self.name]

    def make(self, *given: Any) -> T:
        """The method itself, from what the program hands in and the options of the recipe."""
        return self.maker(*given, **self.options)

    @property
    def written(self) -> dict[str, Any]:
        """As a recipe writes it: `{name: ..., option: value}`."""
        return {"name": self.name, **self.options}

    @property
    def short(self) -> Named:
        """As a recipe writes it, the name alone where there are no options."""
        return self.written if self.options else self.name


def _types(maker: Callable[..., Any]) -> dict[str, Any]:
    """The types of a maker's parameters; those of a dataclass are read where the class that declares a field stands."""
    if isinstance(maker, partial):
        maker = maker.func
    if not inspect.isclass(maker):
        return get_type_hints(maker, include_extras=True)
    owner = next(one for one in maker.__mro__ if "__init__" in vars(one))
    generated = "__dataclass_fields__" in vars(owner)
    return get_type_hints(owner if generated else vars(owner)["__init__"], include_extras=True)
