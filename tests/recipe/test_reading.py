"""The recipe: what may stand in it, and what its reader says of what may not."""

from __future__ import annotations

import copy
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

import mtbert
from mtbert.errors import Mistake
from mtbert.recipe.families import FAMILIES
from mtbert.recipe.reading import read_recipe
from mtbert.recipe.schema import Recipe
from mtbert.recipe.text import RecipeText, as_text
from mtbert.registry import Choice, Positive
from mtbert.runs.build import build
from mtbert.training.regularizers.noise import Gaussian
from mtbert.training.regularizers.table import REGULARIZERS

RECIPE = """\
encoder: {name: random, layers: 1}
tasks:
  mood:
    kind: classification
    text: text
    label: mood
    classes: [low, mid, high]
    train: mood.tsv
  near:
    kind: regression
    text: [a, b]
    label: score
    range: [0, 5]
    train: near.tsv
modules:
  - {name: lhuc, tasks: [mood]}
stages:
  - tasks: [mood, near]
    steps: 5
    batch_size: 8
    optimizer:
      name: adamw
      lr: 1e-3
    schedule: linear
    sampler: round_robin
  - epochs: 2
keep: overall
"""
TABLES = {family.title: family.table for family in FAMILIES.values()}
HOUSE = Path(__file__).parents[1]
NEEDED = {"weights": {"mood": 1.0, "near": 2.0}}  # options without a default that are not counts


def as_dict() -> dict[str, Any]:
    """RECIPE by an independent reader, which takes 1e-3 for a text."""
    return yaml.safe_load(RECIPE.replace("1e-3", "1.0e-3"))


def line_of(text: str) -> int:
    """The line of RECIPE in which a text stands for the first time."""
    return RECIPE.split(text, 1)[0].count("\n") + 1


def read(tmp_path: Path, text: str = RECIPE, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path, overrides)


def complaint(tmp_path: Path, text: str = RECIPE, *overrides: str) -> str:
    with pytest.raises(Mistake) as caught:
        read(tmp_path, text, *overrides)
    return str(caught.value)


def missing(words: list[str], message: str) -> list[str]:
    return [word for word in words if word not in message]


# ---- what it reads


