"""Several processes that train one model: what one process would do, whatever is combined, and however one ends."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import mtbert
from mtbert.data.batches import Batch, Stream
from mtbert.errors import Mistake
from mtbert.model.world import ALONE, SMALL, Together
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.runs.folder import LAST, Run
from mtbert.runs.log import Step
from mtbert.scoring.evaluation import Scores, evaluate
from mtbert.training.combiners.table import COMBINERS
from mtbert.training.trainer import Trainer
from mtbert.training.weightings.table import WEIGHTINGS
from tests.support.cut_off import Kill, Killed, assert_same_run
from tests.support.small import recipe_over, write_small_data

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin in the middle")

PATIENCE = 300  # seconds that two processes may take for what here takes a few
SEVERAL = [name for name in COMBINERS if name != "sum"]


def in_two(place: Path, work: Callable[[int], object]) -> list[int]:
    """Do the work in two processes that know each other, given their numbers; their exit codes."""
    place.mkdir(parents=True, exist_ok=True)
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(PATIENCE)
                dist.init_process_group("gloo", init_method=f"file://{place}/met", rank=rank, world_size=2)
                work(rank)
                code = 0
            except Mistake as mistake:
                (place / f"mistake{rank}").write_text(str(mistake))
                code = 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def recipe_for(data: Path, dropout: float = 0.0, **stage: Any) -> dict[str, Any]:
    recipe = recipe_over(data)
    recipe["encoder"] |= {"dropout": dropout, "attention_dropout": dropout, "layers": 1}
    for task in recipe["tasks"].values():
        task["dropout"] = dropout
    steps = {"steps": 4, "batch_size": 8, "evaluate_every": 2, "sampler": "joint", "optimizer": {"lr": 1e-2}}
    return recipe | {"stages": [steps | stage]}


def trained(
    data: Path, world: Any = ALONE, prepare: Callable[[Trainer], None] = lambda trainer: None, **stage: Any
) -> dict[str, Tensor]:
    """What a stage leaves of everything that it changes."""
    experiment = build(read_recipe(recipe_for(data, **stage)))
    trainer = experiment.stage(0, world).trainer
    prepare(trainer)
    records = list(trainer)
    model = {name: p.detach() for name, p in experiment.model.named_parameters()}
    losses = [[terms["loss"] for terms in record.terms.values()] for record in records]
    return {**model, **{f"state:{name}": one for name, one in trainer.state().items()}, "losses": torch.tensor(losses)}


def gradients(data: Path, world: Any = ALONE, **stage: Any) -> dict[str, Tensor]:
    """What the optimizer is handed in the first step."""
    trainer = build(read_recipe(recipe_for(data, **stage))).stage(0, world).trainer
    handed: dict[str, Tensor] = {}
    step = trainer.optimizer.step

    def noted(factor: float = 1.0) -> None:
        handed.update({name: p.grad.clone() for name, p in trainer.learning.items() if p.grad is not None})
        step(factor)

    with patch.object(trainer.optimizer, "step", noted):
        trainer.take_step()
    return handed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_data(tmp_path_factory.mktemp("processes") / "data")


@pytest.fixture(scope="module")
def found(data: Path) -> dict[str, list[dict[str, Tensor]]]:
    """What each of two processes has after each of several trainings, all in one pair of processes."""
    place = data.parent / "found"

    def work(rank: int) -> None:
        world = Together()
        results = {f"combiner {name}": trained(data, world, combiner=name) for name in SEVERAL}
        results["late"] = trained(data, world, late, combiner="pcgrad")
        results["sum"] = trained(data, world, tasks="mood")
        results["turns"] = trained(data, world, sampler="round_robin")
        results |= {f"uneven {name}": trained(data, world, combiner=name, batch_size=7, steps=6) for name in COMBINERS}
        results |= {f"first {name}": gradients(data, world, combiner=name, batch_size=7) for name in COMBINERS}
        results["tiny"] = trained(data, world, batch_size=13, steps=4)
        results["divided"] = trained(data, world, batch_size=7, steps=6, reduction="fixed_batch")
        results["heads"] = trained(data, world, sampler="round_robin", train="heads")
        results |= {
            f"weighting {name}": trained(
                data, world, weighting=name, dropout=0.3, steps=20 if name == "famo" else 6, regularizers=["r_drop"]
            )
            for name in WEIGHTINGS
        }
        results |= {f"plain {name}": trained(data, world, weighting=name, steps=4) for name in WEIGHTINGS}
        experiment = build(read_recipe(recipe_for(data)))
        results["tables"] = summed(rank, world)
        results["scores"] = flat(evaluate(experiment.model, experiment.sets["dev"], world))
        torch.save(results, place / f"{rank}.pt")

    assert in_two(place, work) == [0, 0]
    both = [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return {name: [both[0][name], both[1][name]] for name in both[0]}


def tables(rank: int) -> dict[str, Tensor]:
    """Tensors so large that they are added up by themselves: tables with few rows, none, all; one that is not tall."""
    generator = torch.Generator().manual_seed(rank)
    tall = torch.zeros(SMALL // 64 + 1, 64)
    few, not_a_number, all_rows = tall.clone(), tall.clone(), torch.randn(tall.shape, generator=generator)
    few[torch.randint(len(few), (50,), generator=generator)] = torch.randn(50, 64, generator=generator)
    not_a_number[3 + rank, 5] = torch.nan
    square = torch.randn(2000, SMALL // 2000 + 1, generator=generator)
    return {"few": few, "not a number": not_a_number, "all": all_rows, "none": tall, "square": square}


def summed(rank: int, world: Any) -> dict[str, Tensor]:
    given = tables(rank)
    world.sum_all(given.values())
    return given


def flat(scores: Scores) -> dict[str, Tensor]:
    return {f"{task} {name}": torch.tensor(value) for task, one in scores.tasks.items() for name, value in one.items()}


def late(trainer: Trainer) -> None:
    """Add up gradients after they were combined, which is what goes wrong elsewhere."""
    combiner, world = trainer.combiner, trainer.world
    combiner.world = ALONE
    combine = combiner.combine

    def then_sum(*given: Any) -> dict[str, Tensor]:
        return {name: world.sum(gradient) for name, gradient in combine(*given).items()}

    setattr(combiner, "combine", then_sum)  # noqa: B010


def halved(trainer: Trainer) -> None:
    """Let each half of a batch come by itself, as two processes see them."""
    for stream in trainer.streams.values():
        stream.draw = halves(stream)  # type: ignore[method-assign]


def halves(stream: Stream) -> Callable[..., Batch]:
    whole, waiting = stream.draw, list[Batch]()

    def draw(number: int = 0, of: int = 1) -> Batch:
        if not waiting:
            rows = whole().rows
            waiting.extend(stream.examples.batch(rows[half::2]) for half in range(2))
        return waiting.pop(0)

    return draw


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], bits: bool) -> bool:
    assert ours.keys() == theirs.keys()
    alike = (
        torch.equal if bits else lambda one, other: torch.allclose(one.double(), other.double(), atol=2e-5, rtol=1e-4)
    )
    return all(alike(one, theirs[name]) for name, one in ours.items() if name != "losses")


# ---- one process as the oracle


@pytest.mark.parametrize("name", SEVERAL)
def test_two_processes_are_one_that_accumulates_the_halves_to_the_bit(
    found: dict[str, list[dict[str, Tensor]]], data: Path, name: str
) -> None:
    first, second = found[f"combiner {name}"]
    alone = trained(data, prepare=halved, combiner=name, accumulate=2)
    assert same(first, second, bits=True)
    assert same(first, alone, bits=True)


def test_so_it_is_where_gradients_of_one_task_are_only_added_up(
    found: dict[str, list[dict[str, Tensor]]], data: Path
) -> None:
    alone = trained(data, prepare=halved, tasks="mood", accumulate=2)
    assert same(found["sum"][0], alone, bits=True)


def test_gradients_that_are_added_up_after_they_were_combined_are_others(
    found: dict[str, list[dict[str, Tensor]]], data: Path
) -> None:
    alone = trained(data, prepare=halved, combiner="pcgrad", accumulate=2)
    assert not same(found["late"][0], alone, bits=False)


@pytest.mark.parametrize("name", list(COMBINERS))
def test_two_processes_are_one_with_the_whole_batch_uneven_ones_too(
    found: dict[str, list[dict[str, Tensor]]], data: Path, name: str
) -> None:
    first, second = found[f"uneven {name}"]
    assert same(first, second, bits=True)
    alone = trained(data, combiner=name, batch_size=7, steps=6)
    torch.testing.assert_close(first["losses"], alone["losses"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", list(COMBINERS))
def test_the_gradient_of_two_uneven_parts_is_that_of_the_whole_batch(
    found: dict[str, list[dict[str, Tensor]]], data: Path, name: str
) -> None:
    alone = gradients(data, combiner=name, batch_size=7)
    for ours in found[f"first {name}"]:
        torch.testing.assert_close(ours, alone, atol=1e-6, rtol=1e-5)


def test_batches_of_one_example_and_sums_over_a_batch_are_those_of_one_process(
    found: dict[str, list[dict[str, Tensor]]], data: Path
) -> None:
    tiny, divided = (
        trained(data, batch_size=13, steps=4),
        trained(data, batch_size=7, steps=6, reduction="fixed_batch"),
    )
    torch.testing.assert_close(found["tiny"][0]["losses"], tiny["losses"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found["divided"][0]["losses"], divided["losses"], atol=1e-4, rtol=1e-3)


def test_parts_that_rest_and_heads_of_one_task_hold_nobody_up(
    found: dict[str, list[dict[str, Tensor]]], data: Path
) -> None:
    stages: dict[str, dict[str, Any]] = {"heads": {"train": "heads"}, "turns": {}}
    for name, stage in stages.items():
        alone = trained(data, sampler="round_robin", **stage)
        assert same(found[name][0], found[name][1], bits=True)
        torch.testing.assert_close(found[name][0]["losses"], alone["losses"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_everything_stays_the_same_in_both_with_dropout_of_their_own(
    found: dict[str, list[dict[str, Tensor]]], data: Path, name: str
) -> None:
    assert same(found[f"weighting {name}"][0], found[f"weighting {name}"][1], bits=True)


@pytest.mark.parametrize("name", list(WEIGHTINGS))
def test_weightings_see_the_losses_of_whole_batches(
    found: dict[str, list[dict[str, Tensor]]], data: Path, name: str
) -> None:
    alone = trained(data, weighting=name, steps=4)
    ours = found[f"plain {name}"][0]
    states = [key for key in alone if "objective" in key or key == "losses"]
    for key in states:
        torch.testing.assert_close(ours[key], alone[key], atol=1e-4, rtol=1e-3)


def test_scores_of_gathered_predictions_are_those_of_one_process(
    found: dict[str, list[dict[str, Tensor]]], data: Path
) -> None:
    experiment = build(read_recipe(recipe_for(data)))
    alone = flat(evaluate(experiment.model, experiment.sets["dev"]))
    for scores in found["scores"]:
        assert {name: float(value) for name, value in scores.items()} == pytest.approx(
            {name: float(value) for name, value in alone.items()}, abs=1e-7
        )


def test_large_tables_are_added_up_whichever_rows_of_them_are_sent(found: dict[str, list[dict[str, Tensor]]]) -> None:
    for name, one in tables(0).items():
        expected = one + tables(1)[name]
        for ours in found["tables"]:
            assert torch.equal(ours[name].nan_to_num(7), expected.nan_to_num(7))


# ---- run folders


class KillSecond(Kill):
    """Ends the second process, as the system would that has no memory left."""

    def step(self, record: Any) -> None:
        self.steps -= 1
        if self.steps == 0 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_what_one_process_began_two_go_on_with(data: Path, tmp_path: Path) -> None:
    recipe = recipe_for(data, steps=8, combiner="pcgrad", optimizer={"lr": 1e-3})
    alone = mtbert.train(recipe, out=tmp_path / "alone")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "run", listener=Kill(steps=5))
    assert in_two(tmp_path / "two", lambda rank: mtbert.train(recipe, out=tmp_path / "run", resume=True)) == [0, 0]
    steps, expected = ([line for line in run.log if isinstance(line, Step)] for run in (Run(tmp_path / "run"), alone))
    assert [line.step for line in steps] == [line.step for line in expected] == list(range(1, 9))
    for ours, theirs in zip(steps, expected, strict=True):
        for task, terms in theirs.terms.items():
            assert ours.terms[task]["loss"] == pytest.approx(terms["loss"], rel=1e-3)


def test_a_run_is_written_once_and_goes_on_after_one_process_was_killed(data: Path, tmp_path: Path) -> None:
    recipe = recipe_for(data, dropout=0.3, steps=8, combiner="graddrop")
    recipe["stages"] *= 2
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")

    def train(run: Run, **how: Any) -> Callable[[int], object]:
        return lambda rank: mtbert.train(recipe, out=run.folder, **how)

    assert in_two(tmp_path / "a", train(whole)) == [0, 0]
    steps = [line.step for line in whole.log if line.type == "step"]
    assert steps == [*range(1, 9), *range(1, 9)]
    assert whole.environment["processes"] == 2

    assert in_two(tmp_path / "b", train(cut, listener=KillSecond(steps=13))) == [2, -signal.SIGKILL]
    assert "another of the processes" in (tmp_path / "b" / "mistake0").read_text()
    alone = Run(tmp_path / "alone")
    os.system(f"cp -r {cut.folder} {alone.folder}")
    assert in_two(tmp_path / "c", train(cut, resume=True)) == [0, 0]
    assert_same_run(cut, whole)

    assert mtbert.train(recipe, out=alone.folder, resume=True).stopped is None
    assert alone.scores["dev"]["tasks"].keys() == whole.scores["dev"]["tasks"].keys()
    assert alone.has(LAST)

    assert in_two(tmp_path / "d", train(cut)) == [2, 2]
    said = {(tmp_path / "d" / f"mistake{rank}").read_text() for rank in range(2)}
    assert len(said) == 1
    assert "already holds a run" in said.pop()
