"""One stage under way: what it logs, judges, keeps and saves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.model.checkpoints import save_model
from mtbert.model.multitask import MultiTask
from mtbert.runs.build import Experiment, read_splits
from mtbert.runs.checkpoint import Checkpoint, Facts, named
from mtbert.runs.folder import BEST, SCORES, Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Look, Note, Step
from mtbert.scoring.evaluation import NotNumbers, Scores, constant_scores, evaluate
from mtbert.training.keeping import Keeper, Measures
from mtbert.training.trainer import Diverged, Record, Trainer


class StageUnderWay:
    """Trains one stage of an experiment into a run folder.

    `kept` are the measures of the model that the stage begins with, `baseline` those that its entry in the recipe
    began with; both are None in a first stage.
    """

    def __init__(
        self,
        run: Run,
        experiment: Experiment,
        index: int,
        *,
        kept: Measures | None,
        baseline: Measures | None,
    ) -> None:
        self.run = run
        self.experiment = experiment
        self.index = index
        self.baseline = baseline
        self.prepared = experiment.stage(index)
        self.prepared.trainer.begin()
        _, stage = experiment.recipe.unrolled()[index]
        tasks = list(self.prepared.trainer.streams)
        rule = experiment.keep_rule(stage, kept=kept, baseline=baseline, tasks=tasks)
        self.keeper = Keeper(rule, stage.patience)
        # the state that training goes back to after a model that is not kept, where the rule wants that
        self._accepted = Snapshot.of(experiment.model, self.prepared.trainer) if rule.reverts else None

    def go(self, listener: Listener) -> str | None:
        """Train to the end of the stage; the listener's reason where it asked to stop earlier."""
        trainer = self.prepared.trainer
        listener.begin(self.index, trainer.steps, trainer.step)
        if self.keeper.satisfied:
            return None
        for record in self._steps():
            self.run.log_line(Step(self.index, **asdict(record)))
            listener.step(record)
            self._look(record.step)
            if record.step % self.prepared.evaluate_every == 0 or trainer.finished:
                self._evaluate(listener)
            if trainer.finished or self.keeper.satisfied:
                return None
            reason = listener.reason_to_stop()
            if reason is not None:
                self.save()
                self.run.log_line(Note(self.index, record.step, reason))
                return reason
        return None

    def save(self) -> None:
        """Write everything that training needs to go on, together."""
        trainer = self.prepared.trainer
        tensors = named("model", self.experiment.model.state_dict()) | named("trainer", trainer.state())
        if self._accepted is not None:
            tensors |= named("accepted_model", self._accepted.model) | named("accepted_trainer", self._accepted.trainer)
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        facts = Facts(
            stage=self.index,
            step=trainer.step,
            positions={task: stream.position for task, stream in trainer.streams.items()},
            keeper=self.keeper.facts(),
            baseline=None if self.baseline is None else dict(self.baseline),
            log_size=self.run.log.size,
        )
        Checkpoint(facts, tensors).write(self.run)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of this stage."""
        trainer = self.prepared.trainer
        self.experiment.model.load_state_dict(saved.part("model"))
        trainer.load(saved.part("trainer"))
        trainer.step = saved.facts.step
        for task, position in saved.facts.positions.items():
            trainer.streams[task].position = position
        self.keeper.load(saved.facts.keeper)
        if self._accepted is not None:
            accepted = Snapshot(saved.part("accepted_model"), saved.part("accepted_trainer"))
            # checkpoints of format 1 were written at evaluations only, where the two are the same
            self._accepted = accepted if accepted.model else Snapshot.of(self.experiment.model, trainer)
        torch.set_rng_state(saved.tensors["random"])
        if torch.cuda.is_available() and "random_cuda" in saved.tensors:
            torch.cuda.set_rng_state(saved.tensors["random_cuda"])

    def _steps(self) -> Iterator[Record]:
        with self._naming_rows():
            yield from self.prepared.trainer

    def _look(self, step: int) -> None:
        for name, observer in self.prepared.observers.items():
            if step % observer.every == 0:
                self.run.log_line(Look(self.index, step, name, observer.look()))

    def _evaluate(self, listener: Listener) -> None:
        """Score the model, keep it where the rule says so, and save."""
        trainer, model = self.prepared.trainer, self.experiment.model
        scores = self._scores()
        kept = self.keeper.take(scores.measures)
        self.run.log_line(Evaluation(self.index, trainer.step, kept, scores.overall, scores.tasks))
        if kept:
            self._keep(scores)
        if self._accepted is not None:
            self._accepted = Snapshot.of(model, trainer) if kept else self._accepted.restored(model, trainer)
        self.save()
        listener.scores(scores, kept)

    def _scores(self) -> Scores:
        trainer = self.prepared.trainer
        with self._naming_rows():
            if not trainer.finite:
                raise trainer.diverged("weights that are nan or inf after it")
            try:
                return evaluate(trainer.objective.scored, self.prepared.dev)
            except NotNumbers as found:
                raise trainer.diverged(f"{found} after it") from None

    @contextmanager
    def _naming_rows(self) -> Iterator[None]:
        """Where training diverges in here, read the task's rows again, so that the message can name them by id."""
        try:
            yield
        except Diverged as diverged:
            recipe = self.experiment.recipe
            tasks = list(dict.fromkeys(task for task, _ in diverged.batches))
            ids = {task: rows.ids for task, rows in read_splits(recipe, tasks, ["train"])["train"].items()}
            raise diverged.said(ids) from None

    def _keep(self, scores: Scores) -> None:
        """Write the model that was scored into best/, its scores beside it in the same step."""
        recipe, scored = self.experiment.recipe, self.prepared.trainer.objective.scored
        model = scored if isinstance(scored, MultiTask) else self.experiment.model
        constant = constant_scores(recipe.tasks, self.experiment.sets["train"], self.experiment.sets["dev"])
        content = {
            "stage": self.index,
            "step": self.prepared.trainer.step,
            "keep": recipe.keep,
            "dev": scores.as_dict(),
            "constant": constant.as_dict(),
        }

        def write(folder: Path) -> None:
            save_model(model, self.experiment.tokenizer, folder)
            (folder / SCORES).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

        self.run.replace(BEST, write)
        self.run.write_json(SCORES, content)


class Snapshot(NamedTuple):
    """The tensors of a model and of what trains it, as they were at one instant."""

    model: dict[str, Tensor]
    trainer: dict[str, Tensor]

    @classmethod
    def of(cls, model: MultiTask, trainer: Trainer) -> Snapshot:
        """A copy of both."""
        return cls(_copied(model.state_dict()), _copied(trainer.state()))

    def restored(self, model: MultiTask, trainer: Trainer) -> Snapshot:
        """Put both back to what they were, and return the snapshot for the next time."""
        model.load_state_dict(self.model)
        trainer.load(_copied(self.trainer))
        return self


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
