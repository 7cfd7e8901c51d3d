"""The rows of a comparison: what each trains, read from recipes, or from a grid of overrides over one recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtbert.errors import Mistake, Place, shown, unknown
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.recipe.text import Override, RecipeText

Content = dict[str, Any]  # a recipe with every default filled in, as its file would hold it
Parts = Mapping[str, Content]  # what one result is made of: a single recipe, or one a task
WHOLE = "all"  # the part that is a result by itself


@dataclass(frozen=True)
class Method:
    """One row of a comparison. With several candidates a trial of each on dev decides which of them runs."""

    name: str
    candidates: Mapping[str, Parts]
    baseline: bool = False
    other_seeds: bool = False  # runs under seeds of its own: the A/A check

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        return re.sub(r"[^\w.]+", "-", self.name).strip("-").lower()


def plain(name: str, content: Content) -> Method:
    """A method that is one recipe."""
    return Method(name, {WHOLE: {WHOLE: content}})


def read_methods(arguments: Sequence[str], data: Path | None) -> list[Method]:
    """The methods that recipe files and grids name; arguments with `=` are overrides for all of them.

    A grid is a YAML file with `recipe:`, a path beside it, `rows:`, names with a list of overrides each, and, if one
    likes, `common:`, overrides of all rows. Raises Mistake where the tasks of the recipes differ.
    """
    overrides = [argument for argument in arguments if "=" in argument]
    files = [Path(argument) for argument in arguments if "=" not in argument]
    read = [(name, recipe) for path in files for name, recipe in _read(path, overrides, data)]
    names = _distinct([name for name, _ in read], files)
    methods = [plain(name, content_of(recipe)) for name, (_, recipe) in zip(names, read, strict=True)]
    check_names(methods)
    _check_tasks(dict(zip(names, (recipe for _, recipe in read), strict=True)))
    return methods


def content_of(recipe: Recipe) -> Content:
    """A recipe as its file would hold it; reading it gives the same recipe."""
    content: Content = recipe.model_dump(mode="json")
    return content


def check_names(methods: Iterable[Method]) -> None:
    """Raises Mistake where two methods would share a folder."""
    seen: dict[str, str] = {}
    for method in methods:
        if method.folder in seen:
            raise Mistake(
                f"'{seen[method.folder]}' and '{method.name}' would share the folder {method.folder}; rename one"
            )
        seen[method.folder] = method.name


def with_rates(method: Method, rates: Sequence[float]) -> Method:
    """The method with each of these learning rates to choose from: the first stage's, the others in proportion."""
    if not rates:
        return method
    return replace(
        method,
        candidates={
            f"lr {rate:g}" if label == WHOLE else f"{label}, lr {rate:g}": {
                part: _with_rate(content, rate) for part, content in parts.items()
            }
            for label, parts in method.candidates.items()
            for rate in rates
        },
    )


def _read(path: Path, overrides: Sequence[str], data: Path | None) -> Iterator[tuple[str, Recipe]]:
    grid = RecipeText(path)
    content = grid.content
    if "rows" not in content:
        yield path.stem, read_recipe(path, overrides, data)
        return
    for key in content.keys() - {"recipe", "common", "rows"}:
        raise Mistake(grid.say((key,), unknown("key of a grid", key, ["recipe", "common", "rows"])))
    if not isinstance(content.get("recipe"), str) or not isinstance(content["rows"], Mapping) or not content["rows"]:
        raise Mistake(f"{path}: a grid has a `recipe:`, a path, and `rows:`, names with a list of overrides each")
    recipe = path.parent / content["recipe"]
    if not recipe.is_file():
        raise Mistake(grid.say(("recipe",), f"there is no recipe {recipe}"))
    common = _overrides(grid, ("common",), content.get("common"))
    for name, row in content["rows"].items():
        yield str(name), read_recipe(recipe, [*common, *_overrides(grid, ("rows", name), row), *overrides], data)


def _overrides(grid: RecipeText, place: Place, given: Any) -> list[Override]:
    """What stands at a place in a grid, each override with its line."""
    if not isinstance(given, (list, type(None))):
        raise Mistake(grid.say(place, f"is {shown(given)}, not a list of overrides"))
    for index, one in enumerate(given or []):
        if not isinstance(one, str) or "=" not in one:
            said = "is no override: write KEY=VALUE, such as stages.0.batch_size=64"
            raise Mistake(grid.say((*place, index), f"{shown(one)} {said}"))
    return [
        Override(one, f"{grid.at((*place, index))}, {'.'.join(map(str, place))}")
        for index, one in enumerate(given or [])
    ]


def _distinct(names: Sequence[str], files: Sequence[Path]) -> list[str]:
    """File names, with their folders where two files are named alike."""
    if len(names) == len(files) and len(set(names)) < len(names):
        return [f"{path.resolve().parent.name}/{path.stem}" for path in files]
    return list(names)


def _check_tasks(recipes: Mapping[str, Recipe]) -> None:
    """What is compared is judged on the same rows by the same metrics."""
    (first, reference), *others = recipes.items()
    for name, recipe in others:
        ours, theirs = set(reference.tasks), set(recipe.tasks)
        if ours != theirs:
            raise Mistake(
                f"the tasks of {first} and {name} differ: {', '.join(sorted(ours ^ theirs))} "
                "in one of them only; a comparison is over the same tasks"
            )
        for task in reference.tasks:
            for key in (
                "kind",
                "text",
                "label",
                "classes",
                "range",
                "bad_rows",
                "missing",
                "where",
                "scheme",
                "separator",
                "main",
                "counts",
            ):
                one, other = (getattr(given.tasks[task], key, None) for given in (reference, recipe))
                if one != other:
                    said = "metric" if key == "main" else key
                    raise Mistake(f"tasks.{task}.{said} differs: {one} in {first}, {other} in {name}")
            for split in ("train", "dev", "test"):
                if reference.source(task, split) != recipe.source(task, split):
                    raise Mistake(
                        f"tasks.{task}.{split} differs: {reference.source(task, split)} in {first}, "
                        f"{recipe.source(task, split)} in {name}; --data names one folder for all"
                    )


def _with_rate(content: Content, rate: float) -> Content:
    first = content["stages"][0]["optimizer"]["lr"]
    stages = [
        {**stage, "optimizer": {**stage["optimizer"], "lr": rate * stage["optimizer"]["lr"] / first}}
        for stage in content["stages"]
    ]
    return {**content, "stages": stages}
