"""Runs in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mtbert.training.loggers.base import Logger, needed

RUN_ID = "run_id"  # a file of the logger's folder, by which a resumed run goes on in the same run of MLflow


class MLflow(Logger):
    """A run in MLflow, where MLFLOW_TRACKING_URI says, or else in a database in RUN/logs/mlflow (extra `mlflow`)."""

    @classmethod
    def check(cls) -> None:
        needed("mlflow", "mlflow")

    def __init__(self, folder: Path, run: str, step: int, *, experiment: str = "mtbert") -> None:
        super().__init__(folder, run, step)
        self._mlflow = needed("mlflow", "mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        if not self._mlflow.environment_variables.MLFLOW_TRACKING_URI.is_set():
            self._mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        self._mlflow.set_experiment(experiment)
        begun = folder / RUN_ID
        if step and begun.exists():
            self._mlflow.start_run(run_id=begun.read_text(encoding="utf-8"))
        else:
            begun.write_text(self._mlflow.start_run(run_name=run).info.run_id, encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
