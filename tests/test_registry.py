"""From a name in the recipe to its maker, with errors that help."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from mtbert.errors import Mistake, shown, unknown
from mtbert.recipe.families import FAMILIES
from mtbert.registry import Count, NonNegative, Positive, Registry, Share
from mtbert.training.regularizers.base import Regularizer


class Sail:
    """A maker that is a class."""

    def __init__(self, ship: str, *, area: Positive, reefs: Count = 2, torn: bool = False) -> None:
        self.given = (ship, area, reefs, torn)


def oar(
    ship: str,
    *,
    share: Share = 0.5,
    weight: NonNegative = 0.0,
    side: Literal["port", "starboard"] = "port",
    length: Positive | None = None,
) -> tuple[str, float]:
    """A maker that is a function."""
    return ship, share


GEAR: Registry[Any] = Registry("gear", {"sail": Sail, "oar": oar, "drift": lambda: None})

TABLES = {family.title: family.table for family in FAMILIES.values()}
METHODS = [(family, name) for family, table in TABLES.items() for name in table]


# ---- names


def test_a_registry_is_a_mapping_of_its_makers() -> None:
    assert GEAR["sail"] is Sail
    assert list(GEAR) == ["sail", "oar", "drift"]
    assert len(GEAR) == 3
    assert "oar" in GEAR
    assert "engine" not in GEAR


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sial", "unknown gear 'sial'; did you mean 'sail'? (valid: sail, oar, drift)"),
        ("engine", "unknown gear 'engine' (valid: sail, oar, drift)"),
        (7, "unknown gear '7' (valid: sail, oar, drift)"),
    ],
)
def test_an_unknown_name_shows_the_nearest_and_all_there_are(name: Any, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        GEAR[name]
    assert str(caught.value) == message


def test_a_name_that_is_a_list_is_unknown_too() -> None:
    with pytest.raises(Mistake, match="unknown gear"):
        GEAR[["sail"]]  # type: ignore[index]


def test_adding_to_the_makers_given_does_not_change_the_registry() -> None:
    makers: dict[str, Any] = {"sail": Sail}
    table: Registry[Any] = Registry("gear", makers)
    makers["oar"] = oar
    assert list(table) == ["sail"]


def test_an_error_in_an_empty_table_says_that_there_is_nothing_yet() -> None:
    assert unknown("engine", "steam", []) == "unknown engine 'steam' (valid: none yet)"


def test_any_other_name_is_handed_to_the_maker_that_takes_them() -> None:
    def built(plan: str, *, masts: Count = 1) -> tuple[str, int]:
        return plan, masts

    ships: Registry[Any] = Registry("ship", {"raft": lambda: "raft"}, otherwise=built)
    assert ships.choose({"name": "my/plan", "masts": 3}).make() == ("my/plan", 3)
    assert ships.choose("my/plan").options == {"masts": 1}
    assert ships.choose("raft").make() == "raft"
    assert "my/plan" not in ships
    with pytest.raises(Mistake, match=r"unknown ship '\['raft'\]'"):
        ships[["raft"]]  # type: ignore[index]


# ---- options


def test_the_options_are_what_stands_after_the_star() -> None:
    assert list(GEAR.options("sail")) == ["area", "reefs", "torn"]
    assert list(GEAR.options("oar")) == ["share", "weight", "side", "length"]
    assert GEAR.options("drift") == {}


def test_defaults_are_those_of_the_signature() -> None:
    assert GEAR.complete("sail", {"area": 3.5}) == {"area": 3.5, "reefs": 2, "torn": False}
    assert GEAR.complete("oar", {}) == {"share": 0.5, "weight": 0.0, "side": "port", "length": None}
    assert GEAR.complete("drift", {}) == {}


def test_completed_options_make_the_method() -> None:
    options = GEAR.complete("sail", {"area": 3, "torn": True})
    assert GEAR["sail"]("barge", **options).given == ("barge", 3.0, 2, True)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("sail", "area", 1e-300),
        ("sail", "area", 2),  # an integer is a number
        ("sail", "reefs", 1),
        ("oar", "share", 0),
        ("oar", "share", 1.0),
        ("oar", "weight", 0.0),
        ("oar", "side", "starboard"),
        ("oar", "length", None),
    ],
)
def test_values_on_their_bounds_are_taken(name: str, option: str, value: Any) -> None:
    assert GEAR.complete(name, {"area": 1.0, option: value} if name == "sail" else {option: value})[option] == value


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("sail", {}, ["gear 'sail' needs the option 'area'"]),
        ("sail", {"aera": 1.0}, ["unknown option of gear 'sail'", "'aera'; did you mean 'area'", "area, reefs, torn"]),
        ("sail", {"area": 1.0, "ship": "x"}, ["unknown option of gear 'sail'", "'ship'"]),  # that comes from us
        ("sail", {"area": 0}, ["area of gear 'sail' is 0: ", "greater than 0"]),
        ("sail", {"area": float("inf")}, ["area of gear 'sail' is inf: ", "finite"]),
        ("sail", {"area": float("nan")}, ["area of gear 'sail' is nan: "]),
        ("sail", {"area": "3"}, ["area of gear 'sail' is '3': ", "number"]),
        ("sail", {"area": True}, ["area of gear 'sail' is True: ", "number"]),
        ("sail", {"area": None}, ["area of gear 'sail' is None: ", "number"]),
        ("sail", {"area": 1.0, "reefs": 0}, ["reefs of gear 'sail' is 0: ", "greater than or equal to 1"]),
        ("sail", {"area": 1.0, "reefs": 1.5}, ["reefs of gear 'sail' is 1.5: ", "integer"]),
        ("sail", {"area": 1.0, "reefs": True}, ["reefs of gear 'sail' is True: ", "integer"]),
        ("sail", {"area": 1.0, "torn": "yes"}, ["torn of gear 'sail' is 'yes': ", "boolean"]),
        ("sail", {"area": 1.0, "torn": 1}, ["torn of gear 'sail' is 1: ", "boolean"]),
        ("oar", {"share": 1.01}, ["share of gear 'oar' is 1.01: ", "less than or equal to 1"]),
        ("oar", {"share": -0.1}, ["share of gear 'oar' is -0.1: ", "greater than or equal to 0"]),
        ("oar", {"weight": -1}, ["weight of gear 'oar' is -1: ", "greater than or equal to 0"]),
        ("oar", {"side": "left"}, ["side of gear 'oar' is 'left': ", "'port' or 'starboard'"]),
        ("drift", {"far": 1}, ["unknown option of gear 'drift'", "'far'"]),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_what_is_allowed(
    name: str, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(Mistake) as caught:
        GEAR.complete(name, given)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_method_without_options_says_so() -> None:
    with pytest.raises(Mistake) as caught:
        GEAR.complete("drift", {"far": 1})
    assert "none yet" not in str(caught.value)  # they are not to come either


@dataclass(kw_only=True)
class Topsail(Regularizer):  # whose fields have types that this module does not know
    square: bool = True


class Staysail(Topsail):
    def __init__(self, *, hanks: Count = 8) -> None:
        super().__init__()


def test_options_of_a_dataclass_are_read_where_the_class_stands_that_declares_them() -> None:
    sails: Registry[Any] = Registry("sail", {"topsail": Topsail, "staysail": Staysail})
    assert sails.complete("topsail", {"tasks": "mood"}) == {"weight": 1.0, "tasks": ["mood"], "square": True}
    with pytest.raises(Mistake, match="weight of sail 'topsail' is -1"):
        sails.complete("topsail", {"weight": -1})
    assert sails.complete("staysail", {}) == {"hanks": 8}


# ---- choices


def test_a_choice_makes_its_method_from_what_is_handed_in_and_its_options() -> None:
    choice = GEAR.choose({"name": "sail", "area": 2.0})
    assert choice.make("barge").given == ("barge", 2.0, 2, False)
    assert choice.written == choice.short == {"name": "sail", "area": 2.0, "reefs": 2, "torn": False}
    assert GEAR.choose(choice) is choice
    assert GEAR.choose("drift").short == "drift"
    assert GEAR.choose({"share": 0.1}, default="oar").name == "oar"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "write a name, or {name: ..., option: value}, not 5"),
        (["sail"], "write a name, or {name: ..., option: value}, not ['sail']"),
        ({"area": 2.0}, "needs a name: sail, oar, drift"),
        ("sial", "unknown gear 'sial'; did you mean 'sail'? (valid: sail, oar, drift)"),
    ],
)
def test_what_names_no_method_is_no_choice(given: Any, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        GEAR.choose(given)
    assert str(caught.value) == message


def test_equal_choices_are_equal_and_their_options_tell_them_apart() -> None:
    assert GEAR.choose("oar") == GEAR.choose({"name": "oar", "share": 0.5})
    assert GEAR.choose("oar") != GEAR.choose({"name": "oar", "share": 0.25})


# ---- values in messages


def test_a_long_value_is_cut_with_an_ellipsis() -> None:
    assert shown("x" * 118) == repr("x" * 118)  # 120 characters with its quotes
    assert shown(list(range(10_000))) == repr(list(range(10_000)))[:119] + "…"
    with pytest.raises(Mistake) as caught:
        GEAR.complete("sail", {"area": "x" * 10_000})
    assert len(str(caught.value)) < 250


# ---- every method of every table


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_every_option_has_a_type_and_a_default_that_it_allows(family: str, name: str) -> None:
    maker = TABLES[family][name]
    if inspect.isclass(maker) and issubclass(maker, BaseModel):
        return  # pydantic has seen to that
    for option, parameter in TABLES[family].options(name).items():
        assert parameter.annotation is not Any, option
        if parameter.default is not inspect.Parameter.empty:
            checked = TypeAdapter(parameter.annotation).validate_python(parameter.default, strict=True)
            assert checked == parameter.default, option


@pytest.mark.parametrize("family", TABLES)
def test_the_tables_list_no_method_twice(family: str) -> None:
    makers = [TABLES[family][name] for name in TABLES[family]]
    assert len(set(makers)) == len(makers)
