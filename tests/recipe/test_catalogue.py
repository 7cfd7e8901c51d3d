"""What `mtbert methods` says is what docstrings and signatures say, for every method of every table."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, TypeAdapter

from mtbert.data.tasks import KINDS
from mtbert.errors import Mistake
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.catalogue import PLACES, TABLES, Method, Option, _papers, _summary, find_methods, list_methods
from mtbert.registry import Count, NonNegative, Positive, Registry, Share

METHODS = [(family, name) for family, table in TABLES.items() for name in table]

# for one task of BERT-base (Stickland and Murray, 2019; Houlsby et al., 2019; the reports), with our defaults
PUBLISHED_SIZES = {
    "lhuc": 9_216,
    "embert": 27_648,
    "adapter": 2_379_264,
    "pals": 1_819_836,
    "low_rank": 1_853_616,
    "relational": 2_360_064,
}


def method(family: str, name: str) -> Method:
    (found,) = (one for one in find_methods(name) if one.family == family)
    return found


@pytest.fixture(scope="module")
def listed() -> dict[str, dict[str, Method]]:
    return list_methods()


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_every_method_says_in_a_line_what_it_is(listed: dict[str, dict[str, Method]], family: str, name: str) -> None:
    found = listed[family][name]
    assert found == method(family, name)
    assert found.summary
    assert "\n" not in found.line
    for option in found.options:
        assert option in found.line
    for paper in found.papers:
        assert found.line.count(paper) == 1, "the summary is said without its sources, which follow"


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_every_option_is_told(family: str, name: str) -> None:
    found = method(family, name)
    told = set(TABLES[family].options(name)) - ({"name"} if TABLES[family] is KINDS else set())
    assert set(found.options) == told
    assert all(option.values for option in found.options.values())


def test_the_whole_docstring_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled:
        """Double what comes in.

        The second paragraph is told as well:

            indented as it stands.
        """

    monkeypatch.setitem(TABLES, "heads", Registry("head", {"doubled": Doubled}))
    assert method("heads", "doubled").text == (
        "Double what comes in.\n\nThe second paragraph is told as well:\n\n    indented as it stands."
    )


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_the_example_is_read_as_the_defaults(family: str, name: str) -> None:
    found = method(family, name)
    ((key, given),) = yaml.safe_load(found.example).items()
    assert PLACES[family].startswith(f"{key}:")
    (entry,) = given if isinstance(given, list) else [given]
    entry = {"name": entry} if isinstance(entry, str) else entry
    assert entry.pop("name") == name
    if TABLES[family] is KINDS:
        return  # a task's keys stand beside its kind
    # other readers of YAML take 5.0e-05 for a number as well; PyYAML wants a sign
    defaults = {key: "..." if option.required else option.default for key, option in found.options.items()}
    assert {key: float(one) if isinstance(defaults[key], float) else one for key, one in entry.items()} == defaults


@pytest.mark.parametrize("name", TASK_MODULES)
def test_every_task_module_says_its_size(name: str) -> None:
    size = method("task modules", name).size
    assert size is not None
    assert size.parameters > 0
    assert size.share == size.parameters / 109_482_240  # BERT-base with its pooler (Devlin et al., 2019)
    assert f"{size.parameters:,} parameters a task" in method("task modules", name).line
    if name in PUBLISHED_SIZES:
        assert size.parameters == PUBLISHED_SIZES[name]


def test_what_is_no_task_module_has_no_size(listed: dict[str, dict[str, Method]]) -> None:
    assert all(one.size is None for family, by in listed.items() if family != "task modules" for one in by.values())


def test_a_name_in_two_tables_shows_both() -> None:
    assert [one.family for one in find_methods("linear")] == ["heads", "schedules"]


def test_an_unknown_name_shows_the_nearest() -> None:
    with pytest.raises(Mistake, match=r"unknown method 'adamv'; did you mean 'adamw'\?"):
        find_methods("adamv")


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (Count, "whole number, at least 1"),
        (Share, "number from 0 to 1"),
        (Positive, "number, above 0"),
        (NonNegative, "number, at least 0"),
        (bool, "true | false"),
        (str, "text"),
        (Literal["before_norm", "after_norm"], "before_norm | after_norm"),
        (Literal["all"], "all"),
        (Share | None, "number from 0 to 1 or null"),
        (list[Count] | Literal["all"], "list of (whole number, at least 1) or all"),
        (Annotated[list[Share], Field(min_length=2, max_length=2)], "list of 2 (number from 0 to 1)"),
        (tuple[float, float], "list of 2 (number)"),
        (Annotated[int, Field(lt=5)], "whole number, below 5"),
        (dict[str, Positive], "names with a number, above 0 each"),
        (Any, "anything"),
    ],
)
def test_types_and_bounds_are_said_in_words(annotation: Any, said: str) -> None:
    assert Option(TypeAdapter(annotation).json_schema(), required=True).values == said


@pytest.mark.parametrize(
    ("text", "summary", "papers"),
    [
        ("Add noise (Hua et al.,\n2021). It is small (0.1; at most 2).", "Add noise", ["Hua et al., 2021"]),
        (
            "Beside `x` (Yu et al., 2020; report 'A (B)'). `y`.\n\nAs in (Devlin et al., 2019), and (Yu et al., 2020).",
            "Beside `x`",
            ["Yu et al., 2020", "report 'A (B)'", "Devlin et al., 2019"],
        ),
        ("Since 2020 in use, e.g. here.", "Since 2020 in use, e.g. here", []),
        ("Scale (see report 'T') and shift.", "Scale (see report 'T') and shift", ["report 'T'"]),
    ],
)
def test_sources_are_found_and_the_summary_is_said_without(text: str, summary: str, papers: list[str]) -> None:
    assert _summary(text) == summary
    assert _papers(text) == papers


def test_methods_are_json(listed: dict[str, dict[str, Method]]) -> None:
    for family, name in METHODS:
        assert json.loads(json.dumps(listed[family][name].as_dict()))["name"] == name
