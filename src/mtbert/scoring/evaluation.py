"""Scoring a model on sets of examples, and the scores of the best predictor that ignores the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import torch
from torch import Tensor

from mtbert.data.batches import LARGE, LARGE_ON_CPU, Batch, ExampleSet
from mtbert.data.kinds.base import Task
from mtbert.errors import Mistake
from mtbert.model.ensemble import Answering, Ensemble
from mtbert.model.frozen import AnyModel
from mtbert.model.modes import evaluating
from mtbert.model.parallel import in_parallel
from mtbert.model.world import ALONE, World

Scorable = AnyModel | Ensemble


@dataclass(frozen=True)
class Scores:
    """The metrics of every task on one split, and what they amount to together.

    >>> scores = Scores({"mood": {"accuracy": 0.8}, "near": {"pearson": 0.5}}, normalised={"mood": 0.8, "near": 0.75})
    >>> scores.overall, scores.measures["mean"]
    (0.775, 0.65)
    """

    tasks: dict[str, dict[str, float]]  # task -> metric -> value, the main metric first
    # task -> its main metric on a scale where 1 is perfect, for the tasks that `overall` and `mean` are over
    normalised: dict[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)  # in `overall`; 1 for a task that is not there
    # task -> metric -> what models are judged by, of which more is better; the metrics for a task that is not there
    judged: Mapping[str, dict[str, float]] = field(default_factory=dict)
    # task -> what was scored (N, outputs), in the order of its set; nothing where no model was
    outputs: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, tasks: Mapping[str, Task], metrics: dict[str, dict[str, float]], outputs: dict[str, Tensor] | None = None
    ) -> Self:
        """The scores of tasks with these metrics."""
        counted = counting({name: tasks[name] for name in metrics})
        weights = {name: float(tasks[name].counts or 1) for name in counted}
        normalised = {name: tasks[name].normalised(metrics[name]) for name in counted}
        judged = {name: tasks[name].judged(own) for name, own in metrics.items()}
        return cls(metrics, normalised, weights, judged, outputs or {})

    @property
    def overall(self) -> float:
        """The weighted mean of the tasks' normalised main metrics: a correlation counts as (r + 1) / 2, an error as 1 -
        error / the width of the scale.
        """
        weights = [self.weights.get(name, 1.0) for name in self.normalised]
        return sum(w * value for w, value in zip(weights, self.normalised.values(), strict=True)) / sum(weights)

    @property
    def measures(self) -> dict[str, float]:
        """What keep rules judge by: each task's main metric by the task's name, 'overall', the 'mean' of these, and
        every metric as `task.metric`; errors as they count in `overall`, so that more is better.
        """
        judged = {task: self.judged.get(task, metrics) for task, metrics in self.tasks.items()}
        main = {task: next(iter(metrics.values())) for task, metrics in judged.items()}
        counted = [main[task] for task in self.normalised]
        every = {f"{task}.{name}": value for task, metrics in judged.items() for name, value in metrics.items()}
        return main | {"overall": self.overall, "mean": sum(counted) / len(counted)} | every

    def as_dict(self) -> dict[str, object]:
        """The scores as a file of a run holds them."""
        return {"overall": self.overall, "tasks": self.tasks}


def counting(tasks: Mapping[str, Task]) -> list[str]:
    """The tasks that `overall` and `mean` are over: those that count, or all of them where none does."""
    return [name for name, task in tasks.items() if task.counts] or list(tasks)


class NotNumbers(Mistake):
    """Outputs that cannot be scored, because they are nan or infinite."""


def evaluate(model: Scorable, sets: Mapping[str, ExampleSet], world: World = ALONE) -> Scores:
    """Score every task on its labelled examples; of several processes, each answers a part of them.

    Raises NotNumbers if outputs are nan or infinite, and Mistake if a task has no labels.
    """
    metrics, outputs = {}, {}
    for name, examples in sets.items():
        task = model.tasks[name]
        if examples.labels is None:
            raise Mistake(f"task '{name}' has no labels to be scored against")
        outputs[name] = finite_outputs_of(model, examples, world=world)
        metrics[name] = task.metrics(task.measured(outputs[name]), examples.labels)
    return Scores.of(model.tasks, metrics, outputs)


def finite_outputs_of(
    model: Scorable,
    examples: ExampleSet,
    told: Callable[[int], None] = lambda done: None,
    world: World = ALONE,
) -> Tensor:
    """As `outputs_of`; raises NotNumbers if outputs are nan or infinite."""
    outputs = outputs_of(model, examples, told=told, world=world)
    if not outputs.isfinite().all():
        raise NotNumbers(f"outputs of task '{examples.task.name}' that are nan or inf")
    return outputs


def constant_scores(
    tasks: Mapping[str, Task], train: Mapping[str, ExampleSet], dev: Mapping[str, ExampleSet]
) -> Scores:
    """The scores of the best prediction that ignores the text, learned from `train`: a useful model must beat them."""
    metrics = {}
    for name, examples in dev.items():
        labels, learned = examples.labels, train[name].labels
        if labels is None or learned is None:
            raise Mistake(f"task '{name}' has no labels to be scored against")
        metrics[name] = tasks[name].metrics(tasks[name].constantly(learned, labels), labels)
    return Scores.of(tasks, metrics)


def outputs_of(
    model: Scorable,
    examples: ExampleSet,
    batch_size: int = 64,
    told: Callable[[int], None] = lambda done: None,
    world: World = ALONE,
) -> Tensor:
    """The outputs for all examples of a task, in the order of the set, on the CPU: (N, outputs), of words (N, W, ...).

    For symmetric pairs they are the mean over both orders of the two texts. `told` hears, after each batch, how many
    texts or pairs it held.
    """
    name = examples.task.name
    if examples.task.reads_words:
        world = ALONE  # outputs are as wide as the longest text, which no process knows that has not read it
    asked = [([name], examples)]
    (outputs,) = _collected(model, asked, lambda names, batch: {name: model(batch)}, batch_size, told, world)
    return outputs[name]


def outputs_together(
    model: Answering,
    asked: Sequence[tuple[Sequence[str], ExampleSet]],
    batch_size: int = 64,
    told: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Tensor]]:
    """The outputs for several sets, of the tasks that each of them is asked for: task -> (N, outputs) on the CPU.

    The tasks of a set are some that `model.alike` groups, and the encoder reads it once for them; the set is of one of
    them. The outputs are those of `outputs_of` for each of the tasks.
    """
    return _collected(model, asked, lambda names, batch: model.together(batch, names), batch_size, told)


def _collected(
    model: Scorable,
    asked: Sequence[tuple[Sequence[str], ExampleSet]],
    ask: Callable[[Sequence[str], Batch], Mapping[str, Tensor]],
    batch_size: int,
    told: Callable[[int], None],
    world: World = ALONE,
) -> list[dict[str, Tensor]]:
    device = next(model.parameters()).device
    tokens = LARGE_ON_CPU if device.type == "cpu" else LARGE
    parts: list[dict[str, list[tuple[Tensor, Tensor]]]] = [{task: [] for task in tasks} for tasks, _ in asked]

    def answer(place_and_batch: tuple[int, Batch]) -> dict[str, Tensor]:
        place, batch = place_and_batch
        tasks, _ = asked[place]
        return {task: outputs.float().cpu() for task, outputs in ask(tasks, batch.to(device)).items()}

    with evaluating(model):
        batches = (
            (place, batch)
            for place, (_, examples) in enumerate(asked)
            for order in examples.orders
            for batch in order.in_order_of_length(batch_size, tokens)
        )
        # of several processes each answers some of the batches; zeros stand below for those of the others
        for (place, batch), answers in in_parallel(answer, islice(batches, world.rank, None, world.size), device):
            rows = torch.from_numpy(batch.rows)
            for task, outputs in answers.items():
                parts[place][task].append((rows, outputs))
            told(len(batch))
    return [
        {
            task: world.sum(summed(some, len(examples), model.tasks[task].outputs)) / len(examples.orders)
            for task, some in own.items()
        }
        for own, (_, examples) in zip(parts, asked, strict=True)
    ]


def summed(parts: Sequence[tuple[Tensor, Tensor]], rows: int, outputs: int) -> Tensor:
    """The outputs of some rows at a time as those of all, added up where a row comes twice: (N, ...).

    Those of words are as wide as the text with the most.
    """
    total = torch.zeros(rows, *max((part.shape[1:] for _, part in parts), default=torch.Size([outputs])))
    for some, part in parts:
        total[some, : part.shape[1]] += part
    return total
