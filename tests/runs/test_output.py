"""Results go where they were sent, and over nothing that is not theirs to replace."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import mtbert
from mtbert.app.cli import main
from mtbert.errors import Mistake
from mtbert.runs.folder import Run
from mtbert.runs.output import Output, refuse_run
from tests.support.small import recipe_over, write_small_data

unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs devices and pipes as files")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 2, "evaluate_every": 2}
    return mtbert.train(recipe, out=folder / "run")


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_whole_and_an_earlier_one_replaced(tmp_path: Path) -> None:
    for text in ("one\r\n", "two\n"):
        Output(tmp_path / "deep" / "out.csv").write(text)
        assert (tmp_path / "deep" / "out.csv").read_bytes() == text.encode()
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_what_is_read_is_not_written_over_by_whatever_name(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\ngood\n")
    (tmp_path / "link.csv").symlink_to(source)
    os.link(source, tmp_path / "hard.csv")
    (tmp_path / "deep").mkdir()
    for name in ("in.csv", "link.csv", "hard.csv", "deep/../in.csv"):
        with pytest.raises(Mistake, match=r"is what is read here, and would be lost"):
            Output(tmp_path / name, inputs=[source])
    Output(tmp_path / "out.csv", inputs=[source, object(), tmp_path / "gone"]).write("x")


def test_a_link_stays_one_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "out.csv")
    Output(tmp_path / "link").write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "out.csv").read_text() == "x"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="is a folder; name a file in it"):
        Output(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("recipe.yaml", "run.json", "log.jsonl", "scores.json", "environment.json", ".lock", ".best.new"),
        *("best/model.json", "best/encoder/new.csv", "last/state.json", "best"),
    ],
)
def test_nothing_is_written_among_what_a_run_wrote(trained: Run, name: str, tmp_path: Path) -> None:
    before = everything(trained.folder)
    with pytest.raises(Mistake, match=r"is among what the run in .* wrote|is a folder"):
        Output(trained.folder / name).write("x")
    (tmp_path / "link").symlink_to(trained.folder)
    with pytest.raises(Mistake, match=r"is among what the run in .* wrote"):
        refuse_run(tmp_path / "link" / name)
    assert everything(trained.folder) == before


def test_a_file_beside_those_of_a_run_may_be_written(trained: Run) -> None:
    Output(trained.folder / "predictions.csv").write("x")
    (trained.folder / "predictions.csv").unlink()


def test_best_is_a_name_like_another_where_there_is_no_run(tmp_path: Path) -> None:
    Output(tmp_path / "best" / "scores.json").write("x")


@unix
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    Output(tmp_path / "pipe").write("x\n")
    reader.join()
    assert read == ["x\n"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@unix
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    (tmp_path / "nothing").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "nothing"):
        place = Output(path)
        assert place.streams
        place.write("x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_a_mistake() -> None:
    with pytest.raises(Mistake, match="the disk is full"):
        Output(Path("/dev/full")).write("x")


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mtbert", *map(str, words)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_the_command_writes_to_standard_output_and_says_the_rest_elsewhere(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(trained.recipe().data) / "mood-dev.tsv"
    assert command(monkeypatch, "predict", trained.folder, "--task", "mood", "--input", source, "--output", "-") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("id,prediction,")
    assert len(said.out.splitlines()) == 13
    assert said.err == "12 predictions in -\n"


def test_the_commands_refuse_what_would_be_lost(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(trained.recipe().data)
    source = data / "mood-dev.tsv"
    before = everything(data) | everything(trained.folder)
    words: list[list[Any]] = [
        ["predict", trained.folder, "--task", "mood", "--input", source, "--output", source],
        ["predict", trained.folder, "--task", "mood", "--input", source, "--output", trained.folder / "scores.json"],
        ["export", trained.folder, "--task", "mood", "--out", trained.folder / "best" / "more"],
        ["export", trained.folder, "--task", "mood", "--out", trained.folder / "best"],
    ]
    for some in words:
        assert command(monkeypatch, *some) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert everything(data) | everything(trained.folder) == before
