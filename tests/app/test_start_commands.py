"""The first hour as a person types it: init, schema, the version, and what is said to one who begins elsewhere."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest
import yaml
from typer.testing import CliRunner, Result

from mtbert.app.cli import app
from mtbert.errors import Mistake
from mtbert.recipe.completion import recipe_schema
from tests.support.layouts import TWELVE, text, write_csv

MTBERT = [sys.executable, "-m", "mtbert"]


def said(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], input=typed)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one stands, with a folder of files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    TWELVE["several_tasks"](tmp_path / "files")
    return tmp_path


def test_init_writes_a_recipe_and_says_how_to_go_on(folder: Path) -> None:
    result = said("init", "files")
    assert result.exit_code == 0
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    assert recipe in result.output
    assert "sick_entailment_label: classification, rows: " in result.output
    assert result.output.endswith("then: mtbert train recipe.yaml\n")


def test_init_overwrites_nothing_unasked(folder: Path) -> None:
    (folder / "mine.yaml").write_text("mine")
    with pytest.raises(Mistake, match=r"mine\.yaml is there already; --overwrite"):
        app(["init", "files", "--out", "mine.yaml"], standalone_mode=False)
    assert (folder / "mine.yaml").read_text() == "mine"
    assert said("init", "files", "--out", "mine.yaml", "--overwrite").exit_code == 0
    assert "tasks:" in (folder / "mine.yaml").read_text()


def test_files_need_not_stand_beside_the_recipe(folder: Path) -> None:
    assert said("init", folder / "files", "--out", folder / "deep" / "er" / "recipe.yaml").exit_code == 0
    assert "data: ../../files" in (folder / "deep" / "er" / "recipe.yaml").read_text()


def test_what_is_left_to_the_person_is_said_when_the_recipe_is_written(folder: Path) -> None:
    rows = [{"text": f"{text(0)} {'again' * (i % 2)}", "label": "xy"[i % 2]} for i in range(40)]
    write_csv(folder / "files" / "few.csv", rows)
    with pytest.raises(Mistake, match=r"(?s)recipe.yaml is written, and needs your hand.*split leaves no dev row"):
        app(["init", "files/few.csv"], standalone_mode=False)
    assert (folder / "recipe.yaml").exists()


def test_on_a_terminal_it_asks_and_says_which_answers_there_are(folder: Path) -> None:
    rows = [{"remark": text(i), "stars": 1 + i % 5} for i in range(60)]
    write_csv(folder / "book.csv", rows)
    ours, theirs = pty.openpty()
    os.write(ours, b"7\nmany\n3\n")  # which kind 1 to 5 are: two answers that there are not, and the third
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        asked = subprocess.Popen([*MTBERT, "init", "book.csv"], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        late = Timer(120, asked.kill)
        late.start()
        shown = b""
        with suppress(OSError):  # how a terminal says that its other end is closed
            while some := terminal.read(1 << 16):
                shown += some
        assert asked.wait() == 0, shown.decode()
    late.cancel()
    said = shown.decode()
    assert "'stars' is 1 to 5: classes, classes with an order, or scores?" in said
    for answer in ("7", "many"):
        assert f"there is no answer {answer}: give a number from 1 to 3" in said
    task = yaml.safe_load((folder / "recipe.yaml").read_text())["tasks"]["book"]
    assert (task["kind"], task["range"]) == ("regression", [1, 5])


def test_training_a_table_is_told_of_init(folder: Path) -> None:
    for given in ("files/sick.parquet", "files"):
        with pytest.raises(Mistake, match=f"`mtbert init {given}` writes a recipe"):
            app(["train", given], standalone_mode=False)


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(said("schema").output) == json.loads(json.dumps(recipe_schema()))


def test_the_version_is_said() -> None:
    assert said("--version").output == f"mtbert {importlib.metadata.version('mtbert')}\n"
