"""What README.md and the pages beside it show: recipes are read, commands parsed or run, links followed."""

from __future__ import annotations

import glob
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

import mtbert
from mtbert.app import cli
from mtbert.comparison.methods import read_methods
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe, Stage
from tests.support.small import recipe_over, sentence

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
MANIFEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


class Shown(NamedTuple):
    """A piece of a page, and where it stands."""

    place: str
    text: str


def blocks(page: Path, language: str) -> Iterator[Shown]:
    """The fenced blocks of one language, "" for those that name none."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if found[1] == language:
            line = text[: found.start()].count("\n") + 1
            yield Shown(f"{page.relative_to(ROOT)}, line {line}", found[2])


def shown_commands() -> Iterator[Shown]:
    """Every command line of a block, of the head of a recipe, or in the middle of a sentence."""
    for page in PAGES:
        name = page.relative_to(ROOT)
        for place, block in blocks(page, ""):
            for line in block.splitlines():
                for command in re.split("; | && ", line.split(" #")[0]):
                    yield Shown(place, command.strip())
        for inline in re.findall(r"`([a-z]+ [^`]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)):
            yield Shown(str(name), " ".join(inline.split()))
    for recipe in sorted(ROOT.glob("recipes/*.yaml")):
        for line in re.findall(r"^# +(mtbert .*)$", recipe.read_text(encoding="utf-8"), re.MULTILINE):
            yield Shown(str(recipe.relative_to(ROOT)), line)


def commands_of(program: str) -> list[Shown]:
    """Those of one program, without the variables that are set for them."""
    plain = [Shown(place, re.sub(r"^([A-Z_]+=\S+ )+", "", text)) for place, text in shown_commands()]
    return list(dict.fromkeys(one for one in plain if one.text.split()[:1] == [program]))


def named(shown: list[Shown]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "shown", shown, ids=[f"{place}: {text.splitlines()[0][:60]}" for place, text in shown]
    )


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command of `mtbert WORDS` would be given, nothing run; empty where the words only name a command."""
    command: Any = get_command(cli.app)
    while isinstance(command, TyperGroup) and words:
        name, command, words = command.resolve_command(command.context_class(command), words)
    return dict(command.make_context(name, list(words)).params) if words else {}


def readme_recipe() -> str:
    (block,) = blocks(ROOT / "README.md", "yaml")
    return block.text


# ---- recipes


def completed(part: dict[str, Any]) -> list[dict[str, Any]]:
    """The recipes that come of a part of one: keys of a recipe, keys of a stage, or lists of modules by name.

    One that is like another stands beside those in recipes/.
    """
    if "like" in part:
        return [part | {"like": str(ROOT / "recipes" / part["like"])}]
    whole = recipe_over(Path("data"))
    tasks = whole["tasks"]
    defaults = {"task_defaults", "stage_defaults", "table"}
    whole["tasks"] = {"sentiment": tasks["mood"], "paraphrase": tasks["same"], "similarity": tasks["near"]}
    if part.keys() <= set(Recipe.model_fields) | defaults:
        return [whole | part]
    if part.keys() <= set(Stage.model_fields):
        return [whole | {"stages": [whole["stages"][0] | part]}]
    assert all(isinstance(entry, list) for entry in part.values()), f"no part of a recipe has the keys {list(part)}"
    return [whole | {"modules": modules} for modules in part.values()]


@named([block for page in PAGES for block in blocks(page, "yaml")])
def test_a_recipe_shown_is_a_recipe(shown: Shown, tmp_path: Path) -> None:
    part = yaml.safe_load(shown.text)
    if "rows" in part:  # a grid, which names its recipe as those in experiments/ do
        shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
        (tmp_path / "experiments").mkdir()
        (tmp_path / "experiments" / "grid.yaml").write_text(shown.text)
        assert len(read_methods([str(tmp_path / "experiments" / "grid.yaml")], None)) == len(part["rows"])
        return
    for recipe in completed(part):
        read_recipe(recipe)


# ---- commands


@named([shown for shown in commands_of("mtbert") if not shown.text.startswith("mtbert NAME")])  # NAME is any command
def test_a_command_shown_can_be_given(shown: Shown, tmp_path: Path) -> None:
    given = parsed(shlex.split(shown.text)[1:])
    if "overrides" not in given:
        return
    (tmp_path / "recipe.yaml").write_text(readme_recipe(), encoding="utf-8")
    recipe = str(given["recipe"])
    path = tmp_path / recipe if recipe == "recipe.yaml" else ROOT / recipe
    if path.exists():
        read_recipe(path, given["overrides"] or [])
    else:
        assert not recipe.startswith("recipes/"), f"there is no {recipe}"


