"""Several models for the same tasks as one, which says what they say on average.

The folder of an ensemble holds those of its members, 0, 1, ..., and ensemble.json: how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn

from mtbert.data.batches import Apart, Batch
from mtbert.data.kinds.base import Task
from mtbert.data.tokenizer import Tokenizer
from mtbert.errors import Mistake
from mtbert.model.checkpoints import ENSEMBLE, load_model, save_model
from mtbert.model.encoder import Encoder
from mtbert.model.files import REMEDY, read_json, seal, verify, write_json
from mtbert.model.multitask import MultiTask
from mtbert.model.original import Original


class Ensemble(nn.Module):
    """Models that answer the same tasks; of classes the probabilities are averaged, of scores the scores."""

    def __init__(self, members: Sequence[MultiTask]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._first = members[0]
        self.tasks = self._first.tasks

    def forward(self, batch: Batch) -> Tensor:
        """Outputs of the batch's task, from which probabilities or scores come that are the members' means."""
        return self.tasks[batch.task].mean_of([member(batch) for member in self.members])

    def together(self, batch: Batch, tasks: Sequence[str]) -> dict[str, Tensor]:
        """As `MultiTask.together`."""
        said = [member.together(batch, tasks) for member in self._models]
        return {task: self.tasks[task].mean_of([outputs[task] for outputs in said]) for task in tasks}

    def alike(self, tasks: Iterable[str]) -> list[list[str]]:
        """As `MultiTask.alike`, for every member."""
        groups = [list(tasks)]
        for member in self._models:
            groups = [finer for group in groups for finer in member.alike(group)]
        return groups

    def apart(self, tasks: Iterable[str]) -> Apart | None:
        """As `MultiTask.apart`; members began with the same original encoder."""
        asked = list(tasks)
        found = [member.apart(asked) for member in self._models]
        return next((one for one in found if one is not None), None)

    @property
    def encoder(self) -> Encoder:
        """The first member's, which stands for the others where a text is turned into tokens or a vector."""
        return self._first.encoder

    @property
    def original(self) -> Original | None:
        """The frozen copy that heads with features beside the vector read, where there is one."""
        return next((member.original for member in self._models if member.original is not None), None)

    @property
    def _models(self) -> list[MultiTask]:
        return [member for member in self.members if isinstance(member, MultiTask)]


Answering = MultiTask | Ensemble  # what a run's kept model may be, for whoever only asks it


def differences(name: str, tasks: Sequence[Task], other: str, others: Sequence[Task]) -> list[str]:
    """In words, why what models with these tasks say has no mean: other tasks, classes, ranges or texts."""
    by_name = {task.name: task for task in others}
    if {task.name for task in tasks} != by_name.keys():
        return [f"{name} has the tasks {', '.join(task.name for task in tasks)}, {other} {', '.join(by_name)}"]
    found = []
    for task in tasks:
        there = by_name[task.name]
        for what, ours, theirs in (
            ("is", task.kind, there.kind),
            ("says", task.meaning, there.meaning),
            ("has outputs from", task.ends, there.ends),
            ("reads its texts as", task.reads, there.reads),
        ):
            if ours != theirs:
                found.append(f"task '{task.name}' of {name} {what} {ours}, that of {other} {theirs}")
    return found


def save_ensemble(members: Sequence[tuple[MultiTask, Tokenizer]], folder: Path) -> None:
    """Write an ensemble to a folder, which is sealed with all that it holds."""
    for number, (model, tokenizer) in enumerate(members):
        save_model(model, tokenizer, folder / str(number))
    write_json({"members": len(members)}, folder / ENSEMBLE)
    seal(folder)


def load_answering(folder: Path) -> tuple[Answering, Tokenizer]:
    """A model, or an ensemble of several, and the tokenizer, in evaluation mode; raises Mistake if files do not fit."""
    if not (folder / ENSEMBLE).exists():
        return load_model(folder)
    verify(folder)
    count = read_json(folder / ENSEMBLE).get("members")
    if not isinstance(count, int) or not 1 <= count <= 1000:
        raise Mistake(f"{folder / ENSEMBLE} does not say how many members there are; {REMEDY}")
    members = [load_model(folder / str(number)) for number in range(count)]
    return Ensemble([model for model, _ in members]).eval(), members[0][1]
