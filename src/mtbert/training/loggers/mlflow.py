"""Runs in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mtbert.training.loggers.base import Logger, needed


class MLflow(Logger):
    """A run in MLflow, where MLFLOW_TRACKING_URI says, or else in a database in RUN/logs/mlflow (extra `mlflow`)."""

    @classmethod
    def check(cls) -> None:
        needed("mlflow", "mlflow")

    def __init__(self, folder: Path, run: str, step: int, *, experiment: str = "mtbert") -> None:
        super().__init__(folder, run, step)
        self._mlflow = needed("mlflow", "mlflow")
        if not self._mlflow.environment_variables.MLFLOW_TRACKING_URI.is_set():
            folder.mkdir(parents=True, exist_ok=True)
            self._mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
        self._mlflow.set_experiment(experiment)
        self._mlflow.start_run(run_name=run)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