def test_scripts_shown_are_there_with_what_they_read() -> None:
    files = [(shown, one) for shown in commands_of("python") for one in re.findall(r"\S+\.(?:py|yaml)\b", shown.text)]
    assert [(shown.place, one) for shown, one in files if not (ROOT / one).exists()] == []


@named(commands_of("make"))
def test_a_target_shown_is_in_the_makefile(shown: Shown) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert shown.text.split()[1] in targets


@named(commands_of("pip"))
def test_an_extra_shown_can_be_installed(shown: Shown) -> None:
    (extra,) = re.findall(r"\[(\w+)\]", shown.text)
    assert extra in MANIFEST["project"]["optional-dependencies"]
    assert "constraints.txt" not in shown.text or (ROOT / "constraints.txt").exists()


def write_readme_files(folder: Path) -> None:
    """The files that the recipes of README.md and docs/recipe.md name, and those recipes with a tiny encoder."""
    data = folder / "my_data"
    data.mkdir()
    for ending, rows in {"": range(40), "-dev": range(100, 112)}.items():
        moods = [f"{sentence(i)}\t{['bad', 'fair', 'good'][i % 3]}" for i in rows]
        (data / f"reviews{ending}.tsv").write_text("\n".join(["review\tmood", *moods]) + "\n")
        tones = [f"{sentence(i)}\t{i % 2}" for i in rows]
        (data / f"tone{ending}.tsv").write_text("\n".join(["review\ttone", *tones]) + "\n")
        pairs = [{"question1": sentence(i), "question2": sentence(i + 1), "duplicate": i % 2} for i in rows]
        (data / f"pairs{ending}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        columns = {"a": [sentence(i) for i in rows], "b": [sentence(i + 3) for i in rows]}
        scores = pa.table(columns | {"score": [i % 11 / 2 for i in rows]})
        pyarrow.parquet.write_table(scores, data / f"scores{ending}.parquet")
    (folder / "new.csv").write_text("a,b\na cat sleeps,a cat is asleep\n")

    tiny = "encoder: {name: random, layers: 2, width: 16, heads: 2, inner: 32}\n"
    recipe, replaced = re.subn(r"^encoder: minilm .*\n", tiny, readme_recipe(), flags=re.MULTILINE)
    assert replaced == 1
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "other.yaml").write_text(recipe + "keep: mean\n")
    (addition,) = (text for _, text in blocks(ROOT / "docs" / "recipe.md", "yaml") if "tone" in text)
    (folder / "new_task.yaml").write_text(addition)


def test_the_readme_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_readme_files(tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")  # README speaks to who has the repository
    commands = [shown for shown in commands_of("mtbert") if shown.place.startswith("README.md, line")]
    without_editor = {place for place, text in commands if text.startswith("mtbert init")}  # in a test of its own
    shown = [text for place, text in commands if place not in without_editor]
    assert len(shown) > 5
    for text in shown:
        monkeypatch.setattr(sys, "argv", shlex.split(text, comments=True))
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code, (text, capsys.readouterr().err)
    assert (tmp_path / "out.csv").read_text().startswith("id,prediction\n0,")
    assert (tmp_path / "RUN2" / "best").is_dir()

    shutil.rmtree(tmp_path / "RUN")
    (program,) = blocks(ROOT / "README.md", "python")
    left: dict[str, Any] = {}
    exec(compile(program.text, program.place, "exec"), left)
    assert left["model"].tasks == ["mood", "same_question", "closeness"]


def test_two_commands_lead_from_files_to_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_readme_files(tmp_path)
    (tmp_path / "recipe.yaml").unlink()
    commands = [shown for shown in commands_of("mtbert") if shown.place.startswith("README.md, line")]
    (place,) = (place for place, text in commands if text.startswith("mtbert init"))
    init, train = (shlex.split(text) for shown, text in commands if shown == place)
    files = [name for pattern in init[2:] for name in sorted(glob.glob(pattern))]
    for words in ([*init[:2], *files], [*train, "encoder={name: random, layers: 1, width: 16, heads: 2, inner: 16}"]):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    assert set(mtbert.load("runs/recipe").tasks) == {"reviews", "tone", "pairs", "scores"}


@named([block for page in PAGES for block in blocks(page, "python")])
def test_python_shown_is_python(shown: Shown) -> None:
    compile(shown.text, shown.place, "exec")


# ---- links


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [one for one in targets if "://" not in one and not (page.parent / one).exists()] == []
