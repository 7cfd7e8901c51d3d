"""From a name in the recipe to its maker.

A maker is a class or function. What stands before `*` in its signature is handed in by the program; what stands after
`*` are the options that a recipe may give. Name, type, bounds and default of an option are declared there, once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

from pydantic import AfterValidator, Field, Strict, TypeAdapter, ValidationError

from mtbert.errors import Mistake, unknown

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


class OptionMistake(Mistake):
    """A mistake in one option of a method."""

    def __init__(self, message: str, option: str) -> None:
        super().__init__(message)
        self.option = option


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """A family of methods: recipe name -> maker, with errors that show the names and options there are.

    >>> def constant(*, value: Share = 0.5): return lambda progress: value
    >>> schedules = Registry("schedule", {"constant": constant})
    >>> schedules.complete("constant", {})
    {'value': 0.5}
    >>> schedules["constnat"]
    Traceback (most recent call last):
    mtbert.errors.Mistake: unknown schedule 'constnat'; did you mean 'constant'? (valid: constant)
    """

    def __init__(self, family: str, makers: Mapping[str, Callable[..., T]]) -> None:
        self.family = family
        self._makers = dict(makers)

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self:
            raise Mistake(unknown(self.family, name, self._makers))
        return self._makers[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The options of one method: the keyword-only parameters of its maker, types resolved."""
        maker = self[name]
        hints = get_type_hints(maker.__init__ if inspect.isclass(maker) else maker, include_extras=True)
        return {
            option: parameter.replace(annotation=hints.get(option, Any))
            for option, parameter in inspect.signature(maker).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

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
                message = f"{option} of {self.family} '{name}' is {value!r}: {problem[0].lower()}{problem[1:]}"
                raise OptionMistake(message, option) from None
        return complete
