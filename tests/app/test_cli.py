"""The commands as a person types them: what they print, what they refuse, and in which words."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import mtbert
import mtbert.app.cli
import mtbert.app.progress
from mtbert.app.console import show_scores
from mtbert.data.kinds.regression import Regression
from mtbert.model.checkpoints import load_encoder, load_model
from mtbert.model.taps import Fold
from mtbert.recipe.families import FAMILIES
from mtbert.recipe.reading import read_recipe
from mtbert.registry import Registry
from mtbert.reports.table import REPORTS
from mtbert.runs.build import build
from mtbert.runs.folder import Run
from mtbert.scoring.evaluation import Scores
from mtbert.shipping.export import FORMATS
from mtbert.training.trainer import Record
from tests.support.small import moved, recipe_over, write_small_data

TABLES = {family.title: family.table for family in FAMILIES.values()}


class Said(NamedTuple):
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`mtbert ARGUMENTS` in this process, torch imported once."""

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["mtbert", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            mtbert.app.cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe_file(small_recipe: dict[str, Any], here: Path) -> Path:
    """small_recipe in a file beside its data folder."""
    path = here / "recipe.yaml"
    path.write_text(yaml.safe_dump(small_recipe | {"data": "data"}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("once")
    recipe = recipe_over(write_small_data(folder / "data"))
    return mtbert.train(recipe, out=folder / "RUN", overrides=["stages.0.steps=4"])


@pytest.fixture
def trained(trained_once: Run, recipe_file: Path, here: Path) -> Path:
    """What `mtbert train recipe.yaml stages.0.steps=4 --out RUN` leaves."""
    return moved(trained_once, trained_once.folder.parent, here).folder


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file under a folder with what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def assert_refused(said: Said, *parts: str) -> None:
    """Exit code 2, one message on standard error that holds these parts, no traceback."""
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    assert "Traceback" not in said.err
    for part in parts:
        assert part in said.err


# ---- what cannot be trained is refused before anything is written


def edit(name: str, line: int, new: str) -> Callable[[Path], None]:
    """Put `new` in the place of a line of a data file, counted from 1."""

    def apply(here: Path) -> None:
        path = here / "data" / name
        lines = path.read_text().split("\n")
        lines[line - 1] = new
        path.write_text("\n".join(lines))

    return apply


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace_file(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda here: write(here / "data" / name, content)


def without_file(name: str) -> Callable[[Path], None]:
    return lambda here: (here / "data" / name).unlink()


def in_recipe(old: str, new: str) -> Callable[[Path], None]:
    def apply(here: Path) -> None:
        text = (here / "recipe.yaml").read_text()
        assert old in text
        (here / "recipe.yaml").write_text(text.replace(old, new, 1))

    return apply


def in_addition(old: str, new: str) -> Callable[[Path], None]:
    def apply(here: Path) -> None:
        text = (here / "addition.yaml").read_text()
        assert old in text
        (here / "addition.yaml").write_text(text.replace(old, new, 1))

    return apply


def line_of(text: str) -> str:
    """Stands for 'recipe.yaml, line N', where N is the line that this text stands on, the last time it does."""
    return f"line of {text}"


def both(*spoils: Callable[[Path], None]) -> Callable[[Path], None]:
    def apply(here: Path) -> None:
        for spoil in spoils:
            spoil(here)

    return apply


def folder_with(config: dict[str, Any], *files: str) -> Callable[[Path], None]:
    """An encoder folder `enc`, and the recipe that names it."""

    def apply(here: Path) -> None:
        (here / "enc").mkdir()
        (here / "enc" / "config.json").write_text(json.dumps(config))
        for name in files:
            (here / "enc" / name).write_bytes(b"\x80\x04K\x01.")
        text = re.sub(r"encoder:\n(  .*\n)+", f"encoder: {here / 'enc'}\n", (here / "recipe.yaml").read_text())
        (here / "recipe.yaml").write_text(text)

    return apply


def encoder_named(name: str) -> Callable[[Path], None]:
    def apply(here: Path) -> None:
        text = re.sub(r"encoder:\n(  .*\n)+", f"encoder: {name}\n", (here / "recipe.yaml").read_text())
        (here / "recipe.yaml").write_text(text)

    return apply


BERT = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}

BAD: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "an unknown recipe key": (
        in_recipe("  batch_size: 8", "  batchsize: 8"),
        [line_of("batchsize"), "unknown key 'batchsize'; did you mean 'batch_size'?"],
    ),
    "an unknown key at the top": (
        in_recipe("tasks:\n", "kep: overall\ntasks:\n"),
        [line_of("kep:"), "unknown key 'kep'; did you mean 'keep'?"],
    ),
    "an unknown key of a task": (
        in_recipe("    label: mood", "    lable: mood"),
        ["recipe.yaml, line", "unknown key 'lable'; did you mean 'label'?"],
    ),
    "an unknown method": (
        in_recipe("  batch_size: 8", "  batch_size: 8\n  regularizers: [gausian]"),
        [line_of("regularizers"), "unknown regularizer 'gausian'; did you mean 'gaussian'?"],
    ),
    "an unknown option of a method": (
        in_recipe("    lr: 0.001", "    learning_rate: 0.001"),
        ["recipe.yaml, line", "unknown option of optimizer 'adamw': 'learning_rate'", "lr"],
    ),
    "an unknown pooling": (
        in_recipe("    label: mood", "    label: mood\n    pooling: men"),
        [line_of("pooling"), "unknown pooling 'men'; did you mean 'mean'?"],
    ),
    "an unknown kind of task": (
        in_recipe("kind: regression", "kind: regresion"),
        [line_of("regresion"), "unknown kind of task 'regresion'; did you mean 'regression'?"],
    ),
    "an unknown part to train": (
        in_recipe("  batch_size: 8", "  batch_size: 8\n  train: head"),
        [line_of("train: head"), "unknown part to train 'head'; did you mean 'heads'?"],
    ),
    "an unknown keep rule": (
        in_recipe("tasks:\n", "keep: moot\ntasks:\n"),
        [line_of("keep:"), "'moot'; did you mean 'mood'?"],
    ),
    "an unknown task of a stage": (
        in_recipe("  batch_size: 8", "  batch_size: 8\n  tasks: [mood, nearr]"),
        [line_of("tasks: [mood"), "unknown task 'nearr'; did you mean 'near'?"],
    ),
    "a value of the wrong type": (
        in_recipe("  batch_size: 8", "  batch_size: eight"),
        [line_of("batch_size: eight"), "batch_size", "'eight'"],
    ),
    "a value out of bounds": (
        in_recipe("    lr: 0.001", "    lr: -1"),
        ["recipe.yaml, line", "lr of optimizer 'adamw' is -1: input should be greater than 0"],
    ),
    "a stage without a length": (
        in_recipe("- steps: 12\n ", "-"),
        ["recipe.yaml, line", "a stage is `epochs`, `steps` or `minutes` long; none is given"],
    ),
    "a recipe that is not YAML": (
        in_recipe("tasks:", "tasks: ]"),
        [line_of("tasks: ]")],
    ),
    "a template left in the recipe": (
        in_recipe("data: data", "data: {{DATA}}"),
        [line_of("{{DATA}}")],
    ),
    "a recipe that is not text": (
        lambda here: write(here / "recipe.yaml", b"\xff\xfe\x00"),
        ["recipe.yaml", "is not text"],
    ),
    "an empty recipe": (lambda here: write(here / "recipe.yaml", b""), ["recipe.yaml", "is not a recipe"]),
    "a missing file": (
        without_file("same-train.csv"),
        ["there is no file", "same-train.csv", "same-dev.csv"],
    ),
    "a missing dev file": (without_file("near-dev.jsonl"), ["there is no file", "near-dev.jsonl"]),
    "a missing text column": (
        in_recipe("    text: text", "    text: txt"),
        ["mood-train.tsv", "unknown column for the text: 'txt'; did you mean 'text'? (valid: id, text, mood)"],
    ),
    "a missing label column": (
        in_recipe("    label: mood", "    label: feeling"),
        ["mood-train.tsv", "unknown column for the label: 'feeling'", "(valid: id, text, mood)"],
    ),
    "a missing id column": (
        in_recipe("    label: mood", "    label: mood\n    id: key"),
        ["mood-train.tsv", "unknown column for the id: 'key'", "(valid: id, text, mood)"],
    ),
    "a label outside the classes": (
        edit("mood-train.tsv", 17, "15\tgood film\thuge"),
        ["mood-train.tsv, line 17: column 'mood': label 'huge' is not one of low, mid, high", "bad_rows: skip"],
    ),
    "a numbered label outside the classes": (
        edit("same-dev.csv", 3, "101,a,b,2"),
        ["same-dev.csv, line 3: column 'same': label '2' is not one of 0, 1", "bad_rows: skip"],
    ),
    "a label outside the range": (
        edit("near-train.jsonl", 9, '{"a": "tea", "b": "river", "score": 5.5}'),
        ["near-train.jsonl, line 9: column 'score': label '5.5' is outside the range 0 to 5"],
    ),
    "a label that is not a number": (
        edit("near-train.jsonl", 9, '{"a": "tea", "b": "river", "score": "much"}'),
        ["near-train.jsonl, line 9: column 'score': label 'much' is not a number"],
    ),
    "a score that is not a number to compute with": (
        edit("near-train.jsonl", 9, '{"a": "tea", "b": "river", "score": NaN}'),
        ["near-train.jsonl, line 9: column 'score': label 'nan'"],
    ),
    "a row without a label": (
        edit("mood-train.tsv", 5, "3\tgood film\t"),
        ["mood-train.tsv, line 5: column 'mood'"],
    ),
    "a row with too few columns": (
        edit("mood-train.tsv", 5, "3\tgood film"),
        ["mood-train.tsv, line 5: 2 columns where the header has 3"],
    ),
    "an empty file": (replace_file("mood-train.tsv", b""), ["mood-train.tsv is empty"]),
    "a file of a header alone": (replace_file("mood-train.tsv", b"id\ttext\tmood\n"), ["mood-train.tsv is empty"]),
    "a file of blank lines": (replace_file("mood-train.tsv", b"\n\n\n"), ["mood-train.tsv is empty"]),
    "an empty JSONL file": (replace_file("near-train.jsonl", b"\n\n"), ["near-train.jsonl is empty"]),
    "a file that is not text": (
        replace_file("mood-train.tsv", b"id\ttext\tmood\n1\tgood\tlow\n2\t\x89PNG\xff\tlow\n"),
        ["mood-train.tsv, line 3: byte 0x89 is not UTF-8 text"],
    ),
    "a file of another encoding": (
        replace_file("mood-train.tsv", "id\ttext\tmood\n1\tgood\tlow\n".encode("utf-16")),
        ["mood-train.tsv, line 1: byte 0xff is not UTF-8 text"],
    ),
    "lines ended as on an old Mac": (
        replace_file("mood-train.tsv", b"id\ttext\tmoo\r1\tgood\tlow\r2\tbad\tlow\r"),
        ["mood-train.tsv"],
    ),
    "a file that is not JSONL": (
        edit("near-train.jsonl", 4, "{'a': 1}"),
        ["near-train.jsonl, line 4: not JSON"],
    ),
    "a file that is not Parquet": (
        both(in_recipe("train: mood-train.tsv", "train: x.parquet"), replace_file("x.parquet", b"no")),
        ["x.parquet is not a Parquet file"],
    ),
    "an unknown file ending": (
        both(in_recipe("train: mood-train.tsv", "train: x.xlsx"), replace_file("x.xlsx", b"PK")),
        ["x.xlsx: unknown file ending '.xlsx'", ".tsv"],
    ),
    "a class named twice": (
        in_recipe("    - mid\n", "    - mid\n    - low\n"),
        ["recipe.yaml, line", "class 'low' is named twice"],
    ),
    "two tasks of one name": (
        in_recipe("  same:\n", "  mood:\n"),
        [line_of("  mood:\n    kind: classification\n    text:\n"), "'mood' is given twice (first on line"],
    ),
    "a task that no file could be named after": (
        in_recipe("  same:\n", "  a/b:\n"),
        [line_of("  a/b:"), "'a/b' cannot name a task"],
    ),
    "a text column of numbers": (
        in_recipe("    - a\n", "    - score\n"),
        ["near-train.jsonl: text column 'score' holds double", "columns of text: a, b"],
    ),
    "a text column of numbers in a CSV": (
        in_recipe("    text: text", "    text: id"),
        ["mood-train.tsv: text column 'id' holds only numbers"],
    ),
    "a null text": (
        edit("near-train.jsonl", 2, '{"a": "tea", "b": null, "score": 1}'),
        ["near-train.jsonl, line 2: column 'b' is empty"],
    ),
    "an empty text": (edit("mood-train.tsv", 4, "2\t  \tlow"), ["mood-train.tsv, line 4: column 'text' is empty"]),
    "a text column of nulls": (
        replace_file("near-train.jsonl", b'{"a": null, "b": "x", "score": 1}\n' * 3),
        ["near-train.jsonl: text column 'a' holds null"],
    ),
    "a hub id offline": (
        encoder_named("google-bert/bert-base-uncased"),
        ["encoder 'google-bert/bert-base-uncased' is not on this machine", "local folder"],
    ),
    "a folder that is not there": (encoder_named("./models/bert"), ["encoder './models/bert'", "nor a folder"]),
    "a folder that is not there and looks like a hub id": (
        encoder_named("my models/bert"),
        ["encoder 'my models/bert'"],
    ),
    "a folder that is not there and is almost a hub id": (encoder_named("runs/my--bert"), ["encoder 'runs/my--bert'"]),
    "an encoder's name with a typo": (encoder_named("minlm"), ["encoder 'minlm'", "minilm"]),
    "an encoder of another architecture": (
        folder_with({"model_type": "roberta"}, "model.safetensors"),
        ["config.json: model_type is 'roberta'; only BERT"],
    ),
    "an encoder of another activation": (
        folder_with(BERT | {"hidden_act": "relu"}, "model.safetensors"),
        ["config.json: hidden_act is 'relu'"],
    ),
    "weights that are a pickle": (
        folder_with(BERT, "pytorch_model.bin"),
        ["pytorch_model.bin is a pickle", "save_pretrained"],
    ),
    "weights that are no weights": (folder_with(BERT, "model.safetensors"), ["model.safetensors cannot be read"]),
    "an encoder folder without a config": (
        encoder_named("data"),
        ["has no config.json"],
    ),
    "a config that is not JSON": (
        both(folder_with(BERT, "model.safetensors"), lambda here: write(here / "enc" / "config.json", b"{")),
        ["config.json is not JSON"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_message_and_nothing_is_written(
    command: Command, recipe_file: Path, here: Path, what: str
) -> None:
    spoil, parts = BAD[what]
    spoil(here)
    before = everything(here)
    said = command("train", recipe_file, "--out", here / "RUN")
    assert everything(here) == before
    text = recipe_file.read_bytes().decode("latin-1")
    lines = [part.removeprefix("line of ") for part in parts if part.startswith("line of ")]
    named = [f"recipe.yaml, line {text[: text.rindex(one)].count(chr(10)) + 1}" for one in lines]
    assert_refused(said, *(part for part in parts if not part.startswith("line of ")), *named)


def test_a_card_replaces_no_file_unasked(command: Command, trained: Path, here: Path) -> None:
    path = here / "README.md"
    path.write_text("a project of mine\n")
    assert_refused(command("card", trained, "--out", path), "README.md is there already; --overwrite replaces it")
    assert path.read_text() == "a project of mine\n"
    said = command("card", trained, "--out", path, "--overwrite")
    assert (said.code, said.out) == (0, f"{path}\n")
    assert "| mood | accuracy |" in path.read_text()


def test_json_of_one_look_is_read_by_any_reader(command: Command, recipe_file: Path) -> None:
    said = command("affinity", recipe_file, "--steps", 2, "--every", 2, "--json")

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    assert json.loads(said.out, parse_constant=refuse)["spread"][0] == [None, None, None]


@pytest.mark.parametrize("what", ["a label outside the classes", "an unknown method", "a missing file"])
def test_check_refuses_what_train_refuses(command: Command, recipe_file: Path, here: Path, what: str) -> None:
    spoil, _ = BAD[what]
    spoil(here)
    trained, checked = command("train", recipe_file), command("check", recipe_file)
    assert_refused(checked)
    assert checked.err == trained.err


@pytest.mark.parametrize(
    "words",
    [
        "predict RUM --task mood words",
        "predict runs/RUM --task mood words",
        "serve RUM",
        "ensemble RUM RUM --out new",
        "export RUM --out new",
        "add-task RUM recipe.yaml",
        "check recipe.yaml --add-to RUM",
        *(f"{verb} RUM" for verb in ("evaluate", "report", "errors", "calibrate", "verify", "card", *REPORTS)),
    ],
)
def test_every_command_names_the_runs_that_are_near(
    command: Command, trained: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_refused(command(*words.split()), "RUM holds no run: there is no such folder (runs near it: RUN)")


def write_ten_mistakes(folder: Path) -> Path:
    """A recipe over four files of eighty rows in four formats, with ten mistakes of ten sorts."""
    rows = range(80)
    questions = [json.dumps({"question": f"what is number {i}", "type": ["who", "what"][i % 2]}) for i in rows]
    questions[8] = '{"question": "who is it'
    questions[11] = '{"question": "who is this", "type": null}'
    (folder / "questions.jsonl").write_text("\n".join(questions))
    views = [f'"this, I think, is {i}",{["fact", "view"][i % 2]}' for i in rows]
    views[3], views[13], views[23] = "in a café,fact", "one cell too many,view,3", "a label of its own,veiw"
    (folder / "views.csv").write_bytes("\n".join(["sentence,label", *views]).encode("latin-1"))
    pairs = [f"one {i}\tother {i}\t{i % 2}" for i in rows]
    pairs[17], pairs[27] = '"an open quote\tother\t1', "nothing beside it\t\t0"
    (folder / "pairs.tsv").write_text("\n".join(["a\tb\tsame", *pairs]))
    scores = [i % 6 for i in rows]
    scores[35] = 7
    near = {"a": [f"one {i}" for i in rows], "b": [f"two {i}" for i in rows], "score": scores}
    pq.write_table(pa.table(near), folder / "near.parquet")
    task = {"kind": "classification", "dev": "20%"}
    recipe = {
        "encoder": {"name": "random", "layers": 1, "width": 16, "heads": 2, "inner": 32},
        "tasks": {
            "types": task | {"text": "question", "label": "type", "train": "questions.jsonl"},
            "views": task | {"text": "sentence", "label": "label", "classes": ["fact", "view"], "train": "views.csv"},
            "same": task | {"text": ["a", "b"], "label": "same", "train": "pairs.tsv", "test": "pears.tsv"},
            "near": task
            | {"kind": "regression", "text": ["a", "b"], "label": "score", "range": [0, 5], "train": "near.parquet"},
        },
        "stages": [{"steps": 2, "batch_sise": 4}],
    }
    (folder / "ten.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder / "ten.yaml"


TEN = [
    ["ten.yaml, line {line}", "'batch_sise'", "did you mean 'batch_size'?"],
    ["questions.jsonl, line 9", "Unterminated string starting at at column 14", "`bad_rows: skip` on task 'types'"],
    ["questions.jsonl, line 12", "column 'type': there is no label", "`missing: skip` on task 'types'"],
    ["views.csv, line 5", "byte 0xe9 is not UTF-8 text (café in Windows-1252)", "iconv -f WINDOWS-1252 -t UTF-8"],
    ["views.csv, line 15", "3 columns where the header has 2", "`bad_rows: skip` or `quotes: none`"],
    ["views.csv, line 25", "label 'veiw' is not one of fact, view", "`bad_rows: skip` on task 'views'"],
    ["pairs.tsv, line 19", '"an open quote other 1', "`quotes: none`"],
    ["pairs.tsv, line 29", "column 'b' is empty", "`bad_rows: skip` on task 'same'"],
    ["task 'same', `test`: there is no file", "pears.tsv", "(there: near.parquet, pairs.tsv, "],
    ["near.parquet, row 36", "label '7' is outside the range 0 to 5", "`bad_rows: skip` on task 'near'"],
]


@pytest.mark.parametrize("verb", ["check", "train"])
def test_ten_mistakes_in_four_files_are_told_in_one_run_each_with_place_value_and_remedy(
    command: Command, here: Path, verb: str
) -> None:
    recipe = write_ten_mistakes(here)
    wrong = recipe.read_text().split("\n").index("  batch_sise: 4") + 1
    before = everything(here)
    said = command(verb, recipe)
    assert everything(here) == before
    assert_refused(said)
    told = said.err.splitlines()
    assert len(told) == len(TEN)
    for parts in TEN:
        parts = [part.format(line=wrong) if "{line}" in part else part for part in parts]
        assert [line for line in told if all(part in line for part in parts)] != [], parts


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.yaml"], ["there is no recipe nowhere.yaml"]),
        (["recipe.yaml", "--data", "nowhere"], ["there is no data folder nowhere"]),
        (["recipe.yaml", "stages.0.batchsize=4"], ["command line", "'batchsize'; did you mean 'batch_size'?"]),
        (["recipe.yaml", "stages.3.steps=4"], ["stages.3.steps=4", "entries are 0 to 0"]),
        (["recipe.yaml", "stages.0.steps=many"], ["command line, stages.0.steps=many", "'many'"]),
        (["recipe.yaml", "steps"], ["'steps' is neither an option nor key=value"]),
        (["recipe.yaml", "seed=[1"], ["seed=[1", "not a YAML value"]),
        (["recipe.yaml", "stages=4"], ["stages"]),
        (["recipe.yaml", "tasks.mood=4"], ["tasks.mood"]),
        (["recipe.yaml", "stages.0.steps=null"], ["`epochs`, `steps` or `minutes`", "none is given"]),
        (["recipe.yaml", "--out", "recipe.yaml"], ["recipe.yaml"]),
        (["recipe.yaml", "--out", "recipe.yaml/run"], ["recipe.yaml"]),
    ],
)
def test_a_command_line_that_cannot_be_meant_is_refused(
    command: Command, recipe_file: Path, here: Path, arguments: list[str], parts: list[str]
) -> None:
    before = everything(here)
    said = command("train", *arguments)
    assert everything(here) == before
    assert_refused(said, *parts)


def test_a_folder_that_holds_a_run_is_refused_without_resume_or_overwrite(
    command: Command, trained: Path, recipe_file: Path
) -> None:
    before = everything(trained)
    said = command("train", recipe_file, "stages.0.steps=4", "--out", trained)
    assert everything(trained) == before
    assert_refused(said, "already holds a run", "--resume", "--overwrite")
    assert command("train", recipe_file, "stages.0.steps=4", "--out", trained, "--resume", "--quiet").code == 0
    (trained / "report.html").unlink()  # the page alone is new
    assert everything(trained) == before
    assert command("train", recipe_file, "stages.0.steps=2", "--out", trained, "--overwrite", "--quiet").code == 0
    assert len((trained / "log.jsonl").read_text().splitlines()) == 3


def test_resume_with_another_recipe_is_refused(command: Command, trained: Path, recipe_file: Path) -> None:
    before = everything(trained)
    said = command("train", recipe_file, "stages.0.steps=8", "--out", trained, "--resume")
    assert everything(trained) == before
    assert_refused(said, "another recipe", "steps: 8", "--overwrite")


# ---- what is trained


def test_the_time_left_counts_only_the_steps_taken_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mtbert.app.progress, "PLAIN_EVERY", 0.0)
    progress = mtbert.app.progress.TrainingProgress()

    def left(step: int, seconds: float) -> str:
        progress.step(Record(step, 1e-3, {"mood": {"loss": 1.0}}, 1.0, 8, seconds))
        return capsys.readouterr().err.splitlines()[-1]

    progress.begin(0, 1000, 0)
    assert "  1.7 min left  " in left(1, 0.1)  # 999 steps of 0.1 s
    progress.begin(0, 100, 90)  # resumed
    assert "  18 s left  " in left(91, 2.0)  # 9 steps of 2 s
    progress.begin(1, 51, 0)  # a second, slower stage
    assert "  3.3 min left  " in left(1, 4.0)  # 50 steps of 4 s


def test_the_best_so_far_of_an_error_is_the_smallest_and_nothing_is_written_as_minus_zero(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = mtbert.app.progress.TrainingProgress()
    near = Regression(name="near", text=("a", "b"), label="score", range=(0, 5), metric="mean_absolute_error")
    lines = []
    for error, pearson in ((0.5, 0.1), (0.25, -0.00001), (0.75, 0.3)):
        scores = Scores.of({"near": near}, {"near": {"mean_absolute_error": error, "pearson": pearson}})
        progress.scores(scores, kept=False)
        show_scores({"tasks": {"near": {"pearson": -1e-9}}, "overall": -1e-9})
        said = capsys.readouterr()
        lines.append(said.err.splitlines()[1].split())
        assert "-0.0" not in said.out
    assert [line[-2:] for line in lines] == [["0.5000", "0.5000"], ["0.2500", "0.2500"], ["0.7500", "0.2500"]]


def test_texts_that_are_read_before_the_first_step_show_how_far_that_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mtbert.app.progress, "PLAIN_EVERY", 0.0)
    progress = mtbert.app.progress.TrainingProgress()
    for done in (64, 2_000, 4_000):
        progress.reading(done, 4_000)
    (half, whole) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"features beside the vector: 2,000/4,000 texts  \d+ s left", half)
    assert whole.endswith("4,000/4,000 texts  0 s left")


def test_train_prints_each_score_beside_the_constants_and_where_the_run_is(
    command: Command, recipe_file: Path, here: Path
) -> None:
    said = command("train", recipe_file, "stages.0.steps=4", "--out", here / "RUN")
    assert said.code == 0
    scores = json.loads((here / "RUN" / "scores.json").read_text())
    for task, metric in (("mood", "accuracy"), ("same", "accuracy"), ("near", "pearson")):
        (line,) = (line for line in said.out.splitlines() if line.split()[:2] == [task, metric])
        numbers = [f"{scores[which]['tasks'][task][metric]:.4f}" for which in ("dev", "constant")]
        assert line.split()[2:] == numbers
    assert f"run: {here / 'RUN'}" in said.out
    assert "stage 0: 4 steps" in said.err  # progress is not mixed with results
    assert "best so far, kept" in said.err
    assert not re.search(r"\x1b|\r", said.out + said.err)  # plain lines where there is no terminal


def test_quiet_prints_results_only_and_json_is_json(command: Command, recipe_file: Path, here: Path) -> None:
    said = command("train", recipe_file, "stages.0.steps=2", "--out", here / "A", "--quiet", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == json.loads((here / "A" / "scores.json").read_text())


def test_a_run_goes_to_runs_under_its_recipes_name_unless_told(command: Command, recipe_file: Path, here: Path) -> None:
    assert command("train", recipe_file, "stages.0.steps=2", "--quiet").code == 0
    assert (here / "runs" / "recipe" / "scores.json").exists()


def test_overrides_reach_the_recipe(command: Command, recipe_file: Path, here: Path) -> None:
    command(
        *("train", recipe_file, "--out", here / "A", "--quiet", "stages.0.steps=null", "stages.0.epochs=1"),
        *("stages.0.train=heads", "stages.0.batch_size=20", "stages.0.optimizer.lr=5e-4"),
    )
    stage = yaml.safe_load((here / "A" / "recipe.yaml").read_text())["stages"][0]
    found = [stage["steps"], stage["epochs"], stage["train"], stage["batch_size"], float(stage["optimizer"]["lr"])]
    assert found == [None, 1.0, ["heads"], 20, 5e-4]
    steps = [line for line in (here / "A" / "log.jsonl").read_text().splitlines() if '"lr"' in line]
    assert len(steps) == 3 * 2


def test_evaluate_says_what_scores_json_says(command: Command, trained: Path) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    said = command("evaluate", trained, "--json")
    found = json.loads(said.out)
    assert (said.code, {key: found[key] for key in scores["dev"]}) == (0, scores["dev"])
    assert {name: one["constant"] for name, one in found["details"].items()} == scores["constant"]["tasks"]
    table = command("evaluate", trained)
    assert f"{scores['dev']['overall']:.4f}" in table.out


def test_evaluate_reads_the_data_it_is_given(command: Command, trained: Path, here: Path) -> None:
    (here / "data").rename(here / "elsewhere")
    assert_refused(command("evaluate", trained), "there is no file", "mood-dev.tsv")
    assert command("evaluate", trained, "--data", here / "elsewhere").code == 0


def test_a_run_with_one_task_need_not_be_told_which_one_a_file_is_for(
    command: Command, trained: Path, small_recipe: dict[str, Any], here: Path
) -> None:
    (here / "own.tsv").write_text("text\tmood\ngood film\tlow\n")
    alone = small_recipe | {"tasks": {"mood": small_recipe["tasks"]["mood"]}}
    run = mtbert.train(alone, out=here / "ALONE", overrides=["stages.0.steps=1"])
    said = command("evaluate", run.folder, "--input", "own.tsv", "--json")
    assert json.loads(said.out)["details"]["mood"]["rows"] == 1
    assert_refused(command("evaluate", trained, "--input", "own.tsv"), "--task", "mood, same, near")


def test_evaluate_scores_a_labelled_file_of_ones_own(
    command: Command, trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "own.tsv").write_text("text\tmood\ngood film\tlow\n")
    asked = ("evaluate", trained, "--task", "mood", "--input")
    (scored,) = json.loads(command(*asked, "own.tsv", "--json").out)["details"].values()
    assert scored["intervals"] == {"accuracy": None, "macro_f1": None}
    assert any("every draw from 1 row gives the same" in note for note in scored["notes"])
    assert " to " not in command(*asked, "own.tsv").out.split("mood:")[0]
    assert_refused(command(*asked, "own.tsv", "--split", "test"), "give one of the two")

    lines = ["text\tmood", *(f"good film {n}\tlow" for n in range(60)), "good\thuge", "plot\t", "a\tlow\tb"]
    lines += ['"bad\tlow', "dull\tmid"]
    (here / "own.tsv").write_text("\n".join(lines) + "\n")
    refused = command(*asked, "own.tsv")
    assert_refused(refused, "label 'huge'", "there is no label", "3 columns", "--quotes none")
    assert not any(key in refused.err for key in ("bad_rows", "missing:", "quotes:", "classes:"))
    with (here / "own.tsv").open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        refused = command(*asked, "-")
    assert_refused(refused, "standard input, line 62: column 'mood': label 'huge'")
    assert "standard-input" not in refused.err


def unbroken(text: str) -> str:
    """The text without spaces, which a narrow terminal breaks at other places."""
    return "".join(text.split())


def test_tasks_without_labels_in_a_split_are_named_and_the_others_scored(
    command: Command, small_recipe: dict[str, Any], here: Path
) -> None:
    """No `test`, a file without the column, a column of no labels or of -1: none hides the score of `near`."""
    mood, near = small_recipe["tasks"]["mood"], small_recipe["tasks"]["near"]
    tasks = small_recipe["tasks"] | {
        "empty": mood | {"test": "empty-test.tsv"},
        "kept": mood | {"test": "kept-test.tsv"},
        "distant": near | {"test": "distant-test.jsonl"},
    }
    del tasks["same"]["test"]
    (here / "data" / "mood-test.tsv").write_text("id\ttext\n1\tgood film\n")
    (here / "data" / "empty-test.tsv").write_text("id\ttext\tmood\n1\tgood film\t\n2\tbad plot\t \n")
    (here / "data" / "kept-test.tsv").write_text("id\ttext\tmood\n1\tgood film\t-1\n2\tbad plot\t-1\n")
    rows = [json.loads(line) for line in (here / "data" / "near-test.jsonl").read_text().splitlines()]
    hidden = [json.dumps(row | {near["label"]: -1.0}) for row in rows]
    (here / "data" / "distant-test.jsonl").write_text("\n".join(hidden))
    run = mtbert.train(small_recipe | {"tasks": tasks}, out=here / "RUN", overrides=["stages.0.steps=1"]).folder
    why = {
        "mood": "label: 'mood'",
        "same": "names no `test` rows",
        "empty": "empty-test.tsv, line 2: column 'mood': there is no label (1 more",
        "kept": "kept-test.tsv: every label is -1, as where labels are kept back; task 'kept'",
        "distant": "distant-test.jsonl: every label is -1, as where labels are kept back; task 'distant'",
    }

    alone = json.loads(command("evaluate", run, "--split", "test", "--task", "near", "--json").out)
    found = json.loads(command("evaluate", run, "--split", "test", "--json").out)
    assert (found["overall"], found["tasks"]) == (alone["overall"], alone["tasks"])
    assert found["left_out"].keys() == why.keys()
    for arguments in (["evaluate", run, "--split", "test"], ["errors", run, "--split", "test"]):
        said = command(*arguments)
        assert said.code == 0
        for task, words in why.items():
            _, sentence = unbroken(said.out).split(unbroken(f"{task} is left out: "))
            assert unbroken(words) in sentence.split(unbroken(" is left out: "))[0]
        assert_refused(command(*arguments, "--task", "mood", "--task", "empty"), why["mood"], why["empty"])

    (here / "data" / "mood-test.tsv").write_text("id\ttext\n1\t\n1\tgood\tlow\n")
    assert_refused(command("evaluate", run, "--split", "test"), "label: 'mood'", "mood-test.tsv, line 3: 3 columns")
    (here / "data" / "near-test.jsonl").unlink()
    assert_refused(command("evaluate", run, "--split", "test", "--task", "near"), "there is no file")


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_a_folder_without_a_run_is_refused(command: Command, here: Path, name: str) -> None:
    more = ["--task", "mood", "--input", "a.csv", "--output", "b.csv"] if name == "predict" else []
    assert_refused(command(name, here / "nothing", *more), "nothing")
    assert everything(here) == {}


def test_an_exported_encoder_is_the_runs_with_its_tasks_lora_inside(
    command: Command, here: Path, small_recipe: dict[str, Any]
) -> None:
    small_recipe["modules"] = ["lora"]
    small_recipe["stages"][0]["train"] = ["heads", "modules"]
    mtbert.train(small_recipe, out=here / "run")
    assert command("export", here / "run", "--task", "mood", "--out", here / "mood").code == 0
    model, _ = load_model(here / "run" / "best")
    merged, adapted = load_encoder(here / "mood"), model.encoder
    adapter = model.modules_by_task.of("mood").modules[0]
    batch = build(read_recipe(small_recipe)).sets["dev"]["mood"].batch([0, 1, 2])
    with torch.no_grad():
        x = adapted.embed(batch)
        *_, expected = model.states(x, batch)
        *_, plain = merged.eval().states(x, batch, Fold([]))
    torch.testing.assert_close(plain, expected, atol=1e-5, rtol=1e-5)
    assert any(p.any() for p in adapter.parameters())
    assert_refused(command("export", here / "run", "--task", "mod", "--out", here / "x"), "'mod'", "mood")
    assert_refused(command("export", here / "run", "--task", "mood", "--out", here / "mood"), "not an empty folder")
    (here / "file").write_text("")
    assert_refused(
        command("export", here / "run", "--task", "mood", "--out", here / "file" / "x"), "file/x could not be"
    )


# ---- predictions


def test_the_help_says_which_format_needs_a_task_as_export_goes_by_it(
    command: Command, trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    said = command("export", "--help").out
    asked = ("export", trained, "--out", here / "x", "--task", "mod", "--format")
    (whole,) = (form for form in FORMATS if "leave --task out" in command(*asked, form).err)
    assert f"needed with every --format but {whole}" in said


def test_predict_writes_a_row_an_input_in_order(command: Command, trained: Path, here: Path) -> None:
    said = command(
        *("predict", trained, "--task", "mood", "--input", "data/mood-test.tsv", "--output", here / "deep" / "out.csv")
    )
    assert said.code == 0
    assert "5 predictions" in said.out
    with (here / "deep" / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["200", "201", "202", "203", "204"]
    assert list(rows[0]) == ["id", "prediction", "probability_low", "probability_mid", "probability_high"]
    for row in rows:
        assert sum(float(row[f"probability_{name}"]) for name in ("low", "mid", "high")) == pytest.approx(1, abs=2e-6)


def test_predict_without_a_task_asks_all_that_read_the_file(command: Command, trained: Path, here: Path) -> None:
    said = command("predict", trained, "--input", "data/mood-test.tsv", "--output", "out.csv", "--shard", "2/2")
    assert said.code == 0, said.err
    rows = list(csv.DictReader((here / "out.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["201", "203"]
    assert list(rows[0])[:3] == ["id", "mood_prediction", "mood_probability_low"]


@pytest.mark.parametrize("ending", [".tsv", ".jsonl", ".parquet"])
def test_predict_reads_and_writes_standard_streams_in_whatever_format_comes(
    command: Command, trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    rows = {"id": [f"r{n}" for n in range(5)], "text": ["good film", "a, b", "über", "", "dull"]}
    path = here / f"in{ending}"
    if ending == ".tsv":
        path.write_text("\n".join(["id\ttext", *(f"{a}\t{b}" for a, b in zip(*rows.values(), strict=True))]) + "\n")
    elif ending == ".jsonl":
        path.write_text("".join(json.dumps({"id": a, "text": b}) + "\n" for a, b in zip(*rows.values(), strict=True)))
    else:
        pq.write_table(pa.table(rows), path)
    assert command("predict", trained, "--task", "mood", "--input", path, "--output", here / "out.csv").code == 0
    with path.open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        said = command("predict", trained, "--task", "mood", "--input", "-", "--output", "-")
    assert said.code == 0
    assert said.out == (here / "out.csv").read_text(encoding="utf-8")
    assert [row["id"] for row in csv.DictReader(io.StringIO(said.out))] == rows["id"]
    assert "5 predictions" in said.err


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_predict_carries_columns_through_in_every_format(
    command: Command, trained: Path, here: Path, ending: str
) -> None:
    rows = [{"text": f"good film {n}", "year": 2000 + n, "who": None if n == 1 else f"by, {n}"} for n in range(3)]
    (here / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = here / f"out{ending}"
    more = ("--task", "mood", "--input", here / "in.jsonl", "--output", out)
    assert command("predict", trained, *more, "--keep", "who, year").code == 0
    if ending == ".parquet":
        found = pq.read_table(out).to_pylist()
    elif ending == ".jsonl":
        found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        with out.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file, delimiter="\t" if ending == ".tsv" else ","))
    assert list(found[0])[:4] == ["id", "who", "year", "prediction"]
    typed = ending in (".jsonl", ".parquet")
    assert [row["year"] for row in found] == [2000, 2001, 2002] if typed else ["2000", "2001", "2002"]
    assert [row["who"] for row in found] == ["by, 0", None if typed else "", "by, 2"]
    assert_refused(command("predict", trained, *more[:-1], here / "x.csv", "--keep", "whom"), "did you mean 'who'")
    assert_refused(command("predict", trained, *more[:-1], here / "x.cvs"), "did you mean '.csv'")


@pytest.mark.skipif(os.name == "nt", reason="rights of files as POSIX has them")
def test_the_kept_model_has_the_rights_of_any_other_file(trained: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    kept = [path for path in (trained / "best").rglob("*") if path.is_file()]
    assert kept
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in kept} == {
        path.name: oct(0o666 & ~umask) for path in kept
    }


def test_predict_writes_the_courses_files(command: Command, recipe_file: Path, here: Path) -> None:
    command("train", recipe_file, "stages.0.steps=2", "--out", here / "RUN", "--quiet")
    named = [word for pair in ("sst=mood", "para=same", "sts=near") for word in ("--course-task", pair)]
    said = command("predict", here / "RUN", "--course", here / "course", *named)
    assert said.code == 0
    assert len(list((here / "course").iterdir())) == 6
    assert (here / "course" / "sst-test-output.csv").read_text().startswith("id \t Predicted_Sentiment \n200 , ")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["needs --input and --output"]),
        (["--input", "data/mood-test.tsv", "--output", "o.csv", "--shard", "3/2"], ["'3/2' is no share", "1/4"]),
        (["--input", "recipe.yaml", "--output", "o.csv"], ["unknown file ending '.yaml'"]),
        (
            ["--task", "moot", "--input", "data/mood-test.tsv", "--output", "o.csv"],
            ["unknown task 'moot'", "'mood'"],
        ),
        (
            ["--task", "mood", "--input", "data/mod.tsv", "--output", "o.csv"],
            ["there is no file data/mod.tsv", "mood-test.tsv"],
        ),
        (
            ["--task", "near", "--input", "data/mood-test.tsv", "--output", "o.csv"],
            ["mood-test.tsv", "'a'", "id, text, mood"],
        ),
        (["--task", "mood", "--input", "data/mood-test.tsv", "--output", "data"], ["data"]),
        (["--task", "mood", "--input", "data/mood-test.tsv", "--output", "recipe.yaml/o.csv"], ["recipe.yaml"]),
        (["--course", "out"], ["the course's 'sst'", "--course-task sst=TASK", "mood, same, near"]),
    ],
)
def test_a_prediction_that_cannot_be_made_is_refused_and_nothing_is_written(
    command: Command, trained: Path, here: Path, arguments: list[str], parts: list[str]
) -> None:
    before = everything(here)
    said = command("predict", trained, *arguments)
    assert everything(here) == before
    assert_refused(said, *parts)


def test_predict_over_its_own_input_is_safe_where_reading_fails(command: Command, trained: Path, here: Path) -> None:
    before = (here / "data" / "same-test.csv").read_bytes()
    path = here / "data" / "same-test.csv"
    assert_refused(command("predict", trained, "--task", "mood", "--input", path, "--output", path))
    assert path.read_bytes() == before


# ---- adding a task


@pytest.fixture
def addition(recipe_file: Path, trained: Path, here: Path) -> Path:
    """A recipe with a fourth task for the run of the other three."""
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["tasks"] = {"mood_again": recipe["tasks"]["mood"]}
    del recipe["encoder"]
    path = here / "addition.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def test_add_task_trains_the_new_task_beside_the_old_ones(
    command: Command, trained: Path, addition: Path, here: Path
) -> None:
    said = command("add-task", trained, addition, "stages.0.steps=4", "--out", here / "RUN2", "--quiet")
    assert said.code == 0
    assert said.out.endswith(f"run: {here / 'RUN2'}\n")
    assert said.out.splitlines()[1].startswith("mood_again")
    for task, name in (("mood", "mood-test.tsv"), ("same", "same-test.csv"), ("near", "near-test.jsonl")):
        for run in (trained, here / "RUN2"):
            arguments = ("--task", task, "--input", here / "data" / name, "--output", here / f"{run.name}.csv")
            assert command("predict", run, *arguments).code == 0
        assert (here / "RUN.csv").read_bytes() == (here / "RUN2.csv").read_bytes()

    assert set(json.loads(command("evaluate", here / "RUN2", "--json").out)["tasks"]) == {"mood_again"}
    both = command("evaluate", here / "RUN2", "--task", "mood", "--task", "near", "--json")
    before = json.loads(command("evaluate", trained, "--json").out)["tasks"]
    assert json.loads(both.out)["tasks"] == {task: before[task] for task in ("mood", "near")}
    assert_refused(command("evaluate", here / "RUN2", "--task", "nera"), "unknown task 'nera'; did you mean 'near'?")


def test_add_task_resumes_and_overwrites_like_train(
    command: Command, trained: Path, addition: Path, here: Path
) -> None:
    given = ("add-task", trained, addition, "stages.0.steps=4", "--out", here / "RUN2", "--quiet")
    assert command(*given).code == 0
    kept = everything(here / "RUN2")
    assert_refused(command(*given), "already holds a run; --resume")
    assert everything(here / "RUN2") == kept
    assert command(*given, "--resume").code == 0
    assert everything(here / "RUN2") == kept
    assert json.loads(command(*given, "--overwrite", "--json").out)["step"] == 4


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (in_addition("mood_again:", "mood:"), ["line 3: tasks.mood:", "already has a task 'mood'", "mood, same, near"]),
        (in_addition("tasks:", "encoder: minilm\ntasks:"), ["line 2: encoder: it comes from", "is frozen"]),
        (in_addition("  batch_size: 8", "  batch_size: 8\n  tasks: [same]"), ["unknown task 'same'", "mood_again"]),
        (without_file("mood-dev.tsv"), ["there is no file"]),
    ],
    ids=["a task of the run", "an encoder", "a stage for an old task", "no data"],
)
def test_what_cannot_be_added_is_refused_and_nothing_is_written(
    command: Command, trained: Path, addition: Path, here: Path, spoil: Callable[[Path], None], parts: list[str]
) -> None:
    spoil(here)
    before = everything(here)
    assert_refused(command("add-task", trained, addition, "--out", here / "RUN2"), *parts)
    assert everything(here) == before


def test_check_shows_what_add_task_would_train_and_what_is_frozen(
    command: Command, trained: Path, addition: Path, here: Path
) -> None:
    before = everything(here)
    said = command("check", addition, "--add-to", trained)
    assert said.code == 0
    assert everything(here) == before
    assert re.search(
        r"trains: head mood_again \(51\); frozen: head mood \(51\), head same .*, head near .*, encoder \([\d,]+\)",
        " ".join(said.out.split()),
    )
    assert "mood_again train: 40 rows" in said.out
    assert "near train" not in said.out


# ---- looking


def test_check_shows_data_and_cost_and_writes_nothing(command: Command, recipe_file: Path, here: Path) -> None:
    before = everything(here)
    said = command("check", recipe_file)
    assert everything(here) == before
    assert said.code == 0
    for part in ("mood train: 40 rows", "near dev: 12 rows", "low 14, mid 13, high 13", "stage 0: 12 steps", "minutes"):
        assert part in said.out


def test_check_quiet_prints_problems_only(command: Command, recipe_file: Path) -> None:
    said = command("check", recipe_file, "--quiet")
    assert said.code == 0
    assert said.out
    assert all(line.startswith("problem: ") for line in said.out.splitlines())


def test_check_json_is_the_report(command: Command, recipe_file: Path) -> None:
    said = command("check", recipe_file, "--json", "stages.0.steps=5")
    report = json.loads(said.out)
    assert (said.code, said.err) == (0, "")
    assert report["stages"][0]["steps"] == 5
    assert {(one["task"], one["split"]): one["rows"] for one in report["splits"]}["same", "train"] == 40


def test_methods_lists_every_table_and_every_method(command: Command) -> None:
    listed = json.loads(command("methods", "--json").out)
    assert {family: set(methods) for family, methods in listed.items()} == {
        family: set(table) for family, table in TABLES.items()
    }
    shown = command("methods").out.splitlines()
    for family, table in TABLES.items():
        assert family in shown
        for name in table:
            assert any(re.match(rf"  {re.escape(name)}\s+\S", line) for line in shown)


def test_methods_explains_every_one_of_a_name(command: Command) -> None:
    shown = command("methods", "linear")
    assert shown.code == 0
    for part in (
        "linear (heads)",
        "linear (schedules)",
        "warmup  number from 0 to 1; default 0.1",
        "head: {name: linear",
    ):
        assert part in shown.out
    listed = json.loads(command("methods", "linear", "--json").out)
    assert [one["family"] for one in listed] == ["heads", "schedules"]
    assert listed[1]["options"]["warmup"]["default"] == 0.1
    assert_refused(command("methods", "liner"), "unknown method 'liner'; did you mean 'linear'?")


def test_every_registry_is_among_the_methods_listed() -> None:
    importlib.import_module("mtbert.reports.check")  # imports all that a recipe can name
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "mtbert"]
    registries = {id(value) for module in modules for value in vars(module).values() if isinstance(value, Registry)}
    assert registries == {id(table) for table in TABLES.values()}


# ---- the command itself


def test_help_imports_nothing_heavy_and_comes_at_once() -> None:
    program = (
        "import sys, time\n"
        "sys.argv = ['mtbert', '--help']\n"
        "started = time.perf_counter()\n"
        "import mtbert.app.cli\n"
        "try:\n    mtbert.app.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pydantic', 'sklearn', 'scipy', 'tokenizers', 'yaml'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    started = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 3  # 0.5 s on an idle machine
    assert "HEAVY []" in said.stdout
    for name in ("demo", "train", "add-task", "check", "evaluate", "predict", "methods"):
        assert name in said.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import mtbert, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_a_mistake_in_a_real_process_ends_with_two_and_one_line(here: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import mtbert.app.cli; mtbert.app.cli.main()", "train", "nowhere.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr) == (2, "", "error: there is no recipe nowhere.yaml\n")


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "recipe.yaml", "--outt", "x"], ["evaluate"]])
def test_a_mistyped_command_or_option_ends_with_two(command: Command, here: Path, arguments: list[str]) -> None:
    said = command(*arguments)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_page_that_fails_leaves_the_run_and_its_scores(
    command: Command, recipe_file: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtbert.pages.write.run_page", lambda *_: 1 / 0)
    said = command("train", "recipe.yaml", "--out", "run")
    assert said.code == 0
    assert "note: there is no page: ZeroDivisionError" in said.err
    assert "overall" in said.out
    assert Run(Path("run")).scores["dev"]
