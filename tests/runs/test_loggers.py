"""Loggers: what a run logs arrives, from a resumed run too, and other packages can bring their own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mtbert
from mtbert.errors import Mistake
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Step
from mtbert.training.loggers.base import Logger
from mtbert.training.loggers.table import GROUP, LOGGERS, brought
from tests.support.cut_off import assert_same_run


class StopAt(Listener):
    """Ends training after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def reason_to_stop(self) -> str | None:
        self.left -= 1
        return None if self.left else "a test"


@pytest.mark.filterwarnings("ignore")  # of libraries that TensorBoard imports
def test_tensorboard_reads_what_was_logged_also_of_a_resumed_run(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = small_recipe | {"log": ["tensorboard"]}
    mtbert.train(recipe, out=tmp_path / "run", listener=StopAt(7))
    run = mtbert.train(recipe, out=tmp_path / "run", resume=True)
    assert not run.strangers
    events = EventAccumulator(str(run.folder / "logs" / "tensorboard")).Reload()
    rates = {event.step: event.value for event in events.Scalars("train/lr")}
    assert rates == {step.step: pytest.approx(step.lr) for step in run.log.only(Step)}
    overall = {event.step: event.value for event in events.Scalars("dev/overall")}
    assert overall == {line.step: pytest.approx(line.overall) for line in run.log.only(Evaluation)}
    assert {"loss/mood", "dev/near/pearson"} <= set(events.Tags()["scalars"])
    mtbert.train(recipe, out=tmp_path / "run", overrides=["stages.0.steps=2"], overwrite=True)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A module that answers as MLflow does, and what it was asked."""
    asked: list[Any] = []
    begun = SimpleNamespace(info=SimpleNamespace(run_id="one"))
    module: Any = ModuleType("mlflow")
    module.environment_variables = SimpleNamespace(MLFLOW_TRACKING_URI=SimpleNamespace(is_set=lambda: False))

    def asks(name: str, *given: Any, **named: Any) -> SimpleNamespace:
        asked.append((name, given, named))
        return begun

    for name in ("set_tracking_uri", "set_experiment", "start_run", "log_metrics", "end_run"):
        setattr(module, name, partial(asks, name))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return asked


def test_mlflow_is_handed_every_step(small_recipe: dict[str, Any], tmp_path: Path, mlflow: list[Any]) -> None:
    recipe = small_recipe | {"log": [{"name": "mlflow", "experiment": "tests"}]}
    run = mtbert.train(recipe, out=tmp_path / "run", overrides=["stages.0.steps=2"])
    assert [name for name, *_ in mlflow[:3]] == ["set_tracking_uri", "set_experiment", "start_run"]
    assert mlflow[1][1] == ("tests",)
    assert mlflow[-1][0] == "end_run"
    assert mlflow[2][2] == {"run_name": "run"}
    handed = [(named["step"], given[0]) for name, given, named in mlflow if name == "log_metrics"]
    assert [(step, values["train/lr"]) for step, values in handed if "train/lr" in values] == [
        (step.step, step.lr) for step in run.log.only(Step)
    ]


def test_a_resumed_run_goes_on_in_the_same_run_of_mlflow(
    small_recipe: dict[str, Any], tmp_path: Path, mlflow: list[Any]
) -> None:
    recipe = small_recipe | {"log": ["mlflow"]}
    mtbert.train(recipe, out=tmp_path / "run", listener=StopAt(7))
    mtbert.train(recipe, out=tmp_path / "run", resume=True)
    assert [named for name, _, named in mlflow if name == "start_run"] == [{"run_name": "run"}, {"run_id": "one"}]


@pytest.mark.filterwarnings("ignore")  # of libraries that MLflow imports
def test_mlflow_itself_holds_what_the_log_holds(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    module = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    recipe = small_recipe | {"log": ["mlflow"]}
    mtbert.train(recipe, out=tmp_path / "run", listener=StopAt(7))
    run = mtbert.train(recipe, out=tmp_path / "run", resume=True)
    client = module.MlflowClient(f"sqlite:///{run.folder / 'logs' / 'mlflow' / 'mlflow.db'}")
    (one,) = client.search_runs([client.get_experiment_by_name("mtbert").experiment_id])
    assert (one.info.run_name, one.info.status) == ("run", "FINISHED")
    rates = client.get_metric_history(one.info.run_id, "train/lr")
    assert {at.step: at.value for at in rates} == {step.step: step.lr for step in run.log.only(Step)}
    overall = client.get_metric_history(one.info.run_id, "dev/overall")
    assert {at.step: at.value for at in overall} == {line.step: line.overall for line in run.log.only(Evaluation)}


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_what_is_not_installed_is_said_before_anything_is_written(
    name: str, small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Mistake, match=rf"pip install 'mtbert\[{name}\]'"):
        mtbert.train(small_recipe | {"log": [name]}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_logger_of_another_package(
    small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[int, Mapping[str, float]]] = []

    class Heard(Logger):
        def write(self, step: int, values: Mapping[str, float]) -> None:
            heard.append((step, values))

    monkeypatch.setitem(LOGGERS._makers, "heard", Heard)
    mtbert.train(small_recipe | {"log": "heard"}, out=tmp_path / "run", overrides=["stages.0.steps=3"])
    assert [step for step, values in heard if "train/lr" in values] == [1, 2, 3]
    with pytest.raises(Mistake, match="unknown logger"):
        mtbert.train(small_recipe | {"log": "herd"}, out=tmp_path / "other")


@pytest.mark.parametrize("fails", ["__init__", "write", "close"])
def test_a_logger_that_fails_costs_no_run(
    fails: str, small_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Logger):
        def __init__(self, folder: Path, run: str, step: int) -> None:
            super().__init__(folder, run, step)
            self._fail("__init__")

        def write(self, step: int, values: Mapping[str, float]) -> None:
            if step > 2:
                self._fail("write")

        def close(self) -> None:
            self._fail("close")

        def _fail(self, where: str) -> None:
            if where == fails:
                raise ConnectionError("nobody answers")

    notes: list[str] = []

    class Heard(Listener):
        def note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setitem(LOGGERS._makers, "broken", Broken)
    whole = mtbert.train(small_recipe, out=tmp_path / "whole")
    found = mtbert.train(small_recipe | {"log": "broken"}, out=tmp_path / "run", listener=Heard())
    assert_same_run(found, whole)
    assert notes == ["logger 'broken' is left out from here on: ConnectionError: 'nobody answers'"]


def test_a_package_that_cannot_be_loaded_stops_only_who_names_its_logger() -> None:
    logger = brought(EntryPoint("theirs", "there.is.no:such_logger", GROUP))
    with pytest.raises(Mistake, match=r"'theirs' \(there\.is\.no:such_logger\) cannot be loaded: ModuleNotFoundError"):
        logger.check()


def test_what_a_person_put_among_the_logs_is_not_overwritten(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run", overrides=["stages.0.steps=2"])
    (run.folder / "logs").mkdir()
    (run.folder / "logs" / "notes.txt").write_text("mine")
    with pytest.raises(Mistake, match=r"logs/notes\.txt"):
        mtbert.train(small_recipe, out=run.folder, overwrite=True)
    assert (run.folder / "logs" / "notes.txt").read_text() == "mine"
