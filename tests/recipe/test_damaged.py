"""Recipes that are damaged, or were never meant as recipes: one message with file and line, at once."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtbert.errors import Mistake
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build

# a list of ten, of ten lists of ten, and so on: a thousand million in nine lines
LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10 if n else ['x'] * 10)}]\n" for n in range(9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS + "modules: *a8\n", r"recipe\.yaml, line 6: aliases .* repeat each other: more than 1,000,000"),
        ("tasks: " + "[" * 3000 + "]" * 3000, r"recipe\.yaml, line 1: more than 64 lists and mappings"),
        ("tasks:\n  a: &a\n    b: *a\n", r"recipe\.yaml, line 2: an alias .* inside of what it names"),
        ('data: "a\\0b"\n', r"recipe\.yaml, line 1: the character NUL"),
    ],
)
def test_what_yaml_can_say_and_no_recipe_means_is_a_mistake(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(Mistake, match=said):
        read_recipe(path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "override",
    ["seed=36893488147419103232", f"stages.0.steps={10**30}", "stages.0.batch_size=" + "[" * 500 + "]" * 500],
)
def test_numbers_that_no_machine_counts_to_are_mistakes(small_recipe: dict[str, Any], override: str) -> None:
    with pytest.raises(Mistake):
        read_recipe(small_recipe, [override])


def test_an_alias_may_repeat_a_part(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    stage = small_recipe["stages"][0]
    path.write_text(yaml.dump(small_recipe | {"stages": [stage, stage]}), encoding="utf-8")
    assert "*id001" in path.read_text(encoding="utf-8")
    assert len(read_recipe(path).stages) == 2


def test_a_tilde_is_the_users_home(
    small_recipe: dict[str, Any], small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(small_data.parent))
    monkeypatch.setenv("USERPROFILE", str(small_data.parent))
    recipe = read_recipe(small_recipe | {"data": "~/data"})
    assert Path(recipe.data) == small_data.resolve()
    small_recipe["tasks"]["mood"]["train"] = "~/data/mood-train.tsv"
    assert len(build(read_recipe(small_recipe)).rows["train"]["mood"]) == 40


SIGNS = ["\t", ":", "- ", "{", "]", "&a ", "*a", "!!x ", "1e999", "null", '"', "\u2028", "~"]


def mutated(text: str, chance: random.Random) -> str:
    """A text with a few of its characters or lines dropped, doubled, moved, or put for others."""
    for _ in range(chance.randint(1, 4)):
        lines = text.splitlines(keepends=True) or [""]
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        place = chance.randrange(len(text) + 1)
        text = chance.choice(
            [
                "".join(lines[:at] + lines[at + 1 :]),
                "".join([*lines[:at], lines[other], *lines[at:]]),
                text[:place] + chance.choice(SIGNS) + text[place:],
                text[:place] + text[place + chance.randint(1, 9) :],
                text[:place] + chance.choice("0123456789abz#%@'[{,.-") + text[place + 1 :],
            ]
        )
    return text


def read_mutated(recipe: dict[str, Any], folder: Path, seeds: range) -> None:
    """Read so many mutations of a recipe; each is read or is a Mistake, within five seconds."""
    whole = yaml.safe_dump(recipe | {"modules": ["lhuc"]}, sort_keys=False)
    path = folder / "recipe.yaml"
    for seed in seeds:
        path.write_text(mutated(whole, random.Random(seed)), encoding="utf-8", newline="")
        began = time.monotonic()
        try:
            read_recipe(path)
        except Mistake:
            pass
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}\n{path.read_text(encoding='utf-8')}")
        assert time.monotonic() - began < 5, f"seed {seed}"


def test_mutated_recipes_are_read_or_are_mistakes(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    read_mutated(small_recipe, tmp_path, range(150))


@pytest.mark.long
def test_thousands_of_mutated_recipes_are_read_or_are_mistakes(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    read_mutated(small_recipe, tmp_path, range(150, 5150))
