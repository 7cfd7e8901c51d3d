"""One stage under way: what it logs, judges, keeps and saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mtbert.errors import Mistake
from mtbert.model.checkpoints import save_model
from mtbert.model.files import OUTPUTS, REMEDY, check_finite, check_fit, naming, write_json
from mtbert.model.frozen import AnyModel
from mtbert.model.multitask import MultiTask
from mtbert.model.tensors import save_tensors
from mtbert.model.world import ALONE, World
from mtbert.runs.allowance import Allowance, clock
from mtbert.runs.build import Experiment
from mtbert.runs.checkpoint import FACTS, STATE, Checkpoint, Facts, named
from mtbert.runs.data import read_splits
from mtbert.runs.folder import BEST, LAST, SCORES, Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Look, Note, Settled, Step
from mtbert.runs.snapshot import Snapshot, copied
from mtbert.runs.trial import trial
from mtbert.scoring.evaluation import NotNumbers, Scores, constant_scores, evaluate
from mtbert.training.averaging import Weights, holding
from mtbert.training.keeping import Keeper, Measures
from mtbert.training.pace import Pace
from mtbert.training.trainer import Diverged, Record


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
        world: World = ALONE,
    ) -> None:
        self.run = run
        self.world = world
        self.experiment = experiment
        self.index = index
        self.baseline = baseline
        self.prepared = experiment.stage(index, world)
        self.prepared.trainer.begin()
        _, stage = experiment.recipe.unrolled()[index]
        tasks = list(self.prepared.trainer.streams)
        rule = experiment.keep_rule(stage, kept=kept, baseline=baseline, tasks=tasks)
        self.keeper = Keeper(rule, stage.patience)
        # the state that training goes back to after a model that is not kept, where the rule wants that
        self._accepted = Snapshot.of(experiment.model, self.prepared.trainer) if rule.reverts else None
        self._saved_at = self._looked_at = time.monotonic()
        every = self.prepared.evaluate_every
        self._allowance = None if stage.minutes is None else Allowance(60 * stage.minutes, every)

    def begin(self) -> None:
        """Settle how long the stage is, where the clock says that; not for one that goes on from a checkpoint."""
        if self._allowance is not None:
            trainer, model, dev = self.prepared.trainer, self.experiment.model, self.prepared.dev
            with self._naming_rows():
                self._allowance.tried(*trial(trainer, model, dev, self._allowance.seconds))
            self._settle(self._allowance)
            self.save()

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
            elif self._settled_anew(listener) or self.world.any(self._due()):
                self.save()
            if trainer.finished or self.keeper.satisfied:
                return None
            reason = listener.reason_to_stop()
            if self.world.any(reason is not None):
                reason = reason or "another process"
                self.save()
                self.run.log_line(Note(self.index, record.step, reason))
                return reason
        return None

    def save(self) -> None:
        """Write everything that training needs to go on, together."""
        self.run.flush_log()
        trainer = self.prepared.trainer
        tensors = named("model", self.experiment.model.state_dict()) | named("trainer", trainer.state())
        if self._accepted is not None:
            tensors |= named("accepted_model", self._accepted.model) | named("accepted_trainer", self._accepted.trainer)
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        tensors |= self.world.random_states()
        facts = Facts(
            stage=self.index,
            step=trainer.step,
            positions={task: stream.position for task, stream in trainer.streams.items()},
            keeper=self.keeper.facts(),
            baseline=None if self.baseline is None else dict(self.baseline),
            log_size=self.run.log.size,
            steps=trainer.steps,
            since=trainer.pace.since,
            progress=trainer.pace.progress,
            spent=0.0 if self._allowance is None else self._allowance.elapsed,
        )
        Checkpoint(facts, tensors).write(self.run)
        self._saved_at = self._looked_at = time.monotonic()

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of this stage; raises Mistake where it does not fit what the recipe trains."""
        trainer, folder = self.prepared.trainer, self.run.folder / LAST
        with naming(folder / FACTS):
            self._check_facts(saved.facts)
        with _fitting(folder / STATE):
            # checkpoints of format 1 were written at evaluations only, where the two are the same
            if self._accepted is not None and saved.part("accepted_model"):
                self._accepted = Snapshot(self._model_in(saved, "accepted_model"), saved.part("accepted_trainer"))
                self._load_trainer(self._accepted.trainer)
            self.experiment.model.load_state_dict(self._model_in(saved, "model"))
            self._load_trainer(saved.part("trainer"))
            if self._accepted is not None and not saved.part("accepted_model"):
                self._accepted = Snapshot.of(self.experiment.model, trainer)
            torch.set_rng_state(saved.tensors["random"])
            if torch.cuda.is_available() and "random_cuda" in saved.tensors:
                torch.cuda.set_rng_state(saved.tensors["random_cuda"])
            self.world.load_random(saved.tensors)
        with _fitting(folder / FACTS):
            self.keeper.load(saved.facts.keeper)
        trainer.step = saved.facts.step
        if self._allowance is not None:
            trainer.pace = Pace(saved.facts.steps or trainer.steps, saved.facts.since, saved.facts.progress)
            seconds, every = self._allowance.seconds, self.prepared.evaluate_every
            self._allowance = Allowance(seconds, every, saved.facts.spent, saved.facts.step)
        for task, position in saved.facts.positions.items():
            trainer.streams[task].position = position

    def _settle(self, allowance: Allowance) -> None:
        """Make the stage as long as the clock allows, and write that down."""
        trainer = self.prepared.trainer
        trainer.settle(allowance.steps(trainer.step))
        self.run.log_line(Settled(self.index, trainer.step, trainer.steps))

    def _settled_anew(self, listener: Listener) -> bool:
        """Whether it was time to settle the stage's length anew."""
        trainer = self.prepared.trainer
        if self._allowance is None or not self._allowance.due or trainer.finished:
            return False
        self._settle(self._allowance)
        listener.begin(self.index, trainer.steps, trainer.step)
        return True

    def _due(self) -> bool:
        """Whether another step as long as the last one would bring a kill to cost more than the recipe allows."""
        now, every = time.monotonic(), self.experiment.recipe.save_every
        took, self._looked_at = now - self._looked_at, now
        return every is not None and now - self._saved_at + took > every

    def _check_facts(self, facts: Facts) -> None:
        trainer = self.prepared.trainer
        steps = trainer.steps if self._allowance is None else facts.steps or 0
        if facts.step > steps or facts.since > facts.step:
            raise Mistake(f"step is {facts.step}, and the stage has {steps}; {REMEDY}")
        if facts.positions.keys() != trainer.streams.keys():
            said, due = ", ".join(facts.positions), ", ".join(trainer.streams)
            raise Mistake(f"positions are those of {said or 'no task'}, not of {due}; {REMEDY}")

    def _load_trainer(self, state: Mapping[str, Tensor]) -> None:
        """Give the trainer a state; raises Mistake where it does not come back as it went in."""
        trainer, path = self.prepared.trainer, self.run.folder / LAST / STATE
        beside = "what the recipe trains"
        parameters = dict(self.experiment.model.named_parameters())
        for kind in ("optimizer.means.", "optimizer.squares."):
            moments = {key.removeprefix(kind): one for key, one in state.items() if key.startswith(kind)}
            known = {name: one for name, one in moments.items() if name in parameters}
            check_fit(known, {name: parameters[name] for name in known}, path, beside)
            check_finite(moments, path)
        check_finite({key: one for key, one in state.items() if key.startswith("average.")}, path)
        trainer.load(copied(state))
        check_fit(state, trainer.state(), path, beside)

    def _model_in(self, saved: Checkpoint, part: str) -> dict[str, Tensor]:
        tensors, path = saved.part(part), self.run.folder / LAST / STATE
        check_fit(tensors, self.experiment.model.state_dict(), path, beside="the model that the recipe describes")
        check_finite(tensors, path)
        return tensors

    def _steps(self) -> Iterator[Record]:
        with self._naming_rows():
            yield from self.prepared.trainer

    def _look(self, step: int) -> None:
        for name, observer in self.prepared.observers.items():
            if step % observer.every == 0:
                self.run.log_line(Look(self.index, step, name, observer.look()))

    def _evaluate(self, listener: Listener) -> None:
        """Score the model and its averages, keep each where the rule says so, and save."""
        trainer, model, began = self.prepared.trainer, self.experiment.model, clock()
        judged = [self._judge(trainer.objective.scored, self.keeper.take)]
        trainer.average.after_evaluation(self._measure(judged[0].scores))
        judged += self._judge_average(trainer.average.now(), self.keeper.take_beside)
        if trainer.finished or self.keeper.satisfied:
            judged += self._judge_average(trainer.average.at_the_end(self._score), self.keeper.rule.take)
        if self._accepted is not None:
            kept = any(one.kept for one in judged)
            self._accepted = Snapshot.of(model, trainer) if kept else self._accepted.restored(model, trainer)
        if self._allowance is not None:
            self._allowance.evaluated(clock() - began)
            if not trainer.finished:
                self._settle(self._allowance)
        self.save()
        for number, one in enumerate(judged):
            if number > 0:
                listener.note("an average of the stage's weights:")
            listener.scores(*one)

    def _judge(self, model: AnyModel, take: Callable[[Measures], bool], average: bool = False) -> Judged:
        """Score a model, and keep it where `take` says so."""
        scores = self._scores(model)
        kept = take(scores.measures)
        step = self.prepared.trainer.step
        self.run.log_line(Evaluation(self.index, step, kept, scores.overall, scores.tasks, average))
        if kept:
            self._keep(scores, model)
        return Judged(scores, kept)

    def _judge_average(self, weights: Weights | None, take: Callable[[Measures], bool]) -> list[Judged]:
        if weights is None:
            return []
        trainer = self.prepared.trainer
        with holding(trainer.learning, weights):
            return [self._judge(trainer.objective.model, take, average=True)]

    def _score(self, weights: Weights) -> float:
        """The score of the model with these weights, by the measure that the stage is judged by."""
        trainer = self.prepared.trainer
        with holding(trainer.learning, weights):
            return self._measure(self._scores(trainer.objective.model))

    def _measure(self, scores: Scores) -> float:
        return scores.measures[self.keeper.rule.measure]

    def _scores(self, model: AnyModel) -> Scores:
        trainer = self.prepared.trainer
        with self._naming_rows():
            if not trainer.finite:
                raise trainer.diverged("weights that are nan or inf after it")
            try:
                return evaluate(model, self.prepared.dev, self.world)
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

    def _keep(self, scores: Scores, scored: AnyModel) -> None:
        """Write the model that was scored into best/, its scores and outputs beside it in the same step."""
        recipe = self.experiment.recipe
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
            write_json(content, folder / SCORES)
            save_tensors(scores.outputs, folder / OUTPUTS)
            save_model(model, self.experiment.tokenizer, folder)  # which seals the folder, scores included

        self.run.replace(BEST, write)
        self.run.write_json(SCORES, content)


class Judged(NamedTuple):
    """The scores of a model, and whether it was kept."""

    scores: Scores
    kept: bool


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Whatever a part of training cannot take over is said as damage to the file that it comes from."""
    try:
        yield
    except Mistake:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
        raise Mistake(f"{path} does not fit what the recipe trains ({error}); {REMEDY}") from error