def test_the_recipe_holds_what_the_file_says(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    assert list(recipe.tasks) == ["mood", "near"]
    assert recipe.tasks["mood"].text == ("text",)
    assert recipe.tasks["near"].text == ("a", "b")
    assert recipe.encoder.name == "random"
    assert recipe.encoder.options["layers"] == 1
    assert recipe.stages[0].steps == 5
    assert recipe.stages[0].optimizer.options["lr"] == 0.001
    assert recipe.stages[0].sampler.name == "round_robin"
    assert recipe.stages[1].epochs == 2
    assert recipe.modules[0].name == "lhuc"
    assert recipe.modules[0].tasks == ("mood",)


def test_everything_left_out_is_filled_in_with_the_signatures_defaults(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    chosen: list[tuple[Choice[Any], str]] = [
        (recipe.stages[1].optimizer, "optimizers"),
        (recipe.stages[1].schedule, "schedules"),
        (recipe.stages[1].sampler, "samplers"),
        (recipe.stages[1].combiner, "combiners"),
    ]
    for method, family in chosen:
        defaults = {name: option.default for name, option in TABLES[family].options(method.name).items()}
        assert method.options == defaults
    assert recipe.seed == 11711
    assert recipe.stages[1].batch_size == 32


@pytest.mark.parametrize(
    ("written", "name", "options"),
    [
        ("constant", "constant", {"warmup": 0.0}),
        ("{name: constant}", "constant", {"warmup": 0.0}),
        ("{name: constant, warmup: 0.2}", "constant", {"warmup": 0.2}),
        ("{warmup: 0.3}", "linear", {"warmup": 0.3, "end": 0.0}),
    ],
)
def test_a_method_is_a_name_or_a_name_with_options(
    written: str, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    schedule = read(tmp_path, RECIPE.replace("schedule: linear", f"schedule: {written}")).stages[0].schedule
    assert (schedule.name, schedule.options) == (name, options)


@pytest.mark.parametrize("family", ["samplers", "schedules", "optimizers", "combiners"])
def test_every_method_of_a_stage_can_be_named(family: str, tmp_path: Path) -> None:
    for name in TABLES[family]:
        options = TABLES[family].options(name)
        needed = {option: NEEDED[option] for option, given in options.items() if given.default is given.empty}
        stage = {"steps": 1, family[:-1]: {"name": name, **needed}}
        recipe = read_recipe(as_dict() | {"stages": [stage]})
        assert getattr(recipe.stages[0], family[:-1]).name == name


def test_a_dict_reads_like_its_file(tmp_path: Path) -> None:
    given = as_dict()
    before = copy.deepcopy(given)
    overrides = ["stages.0.steps=7", "tasks.mood.label=feeling", "stages.0.optimizer.lr=2e-3"]
    here = read_recipe(given | {"data": str(tmp_path)}, overrides)
    assert here == read(tmp_path, RECIPE, *overrides)
    assert given == before


def test_tables_in_a_dict_stay_what_they_are(tmp_path: Path) -> None:
    given = as_dict()
    table = pa.table({"text": ["x"], "mood": ["low"]})
    given["tasks"]["mood"]["train"] = table
    recipe = read_recipe(given)
    assert recipe.source("mood", "train") is table
    assert read_recipe(yaml.safe_load(recipe.as_yaml())).source("mood", "train") is None


def test_paths_are_relative_to_the_data_folder_and_that_to_the_recipe(tmp_path: Path) -> None:
    assert read(tmp_path).source("mood", "train") == tmp_path / "mood.tsv"
    assert read(tmp_path).source("mood", "dev") is None
    assert read(tmp_path, f"{RECIPE}data: sets\n").source("mood", "train") == tmp_path / "sets" / "mood.tsv"
    assert read(tmp_path, f"{RECIPE}data: /sets\n").source("mood", "train") == Path("/sets/mood.tsv")
    assert read(tmp_path, RECIPE.replace("mood.tsv", "/there/mood.tsv")).source("mood", "train") == Path(
        "/there/mood.tsv"
    )


def test_a_data_folder_given_by_hand_is_relative_to_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "mine").mkdir()
    path = tmp_path / "recipes" / "recipe.yaml"
    path.write_text(f"{RECIPE}data: sets\n")
    monkeypatch.chdir(tmp_path)
    assert read_recipe(path, data="mine").source("mood", "train") == tmp_path / "mine" / "mood.tsv"
    with pytest.raises(Mistake, match="there is no data folder yours"):
        read_recipe(path, data="yours")


SHIPPED = sorted([*(HOUSE / "recipes").glob("*.yaml"), *Path(mtbert.__file__).parent.glob("demo/*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_recipes_we_ship_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.tasks
    assert recipe == read_recipe(yaml.safe_load(recipe.as_yaml()))


# ---- as_yaml


def test_reading_what_as_yaml_writes_gives_the_same_recipe(tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE + "seed: 3\n")
    again = read(tmp_path, recipe.as_yaml())
    assert again == recipe
    assert again.as_yaml() == recipe.as_yaml()


@pytest.mark.parametrize(
    "name",
    [
        *("yes", "no", "on", "null", "~", "true", "5", "0x1f", "1_000", "1e5", "1.5e3", "1e-5", "5.0e-5", ".5", ".inf"),
        *("2024-01-05", "12:30", "010", "=", "<<", "#1", "a: b", "- a", "{a}", "'", '"', "*a", "&a", "%", "@", "é 🙂"),
    ],
)
def test_texts_that_look_like_something_else_survive_as_yaml(name: str, tmp_path: Path) -> None:
    given = as_dict()
    given["tasks"]["mood"] |= {"classes": ["other", name], "label": name}
    recipe = read_recipe(given)
    again = read(tmp_path, recipe.as_yaml()).tasks["mood"]
    assert again == recipe.tasks["mood"]
    assert again.label == name


@pytest.mark.parametrize("lr", [5e-5, 1e-7, 1.25e-05, 0.1, 1.0, 123456.789, 3e-300])
def test_numbers_survive_as_yaml_to_the_last_digit(lr: float, tmp_path: Path) -> None:
    given = as_dict()
    given["stages"][0]["optimizer"]["lr"] = lr
    assert read(tmp_path, read_recipe(given).as_yaml()).stages[0].optimizer.options["lr"] == lr


# ---- YAML's traps


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("5e-5", 5e-5),
        ("5E-5", 5e-5),
        ("1e3", 1000.0),
        ("2.5e-4", 2.5e-4),
        ("2.e-4", 2e-4),
        (".5e-4", 5e-5),
        ("5.0e-5", 5e-5),
        ("+5e-5", 5e-5),
        ("0.001", 0.001),
        ("1", 1.0),
    ],
)
def test_numbers_are_numbers_with_or_without_a_point(written: str, number: float, tmp_path: Path) -> None:
    assert read(tmp_path, RECIPE.replace("1e-3", written)).stages[0].optimizer.options["lr"] == number
    assert read(tmp_path, RECIPE, f"stages.0.optimizer.lr={written}").stages[0].optimizer.options["lr"] == number


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y", "n", "e5", "5e", "1-2", "1e5x"])
def test_words_are_texts(word: str, tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE.replace("label: mood", f"label: {word}").replace("[low,", f"[{word},"))
    assert recipe.tasks["mood"].label == word
    assert recipe.tasks["mood"].classes[0] == word  # type: ignore[attr-defined]


@pytest.mark.parametrize(("written", "read_as"), [("true", True), ("False", False), ("TRUE", True)])
def test_true_and_false_are_true_and_false(written: str, read_as: bool, tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE, f"stages.0.optimizer.decay_vectors={written}")
    assert recipe.stages[0].optimizer.options["decay_vectors"] is read_as


@pytest.mark.parametrize("setting", ["seed", "stages.0.batch_size", "stages.0.steps", "tasks.mood.weight"])
def test_true_is_no_number(setting: str, tmp_path: Path) -> None:
    assert missing([setting, "True"], complaint(tmp_path, RECIPE, f"{setting}=true")) == []


def test_anchors_and_merges_are_understood(tmp_path: Path) -> None:
    text = RECIPE.replace("  mood:\n", "  mood: &mood\n").replace(
        "  near:\n", "  again:\n    <<: *mood\n    label: other\n  near:\n"
    )
    again = read(tmp_path, text).tasks["again"]
    assert again.label == "other"
    assert again.classes == ("low", "mid", "high")  # type: ignore[attr-defined]


def test_a_mistake_beside_a_merge_stands_on_its_own_line(tmp_path: Path) -> None:
    text = RECIPE.replace("  mood:\n", "  mood: &mood\n").replace(
        "  near:\n", "  again:\n    <<: *mood\n    classes: [a, a]\n  near:\n"
    )
    line = text.split("classes: [a, a]")[0].count("\n") + 1
    assert f"recipe.yaml, line {line}: tasks.again.classes: class 'a' is named twice" in complaint(tmp_path, text)


def test_a_key_that_overrides_a_merged_one_is_not_given_twice(tmp_path: Path) -> None:
    text = textwrap.dedent("""\
        tasks:
          mood: {kind: classification, text: text, label: mood, classes: 3}
        stages:
          - steps: 5
            schedule: &base {name: linear, warmup: 0.2}
          - {steps: 6, schedule: &next {<<: *base, warmup: 0.3}}
        encoder: {name: random}
        """)
    schedules = [stage.schedule.options["warmup"] for stage in read(tmp_path, text).stages]
    assert schedules == [0.2, 0.3]


# ---- bad recipes

BAD: dict[str, tuple[str, str, list[str]]] = {
    # what is wrong: (what stands in RECIPE, what takes its place, words of the message)
    "unknown key": ("keep: overall", "kep: overall", ["unknown key 'kep'; did you mean 'keep'?", "encoder", "seed"]),
    "unknown key of a stage": (
        "batch_size: 8",
        "batchsize: 8",
        ["'batchsize'; did you mean 'batch_size'?", "stages.0"],
    ),
    "unknown key of a task": ("label: score", "lable: score", ["'lable'; did you mean 'label'?", "tasks.near"]),
    "a name inside a task": ("label: score", "label: score\n    name: x", ["tasks.near.name", "'name'"]),
    "unknown kind": ("kind: regression", "kind: regresion", ["'regresion'; did you mean 'regression'?"]),
    "a kind that is a list": ("kind: regression", "kind: [regression]", ["tasks.near.kind", "regression"]),
    "no kind": ("kind: regression\n    ", "", ["tasks.near", "needs a `kind`: classification or regression"]),
    "no label": ("label: score\n    ", "", ["tasks.near", "needs `label`"]),
    "unknown sampler": ("sampler: round_robin", "sampler: round_robn", ["unknown sampler", "mean 'round_robin'?"]),
    "unknown schedule": ("schedule: linear", "schedule: liner", ["unknown schedule 'liner'; did you mean 'linear'?"]),
    "a schedule that is a number": ("schedule: linear", "schedule: 5", ["stages.0.schedule", "write a name", "not 5"]),
    "a schedule that is a list": ("schedule: linear", "schedule: {name: [linear]}", ["stages.0.schedule", "linear"]),
    "unknown optimizer": ("name: adamw", "name: adam", ["unknown optimizer 'adam'; did you mean 'adamw'?"]),
    "unknown option": ("lr: 1e-3", "lrr: 1e-3", ["unknown option of optimizer 'adamw'", "'lrr'; did you mean 'lr'?"]),
    "option out of bounds": ("lr: 1e-3", "lr: -1e-3", ["lr of optimizer 'adamw' is -0.001", "greater than 0"]),
    "option of a wrong type": ("lr: 1e-3", "lr: fast", ["lr of optimizer 'adamw' is 'fast'", "number"]),
    "one beta": ("lr: 1e-3", "betas: [0.9]", ["betas of optimizer 'adamw' is [0.9]"]),
    "unknown regularizer": ("steps: 5", "steps: 5\n    regularizers: [smrt]", ["regularizers.0", "'smrt'"]),
    "unknown combiner": ("steps: 5", "steps: 5\n    combiner: sun", ["unknown combiner 'sun'; did you mean 'sum'?"]),
    "unknown part to train": ("steps: 5", "steps: 5\n    train: al", ["part to train 'al'; did you mean 'all'?"]),
    "unknown module": ("lhuc", "luhc", ["modules.0", "unknown task module 'luhc'; did you mean 'lhuc'?"]),
    "modules without a list": ("\n  - {name: lhuc, tasks: [mood]}", " lhuc", ["modules: is a list", "a dash"]),
    "unknown task of a module": (
        "tasks: [mood]}",
        "tasks: [moot]}",
        ["modules.0.tasks", "'moot'; did you mean 'mood'?"],
    ),
    "module for a number": ("tasks: [mood]}", "tasks: 3}", ["modules.0.tasks", "3"]),
    "module for a nest": ("tasks: [mood]}", "tasks: [[mood]]}", ["modules.0.tasks", "mood"]),
    "shared, perhaps": ("tasks: [mood]}", "shared: perhaps}", ["modules.0.shared: is 'perhaps', not true or false"]),
    "unknown task of a stage": ("[mood, near]", "[mood, neer]", ["unknown task 'neer'; did you mean 'near'?"]),
    "a stage of no tasks": ("[mood, near]", "[]", ["stages.0.tasks"]),
    "unknown task to keep": ("keep: overall", "keep: overal", ["'overal'; did you mean 'overall'?", "mood, near"]),
    "unknown head": ("range: [0, 5]", "range: [0, 5]\n    head: cosin", ["tasks.near.head", "did you mean 'cosine'?"]),
    "unknown pooling": ("range: [0, 5]", "range: [0, 5]\n    pooling: men", ["tasks.near.pooling", "mean 'mean'?"]),
    "unknown features": ("range: [0, 5]", "range: [0, 5]\n    features: x", ["tasks.near.features", "'x'"]),
    "unknown encoder option": ("layers: 1", "layer: 1", ["option of encoder 'random'", "did you mean 'layers'?"]),
    "an encoder that is a list": ("{name: random, layers: 1}", "{name: [random]}", ["encoder", "random"]),
    "a class named twice": ("[low, mid, high]", "[low, high, low]", ["tasks.mood.classes: class 'low' is named twice"]),
    "one class": ("[low, mid, high]", "[low]", ["needs at least two classes, not 1"]),
    "a class that is a fraction": ("[low, mid, high]", "[0.5, 1.5]", ["put everything else in quotes"]),
    "a class that is a day": ("[low, mid, high]", "[2020-01-01, 2020-01-02]", ["put everything else in quotes"]),
    "range upside down": ("[0, 5]", "[5, 0]", ["tasks.near", "range is 5 to 0", "the lower end must come first"]),
    "no number": ("batch_size: 8", "batch_size: yes", ["stages.0.batch_size", "'yes'", "integer"]),
    "below its bound": ("batch_size: 8", "batch_size: 0", ["stages.0.batch_size", "greater than or equal to 1", "0"]),
    "no length": ("epochs: 2", "batch_size: 4", ["stages.1", "`epochs`, `steps` or `minutes`", "none is given"]),
    "both steps and epochs": ("steps: 5", "steps: 5\n    epochs: 1", ["stages.0", "`epochs` and `steps` are given"]),
    "both steps and minutes": ("steps: 5", "steps: 5\n    minutes: 1", ["stages.0", "`steps` and `minutes` are given"]),
    "a metric to keep that is not reported": (
        "keep: overall",
        "keep: mood.auc",
        ["line 27: keep: 'mood.auc' is not reported: set `report: auc` on task 'mood'"],
    ),
    "a metric of another kind": (
        "label: mood\n",
        "label: mood\n    metric: pearson\n",
        ["line 7: tasks.mood.metric: unknown metric of kind classification: 'pearson'", "accuracy, macro_f1"],
    ),
    "a seed that is a text": ("keep: overall", "keep: overall\nseed: x", ["seed", "'x'", "integer"]),
    "neither true nor a number": (
        "label: mood",
        "label: mood\n    counts: -2",
        ["line 7: tasks.mood.counts: input should be true or false (found -2), or ", "greater than or equal to 0"],
    ),
    "unknown key of a data set": (
        "label: mood",
        "label: mood\n    hub: {name: a/b, confg: x}",
        ["line 7: tasks.mood.hub.confg: unknown key 'confg'; did you mean 'config'? (valid: name, config, revision)"],
    ),
    "a weight of no class": (
        "label: mood",
        "label: mood\n    class_weights: {hgh: 2}",
        ["line 7: tasks.mood.class_weights: ", "'hgh'; did you mean 'high'? (valid: low, mid, high)"],
    ),
    "a name that torch uses": ("  near:", "  train:", ["'train' cannot name a task"]),
    "a task given twice": ("  near:", "  mood:", ["'mood' is given twice (first on line 3)", "line 9"]),
    "a key given twice": (
        "label: mood",
        "label: mood\n    label: x",
        ["'label' is given twice (first on line 6)", "line 7"],
    ),
    "a section given twice": ("keep: overall", "stages: []", ["'stages' is given twice (first on line 17)", "line 27"]),
    "braces for a key": ("keep: overall", "{{keep}}: overall", ["recipe.yaml, line 27"]),
    "a day that does not exist": ("train: near.tsv", "train: 2024-13-45", ["recipe.yaml, line 14", "2024-13-45"]),
    "data that is a list": ("keep: overall", "data: [a]", ["recipe.yaml, line 27: data"]),
    "an open bracket": ("[low, mid, high]", "[low, mid", ["recipe.yaml, line 8"]),
    "a tab": ("    label: mood", "\tlabel: mood", ["recipe.yaml, line 6"]),
}


@pytest.mark.parametrize(("old", "new", "words"), BAD.values(), ids=list(BAD))
def test_a_bad_recipe_is_explained(old: str, new: str, words: list[str], tmp_path: Path) -> None:
    assert RECIPE.count(old) >= 1
    message = complaint(tmp_path, RECIPE.replace(old, new, 1))
    assert missing(words, message) == []
    assert str(tmp_path / "recipe.yaml") in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("classification", "classificatoin"),
        ("label: mood", "lable: mood"),
        ("[low, mid, high]", "[low, low]"),
        ("range: [0, 5]", "range: [5, 0]"),
        ("- {name: lhuc, tasks: [mood]}", "- {name: luhc}"),
        ("- tasks: [mood, near]", "- tasks: [moot]"),
        ("steps: 5", "steps: -5"),
        ("batch_size: 8", "batch_sice: 8"),
        ("schedule: linear", "schedule: liner"),
        ("sampler: round_robin", "sampler: {name: round_robin, x: 1}"),
        ("- epochs: 2", "- epochs: 0"),
        ("- epochs: 2", "- 5"),
        ("- epochs: 2", "- batch_size: 4"),
        ("keep: overall", "keep: overal"),
    ],
)
def test_a_mistake_names_the_line_it_stands_on(old: str, new: str, tmp_path: Path) -> None:
    problems = complaint(tmp_path, RECIPE.replace(old, new, 1)).split("\n")
    expected = f"{tmp_path / 'recipe.yaml'}, line {line_of(old)}: "
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.parametrize("lines", [0, 1, 7])
def test_lines_count_comments_and_blanks(lines: int, tmp_path: Path) -> None:
    text = "# a comment\n\n" * lines + RECIPE.replace("steps: 5", "steps: -5")
    assert f"line {line_of('steps: 5') + 2 * lines}: stages.0.steps" in complaint(tmp_path, text)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = RECIPE.replace("kind: regression", "kind: regresion").replace("steps: 5", "steps: -5").replace("lhuc", "x")
    problems = complaint(tmp_path, text.replace("[low, mid, high]", "[low]")).split("\n")
    assert len(problems) == 4
    assert all(problem.startswith(str(tmp_path / "recipe.yaml")) for problem in problems)


def test_a_task_with_a_mistake_is_no_unknown_task(tmp_path: Path) -> None:
    text = RECIPE.replace("label: mood", "label: mood\n    weight: 0") + "overall: {mood: 2}\n"
    [problem] = complaint(tmp_path, text).split("\n")
    assert f"line {line_of('label: mood') + 1}: tasks.mood.weight: " in problem


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("text: text", "text: 5"),
        ("label: mood", "label: 5"),
        ("label: mood", "label: mood\n    symmetric: x"),
        ("label: mood", "label: mood\n    counts: x"),
        ("text: text", "text: [a, b, c]"),
        ("steps: 5", "steps: 5\n    regularizers: gaussian"),
        ("tasks: [mood, near]", "tasks: 5"),
        ("range: [0, 5]", "range: 5"),
    ],
)
def test_messages_speak_the_recipes_language_not_pythons(old: str, new: str, tmp_path: Path) -> None:
    message = complaint(tmp_path, RECIPE.replace(old, new, 1)).lower()
    assert [
        word for word in ("tuple", "dictionary", "validation", "unhashable", ".str", ".bool") if word in message
    ] == []


