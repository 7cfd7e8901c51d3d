"""A report is one file and one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import mtbert
from mtbert.app.look_commands import report_command
from mtbert.reports.table import REPORTS, Reader

TOY = """
from mtbert.reports.base import Report, plain
from mtbert.runs.log import Evaluation


class Evaluations(Report):
    def __init__(self, overall):
        self.overall = overall

    def as_dict(self):
        return {"overall": self.overall}

    def shown(self):
        yield plain(f"scored {len(self.overall)} times")

    def draw(self, folder):
        (folder / "toy.txt").write_text("a picture")
        return [folder / "toy.txt"]


def read(run):
    return Evaluations([line.overall for line in run.log.only(Evaluation)])
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    (tmp_path / "toy_report.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield Reader("toy_report", "How often a run was scored.")
    sys.modules.pop("toy_report", None)


def test_a_report_is_a_command_by_one_file_and_one_line(
    toy: Reader, small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    app = typer.Typer()
    for name, reader in {**REPORTS, "toy": toy}.items():
        app.command(name, help=reader.help)(report_command(reader))
    command = CliRunner()
    assert "How often a run was scored." in command.invoke(app, ["--help"]).output
    shown = command.invoke(app, ["toy", str(run.folder)])
    assert "scored 3 times" in shown.output
    assert (run.folder / "toy.txt").exists()
    read = json.loads(command.invoke(app, ["toy", str(run.folder), "--json"]).output)
    assert read["overall"][-1] == pytest.approx(list(run.log)[-1].overall)


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_of_the_table_can_be_imported(name: str) -> None:
    __import__(REPORTS[name].module)
    assert callable(sys.modules[REPORTS[name].module].read)
