"""What `mtbert methods` says is what docstrings and signatures say, for every method of every table."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, TypeAdapter

from mtbert.data.kinds.table import KINDS
from mtbert.errors import Mistake
from mtbert.model.heads.head import HEADS
from mtbert.model.heads.pooling import POOLINGS
from mtbert.model.task_modules.table import TASK_MODULES
from mtbert.recipe.catalogue import Citation, Method, Option, find_methods, list_methods
from mtbert.recipe.families import FAMILIES
from mtbert.registry import Count, NonNegative, Positive, Share

BY_TITLE = {family.title: family for family in FAMILIES.values()}
TABLES = {title: family.table for title, family in BY_TITLE.items()}
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
    for source in found.sources:
        assert source.work in found.line


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

    monkeypatch.setitem(HEADS._makers, "doubled", Doubled)
    assert method("heads", "doubled").text == (
        "Double what comes in.\n\nThe second paragraph is told as well:\n\n    indented as it stands."
    )


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_the_example_is_read_as_the_defaults(family: str, name: str) -> None:
    found = method(family, name)
    ((key, given),) = yaml.safe_load(found.example).items()
    assert BY_TITLE[family].word == key
    assert BY_TITLE[family].listed == isinstance(given, list)
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
    ("line", "work", "place", "link"),
    [
        (
            "Jiang et al., 2020, equation 6, https://arxiv.org/abs/1911.03437",
            ("Jiang et al., 2020"),
            "equation 6",
            "https://arxiv.org/abs/1911.03437",
        ),
        (
            "Yu et al., 2020, https://arxiv.org/abs/2001.06782",
            "Yu et al., 2020",
            "",
            "https://arxiv.org/abs/2001.06782",
        ),
        (
            "Hinton, Vinyals and Dean, 2015, section 2, table 1",
            "Hinton, Vinyals and Dean, 2015",
            "section 2, table 1",
            "",
        ),
        ("report 'SMARTer BERT', section 3, page 4", "report 'SMARTer BERT'", "section 3, page 4", ""),
        ("report 'MultiBERT'", "report 'MultiBERT'", "", ""),
    ],
)
def test_a_source_is_a_work_a_place_in_it_and_a_link(line: str, work: str, place: str, link: str) -> None:
    assert Citation.read(f" {line}") == Citation(work, place, link)


def test_summary_and_sources_are_lines_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice:
        """Everything is done twice, as
        (Yu et al., 2020) did.

        Source: this line names none, for it does not stand at the end? It does: every such line counts.
        Not a Source: neither is this.

        Source: Yu et al., 2020, https://arxiv.org/abs/2001.06782
        Source: report 'MultiBERT', section 2
        """

        def __call__(self, states: Any, batch: Any, encoder: Any) -> Any: ...

    monkeypatch.setitem(POOLINGS._makers, "twice", Twice)
    found = method("poolings", "twice")
    assert found.summary == "Everything is done twice, as (Yu et al., 2020) did"
    assert [one.work for one in found.sources[1:]] == ["Yu et al., 2020", "report 'MultiBERT'"]
    assert found.line == f"{found.summary} ({found.sources[0].work}; report 'MultiBERT')"


# papers that are neither on arXiv nor have a DOI
ELSEWHERE = {"https://openreview.net/forum?id=IMPnRXEWpvr"}


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_a_paper_has_a_link_to_arxiv_or_by_doi(family: str, name: str) -> None:
    public = re.compile(r"https://(?:arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+)")
    for source in method(family, name).sources:
        assert source.work.startswith("report '") or public.fullmatch(source.link) or source.link in ELSEWHERE, source


# a table of which no method names a source holds what is nobody's idea in particular
CITING = sorted({family for family, name in METHODS if method(family, name).sources})


@pytest.mark.parametrize("family", CITING)
def test_every_paper_that_a_docstring_mentions_is_among_its_sources(family: str) -> None:
    for found in list_methods()[family].values():
        works = {source.work for source in found.sources}
        mentioned = re.findall(r"[A-Z][\w-]+(?: et al\.| and [A-Z]\w+)?, \d{4}", " ".join(found.text.split()))
        assert [one for one in mentioned if not any(work.endswith(one) for work in works)] == [], found.name


def test_methods_are_json(listed: dict[str, dict[str, Method]]) -> None:
    for family, name in METHODS:
        assert json.loads(json.dumps(listed[family][name].as_dict()))["name"] == name