@pytest.mark.parametrize("section", ["tasks", "stages"])
@pytest.mark.parametrize("given", ["null", "{}", "[]", "5"])
def test_a_recipe_without_tasks_or_stages_is_told_which_it_lacks(section: str, given: str, tmp_path: Path) -> None:
    message = complaint(tmp_path, RECIPE, f"{section}={given}", *(["modules=null"] if section == "tasks" else []))
    assert section in message
    assert [word for word in ("tuple", "dictionary", "validation") if word in message] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is not a recipe", "`tasks:` and `stages:`"]),
        (b"- tasks\n", ["is not a recipe"]),
        (b"just words\n", ["is not a recipe"]),
        (b"# only a comment\n", ["is not a recipe"]),
        (b"\xff\xfe\x00", ["is not text in UTF-8"]),
        (b"a: 1\n---\nb: 2\n", ["line 2"]),
        (b"a: \x00\n", ["recipe.yaml"]),
    ],
)
def test_a_file_that_is_no_recipe_says_so(content: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(Mistake) as caught:
        read_recipe(path)
    assert missing([str(path), *words], str(caught.value)) == []


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"there is no recipe .*none\.yaml"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(Mistake, match="there is no recipe"):
        read_recipe(tmp_path)


def test_mistakes_in_a_dict_name_their_place() -> None:
    given = as_dict()
    given["stages"][0]["steps"] = 0
    with pytest.raises(Mistake, match=r"^recipe: stages\.0\.steps: .*greater than or equal to 1 \(found 0\)$"):
        read_recipe(given)


# ---- overrides


@pytest.mark.parametrize(
    ("override", "path", "expected"),
    [
        ("seed=5", "seed", 5),
        ("keep=mood", "keep", "mood"),
        ("stages.0.steps=9", "stages.0.steps", 9),
        ("stages.1.batch_size=4", "stages.1.batch_size", 4),
        ("stages.0.clip=null", "stages.0.clip", None),
        ("stages.0.train=[heads, modules]", "stages.0.train.1.name", "modules"),
        ("tasks.mood.classes=[a, b]", "tasks.mood.classes", ("a", "b")),
        ("tasks.mood.classes.1=middle", "tasks.mood.classes", ("low", "middle", "high")),
        ("tasks.mood.label=a=b", "tasks.mood.label", "a=b"),
        ("stages.0.optimizer.lr=5e-5", "stages.0.optimizer.options.lr", 5e-5),
        ("stages.1.optimizer.lr=5e-5", "stages.1.optimizer.options.lr", 5e-5),
        ("stages.0.schedule.warmup=0.5", "stages.0.schedule.options.warmup", 0.5),  # was short: `schedule: linear`
        ("stages.0.schedule=constant", "stages.0.schedule.name", "constant"),
        ("stages.0.schedule={name: constant, warmup: 0.5}", "stages.0.schedule.options.warmup", 0.5),
        ("encoder.width=64", "encoder.options.width", 64),
        ("modules=[]", "modules", ()),
        ("modules.0.shared=true", "modules.0.shared", True),
        ("stages.1.sampler.name=round_robin", "stages.1.sampler.name", "round_robin"),
    ],
)
def test_an_override_changes_what_it_names_and_nothing_else(
    override: str, path: str, expected: Any, tmp_path: Path
) -> None:
    def entered(recipe: Recipe) -> Any:
        place: Any = recipe
        for step in path.split("."):
            if isinstance(place, dict):
                place = place[step]
            else:
                place = place[int(step)] if isinstance(place, tuple) else getattr(place, step)
        return place

    assert entered(read(tmp_path, RECIPE, override)) == expected

    plain, changed = (yaml.safe_load(read(tmp_path, RECIPE, *given).as_yaml()) for given in ([], [override]))
    top, *_ = path.split(".")
    assert {key: value for key, value in plain.items() if key != top} == {
        key: value for key, value in changed.items() if key != top
    }


def test_later_overrides_win(tmp_path: Path) -> None:
    assert read(tmp_path, RECIPE, "seed=1", "seed=2").seed == 2


def test_null_unsets_a_value(tmp_path: Path) -> None:
    said = "`epochs` and `steps` are given (key=null unsets a value)"
    assert said in complaint(tmp_path, RECIPE, "stages.0.epochs=1")
    stage = read(tmp_path, RECIPE, "stages.0.epochs=1", "stages.0.steps=null").stages[0]
    assert (stage.epochs, stage.steps) == (1, None)


@pytest.mark.parametrize("text", [RECIPE, f"{RECIPE}data: sets\n"], ids=["unset", "set"])
def test_null_unsets_the_data_folder_too(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text, "data=null").source("mood", "train") == tmp_path / "mood.tsv"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", ["'seed' is neither an option nor key=value"]),
        ("seed=[", ["seed=[", "'[' is not a YAML value"]),
        ("stages.7.steps=3", ["stages.7.steps=3", "there is no entry 7", "0 to 1"]),
        ("stages.x.steps=3", ["stages.x.steps=3", "there is no entry x"]),
        ("stages.-1.steps=3", ["there is no entry -1"]),
        ("stages.².steps=3", ["there is no entry ²"]),
        ("seed.x=3", ["seed.x=3"]),
        ("stages.0.steps.x=3", ["stages.0.steps.x=3", "holds 5", "'x'"]),
        ("tasks.mood.train=2024-13-45", ["2024-13-45"]),
        ("stagse.0.steps=3", ["stagse", "did you mean 'stages'?"]),
        ("tasks.moood.label=x", ["moood"]),
    ],
)
def test_an_override_that_cannot_be_applied_is_shown(override: str, words: list[str], tmp_path: Path) -> None:
    assert missing(words, complaint(tmp_path, RECIPE, override)) == []


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("stages.0.steps=-3", "stages.0.steps"),
        ("stages.0.batchsize=3", "stages.0.batchsize"),
        ("keep=mod", "keep"),
        ("stages.0.schedule=liner", "stages.0.schedule"),
        ("tasks.mood.classes=[a, a]", "tasks.mood.classes"),
        ("tasks.mood.kind=x", "tasks.mood.kind"),
        ("tasks.near.head=cosin", "tasks.near.head"),
        ("stages.0.optimizer.lr=-1", "stages.0.optimizer"),
        ("stages.0.optimizer.rl=1", "stages.0.optimizer"),
        ("stages.0.schedule.name=liner", "stages.0.schedule"),
        ("modules.0.name=luhc", "modules.0"),
        ("encoder.layer=3", "encoder"),
    ],
)
def test_a_mistake_in_an_override_is_laid_on_the_command_line(override: str, place: str, tmp_path: Path) -> None:
    assert complaint(tmp_path, RECIPE, override).startswith(f"command line, {override}: {place}")


