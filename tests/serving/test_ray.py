"""Rows answered by an engine are those of `predict`: one of this test's, and Ray's where it is installed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import mtbert
from mtbert.errors import Mistake
from mtbert.serving import predictor
from mtbert.serving.engines import Answers, Asked
from mtbert.serving.predictor import Predictor
from mtbert.serving.ray_engine import Worker, ray_engine
from tests.support.small import recipe_over, sentence, write_small_data

ROWS = pa.table({"id": [f"r{row}" for row in range(60)], "text": [sentence(row) for row in range(60)]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spread")
    mtbert.train(recipe_over(write_small_data(folder / "data")), out=folder / "run")
    return folder / "run"


def columns(parts: Iterator[Any]) -> dict[str, list[Any]]:
    several = [part.columns for part in parts]
    return {name: [value for one in several for value in one[name]] for name in several[0]}


def test_what_an_engine_answers_is_what_the_model_says_here(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "SLICE", 16)
    told: list[tuple[int, int]] = []
    slices: list[int] = []
    worker = Worker(str(run))

    def engine(asked: Asked, told: Callable[[int], None]) -> Answers:
        """All slices are taken before the first is answered, as workers that are ahead would."""
        for given, questions in list(asked):
            answers, read = worker.answer(questions)
            slices.append(len(questions[0].texts[0]))
            told(read)
            yield given, [{name: torch.tensor(one) for name, one in each.items()} for each in answers]

    model = Predictor.load(run)
    due = columns(model.predict_all_slices(ROWS))
    found = model.predict_all_slices(ROWS, told=lambda task, done, rows: told.append((done, rows)), engine=engine)
    assert columns(found) == due
    assert slices == [16, 16, 16, 12]
    assert told == [(16, 60), (32, 60), (48, 60), (60, 60)]
    assert columns(model.predict_slices("mood", ROWS, engine=engine)) == columns(model.predict_slices("mood", ROWS))


def test_a_killed_worker_of_ray_has_its_rows_done_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(predictor, "SLICE", 8)
    model = Predictor.load(run)
    killed: list[int] = []

    def kill(task: str, done: int, rows: int) -> None:
        """Once, after the first slice."""
        for one in [] if killed else psutil.Process().children(recursive=True):
            if one.cmdline()[:1] and one.cmdline()[0].startswith("ray::Worker"):
                os.kill(one.pid, signal.SIGKILL)
                killed.append(one.pid)
                return

    found = columns(model.predict_all_slices(ROWS, told=kill, engine=ray_engine(run)))
    assert killed
    assert found == columns(model.predict_all_slices(ROWS))


def test_without_ray_it_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Mistake, match=r"this needs ray: pip install 'mtbert\[ray\]'"):
        ray_engine(run)
