"""Rows answered by the workers of Ray, each with a model of its own.

Source: https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtbert.errors import Mistake
from mtbert.runs.extras import needed
from mtbert.serving.engines import Answers, Asked, Engine, Question
from mtbert.serving.predictor import Predictor

AGAIN = 3  # times that a worker is started again, and that it is asked again
AHEAD = 2  # slices a worker that are under way, which bounds the memory


class Worker:
    """A model on one core, loaded once."""

    def __init__(self, run: str) -> None:
        torch.set_num_threads(1)
        self._model = Predictor.load(run)

    def answer(self, questions: list[Question]) -> tuple[list[dict[str, NDArray[np.float32]]], int]:
        """The outputs of the tasks for each question, and how many texts were read for them."""
        read: list[int] = []
        answers = self._model.answer(questions, read.append)
        return [{task: outputs.numpy() for task, outputs in one.items()} for one in answers], sum(read)


def ray_engine(run: Path) -> Engine:
    """An engine whose workers, one for each core that Ray has, load the model of a run folder.

    It joins the cluster that RAY_ADDRESS names, where the folder has to be in the same place, or else starts Ray on
    this machine. Slices come back in their order. What a worker had not answered when it was killed is done again;
    raises Mistake where that does not help, and without the extra `ray`.
    """
    ray = needed("ray", "ray")

    def answers(asked: Asked, told: Callable[[int], None]) -> Answers:
        ray.init(log_to_driver=False, logging_level="ERROR")
        try:
            remote = ray.remote(num_cpus=1, max_restarts=AGAIN, max_task_retries=AGAIN)(Worker)
            workers = [remote.remote(str(run.absolute())) for _ in range(int(ray.cluster_resources()["CPU"]))]
            under_way: deque[tuple[Any, Any]] = deque()

            def done() -> tuple[Any, list[dict[str, Tensor]]]:
                given, answer = under_way.popleft()
                found, read = ray.get(answer)
                told(read)
                return given, [{task: torch.tensor(outputs) for task, outputs in one.items()} for one in found]

            for number, (given, questions) in enumerate(asked):
                if len(under_way) == AHEAD * len(workers):
                    yield done()
                under_way.append((given, workers[number % len(workers)].answer.remote(questions)))
            while under_way:
                yield done()
        except ray.exceptions.RayActorError:
            raise Mistake(
                f"a worker of Ray was killed again and again, {AGAIN} times: has each enough memory?"
            ) from None
        finally:
            ray.shutdown()

    return answers