def test_mistakes_of_the_file_stay_with_the_file_beside_an_override(tmp_path: Path) -> None:
    text = RECIPE.replace("steps: 5", "steps: -5")
    message = complaint(tmp_path, text, "stages.0.batch_size=16", "seed=2")
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}, line {line_of('steps: 5')}: stages.0.steps: ")


def test_a_preset_may_fix_the_tasks_too(small_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def on_mood(*, weight: Positive = 0.5) -> Gaussian:
        """Noise for one task alone."""
        return Gaussian(weight=weight, tasks=["mood"])

    monkeypatch.setitem(REGULARIZERS._makers, "on_mood", on_mood)
    (chosen,) = read_recipe(small_recipe, ["stages.0.regularizers=[{name: on_mood, weight: 2}]"]).stages[0].regularizers
    assert chosen.written == {"name": "on_mood", "weight": 2.0}
    assert chosen.make() == Gaussian(weight=2.0, tasks=["mood"])


def test_a_long_value_is_cut_in_messages(small_recipe: dict[str, Any]) -> None:
    for override in ("seed", "stages.0.schedule", "stages.0.optimizer.lr", "tasks.near.range", "modules.0"):
        given = small_recipe | {"modules": ["lhuc"]}
        with pytest.raises(Mistake) as caught:
            read_recipe(given, [f"{override}=[{'x, ' * 5000}]"])
        assert "…" in str(caught.value)
        assert len(str(caught.value).split(": ", 2)[-1]) < 300


def test_a_regularizer_given_twice_is_refused(small_recipe: dict[str, Any]) -> None:
    with pytest.raises(Mistake, match="'gaussian' is given twice"):
        read_recipe(small_recipe, ["stages.0.regularizers=[gaussian, {name: gaussian, sigma: 0.1}]"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modules": [{"name": "lhuc", "tasks": ["mood", "mood"]}]}, r"modules\.0\.tasks: names 'mood' twice"),
        ({"modules": [{"name": "lhuc", "tasks": []}]}, r"modules\.0\.tasks: is \[\], not a list of tasks"),
        ({"stages": [{"steps": 1, "tasks": ["mood", "mood"]}]}, r"stages\.0\.tasks: names 'mood' twice"),
        (
            {"stages": [{"steps": 1, "tasks": ["mood"], "regularizers": [{"name": "smart", "tasks": ["near"]}]}]},
            r"regularizers\.0\.tasks: 'near' is none of the tasks of this stage: mood",
        ),
        (
            {"stages": [{"steps": 1, "regularizers": [{"name": "smart", "radius": 1e39}]}]},
            "radius .*float32 has no number as large",
        ),
        ({"stages": [{"steps": 1, "optimizer": {"betas": [1.0, 0.999]}}]}, "betas .*less than 1"),
    ],
    ids=str,
)
def test_lists_of_tasks_and_bounds_are_checked(
    small_recipe: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Mistake, match=said):
        read_recipe(small_recipe | changes)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "  - {epochs: 1, regularizers: [{name: noise_stability, layer: 9}]}",
            "regularizers.0: noise cannot",
        ),
        ("  - {epochs: 1, train: [{layers: [9]}]}", "train: there is no layer 9"),
        ("  - {epochs: 1, combiner: pcgrad}", "combiner: 'pcgrad' combines the gradients of several tasks"),
        ("  - {epochs: 1, optimizer: {rates: {head: 10}}}", "optimizer: unknown part"),
    ],
)
def test_what_only_the_model_knows_is_said_with_file_and_line(
    small_recipe: dict[str, Any], tmp_path: Path, entry: str, said: str
) -> None:
    small_recipe.pop("stages")
    path = tmp_path / "recipe.yaml"
    head = yaml.safe_dump(small_recipe)
    path.write_text(f"{head}stages:\n  - epochs: 1\n{entry}\n")
    line = len(head.splitlines()) + 3
    experiment = build(read_recipe(path))
    experiment.stage(0)
    with pytest.raises(Mistake) as caught:
        experiment.stage(1)
    assert str(caught.value).startswith(f"{path}, line {line}: stages.1.{said}")


def test_a_module_that_does_not_fit_is_said_with_its_line(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    head = yaml.safe_dump(small_recipe)
    path.write_text(f"{head}modules:\n  - lhuc\n  - {{name: pals, size: 5, heads: 2}}\n")
    with pytest.raises(Mistake) as caught:
        build(read_recipe(path))
    assert str(caught.value).startswith(f"{path}, line {len(head.splitlines()) + 3}: modules.1: ")


def test_names_are_read_as_they_are_written(tmp_path: Path) -> None:
    names = ["010", "02", "0x1F", "1:30", "0b11", "1_000", "+5", "-0", "00", "yes", "007"]
    numbers = {"0": 0, "-7": -7, "12": 12}
    path = tmp_path / "recipe.yaml"
    path.write_text(f"names: [{', '.join(names)}]\nnumbers: [{', '.join(numbers)}]\n")
    content = RecipeText(path).content
    assert content == {"names": names, "numbers": list(numbers.values())}
    path.write_text(as_text(content))
    assert RecipeText(path).content == content


@pytest.mark.parametrize("written", ["3", "0.5", "true"])
def test_a_number_where_a_file_is_due_is_laid_on_its_line(tmp_path: Path, written: str) -> None:
    said = complaint(tmp_path, RECIPE.replace("train: mood.tsv", f"train: {written}"))
    found = written.title() if written == "true" else written
    due = "a file, a list of files, a folder or a share such as 10%"
    assert f"recipe.yaml, line 8: tasks.mood.train: is {due} (found {found})" in said
