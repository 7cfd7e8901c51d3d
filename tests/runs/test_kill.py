"""A run killed at any instant, also in the middle of a write, goes on to the bits of the run that nothing disturbed.

Between them the recipes here use every sampler, keep rule, average, regulariser, combiner and weighting of the tables.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import mtbert
from mtbert.model.files import sealed, verify
from mtbert.recipe.families import FAMILIES
from mtbert.runs.folder import BEST, LAST, Run
from tests.support.cut_off import records
from tests.support.faults import Operations
from tests.support.small import recipe_over, write_small_data

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that begin in the middle")

RECIPES = 16
NEEDED = {"weighted": {"weights": {"mood": 3, "same": 2, "near": 1}}}  # options without a default


def nth(word: str, number: int) -> dict[str, Any]:
    """A method of a family, counted round and round its table."""
    names = list(FAMILIES[word].table)
    name = names[number % len(names)]
    return {"name": name, **NEEDED.get(name, {})}


def recipe_number(number: int, data: Path) -> dict[str, Any]:
    """Two stages: one with methods by their numbers, and one that keeps by the rule of its number."""
    recipe = recipe_over(data)
    stage = recipe["stages"][0] | {
        "steps": 4,
        "evaluate_every": 2,
        "batch_size": 4,
        "accumulate": 2,
        "sampler": nth("sampler", number),
        "combiner": nth("combiner", number),
        "weighting": nth("weighting", number),
        "regularizers": [nth("regularizers", number)],
    }
    second = stage | {
        "keep": nth("keep", number),
        "average": nth("average", number // 4),
        "regularizers": [nth("regularizers", number + 1)],
    }
    made = recipe | {"stages": [stage, second], "modules": ["lhuc"], "save_every": [600, 0.001][number % 2]}
    return on_one_file(made) if stage["sampler"]["name"] == "joint_rows" else made


def on_one_file(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with tasks that share their rows, without what one pass for all of them does not go with."""
    alone = {"combiner": "sum", "regularizers": []}
    tasks = dict.fromkeys(recipe["tasks"], recipe["tasks"]["mood"])
    return recipe | {"tasks": tasks, "modules": [], "stages": [stage | alone for stage in recipe["stages"]]}


def test_every_method_of_these_families_is_used(tmp_path: Path) -> None:
    recipes = [recipe_number(number, tmp_path) for number in range(RECIPES)]
    stages = [stage for recipe in recipes for stage in recipe["stages"]]
    for word in ("sampler", "combiner", "weighting", "keep", "average"):
        used = [stage[word] for stage in stages if word in stage]
        assert {one["name"] for one in used if isinstance(one, dict)} == set(FAMILIES[word].table)
    assert {one["name"] for stage in stages for one in stage["regularizers"]} == set(FAMILIES["regularizers"].table)


@dataclass(frozen=True)
class Training:
    """Something that can be trained into a folder, how it comes out, and how long that takes."""

    train: Callable[[Path, bool], Run]  # folder, whether to resume
    whole: Run
    seconds: float
    operations: int

    @classmethod
    def once(cls, train: Callable[[Path, bool], Run], folder: Path) -> Training:
        train(folder / "first", False)  # what is computed once and cached is no part of what is killed
        counted = Operations(folder, -1, print)
        started = time.perf_counter()
        with counted.watched():
            whole = train(folder / "whole", False)
        return cls(train, whole, time.perf_counter() - started, counted.done)

    def killed(self, folder: Path, draw: random.Random) -> str:
        """Train into the folder in a process that is killed before it is through; when, in words."""
        while True:
            number, torn, seconds = draw.randint(1, self.operations), draw.random() < 0.5, draw.uniform(0, self.seconds)
            by_clock = draw.random() < 0.5
            child = os.fork()
            if child == 0:
                self._train_until_killed(folder, -1 if by_clock else number, torn, seconds if by_clock else None)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if ended == -signal.SIGKILL:
                return f"after {seconds:.3f} s" if by_clock else f"at operation {number}{', torn' * torn}"
            assert ended == 0, f"the process to be killed ended with {ended}"
            shutil.rmtree(folder)  # it was through before

    def _train_until_killed(self, folder: Path, number: int, torn: bool, seconds: float | None) -> NoReturn:
        """In a process of its own: nothing returns from here."""
        code = 1
        try:
            if seconds is not None:
                threading.Timer(seconds, end_this_process).start()
            with Operations(folder, number, lambda name: end_this_process(), torn).watched():
                self.train(folder, True)
            code = 0
        finally:
            os._exit(code)

    def goes_on_to_the_same_bits(self, folder: Path, draw: random.Random) -> str | None:
        """What happened where a run that is killed, once or more often, comes out otherwise; None where it does not."""
        kills = [self.killed(folder, draw) for _ in range(draw.choice([1, 1, 2]))]
        torch.manual_seed(draw.randrange(1000))  # a new process knows nothing of the old one's random state
        try:
            differs = difference(self.train(folder, True), self.whole)
        except BaseException as error:
            differs = f"{type(error).__name__}: {error}"
        return f"killed {' and '.join(kills)}: {differs}" if differs else None


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def difference(found: Run, whole: Run) -> str | None:
    """In what two runs differ, by their logs and the checksums of all that they keep."""
    for run in (found, whole):
        for name in (BEST, LAST):
            verify(run.part(name))
    if records(found) != records(whole):
        return "the logs differ"
    if found.scores != whole.scores or sealed(found.part(BEST)) != sealed(whole.part(BEST)):
        return "the kept models differ"
    ours, theirs = (sealed(run.part(LAST))["state.safetensors"] for run in (found, whole))
    return None if ours == theirs else "the checkpoints differ"


def from_recipe(number: int, folder: Path) -> Training:
    recipe = recipe_number(number, write_small_data(folder / "data"))
    return Training.once(lambda out, resume: mtbert.train(recipe, out=out, resume=resume), folder)


def with_a_task_added(folder: Path) -> Training:
    recipe = recipe_over(write_small_data(folder / "data"))
    near = recipe["tasks"].pop("near")
    recipe["stages"][0] |= {"steps": 2, "evaluate_every": 2}
    base = mtbert.train(recipe, out=folder / "base")
    stage = recipe["stages"][0] | {"steps": 6, "train": ["heads", "modules"]}
    added = {"data": recipe["data"], "tasks": {"near": near}, "modules": ["adapter"], "stages": [stage]}
    return Training.once(lambda out, resume: mtbert.add_task(base.folder, added, out=out, resume=resume), folder)


def kill_often(training: Training, folder: Path, seeds: range) -> list[str]:
    """What went wrong over so many kills at random instants."""
    found = [training.goes_on_to_the_same_bits(folder / f"{seed}", random.Random(seed)) for seed in seeds]
    return [f"seed {seed}: {said}" for seed, said in zip(seeds, found, strict=True) if said]


def test_a_run_killed_at_random_instants_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    assert kill_often(from_recipe(3, tmp_path), tmp_path, range(4)) == []


@pytest.mark.long
@pytest.mark.parametrize("number", range(RECIPES))
def test_runs_of_every_method_killed_at_random_instants_go_on_to_the_same_bits(number: int, tmp_path: Path) -> None:
    assert kill_often(from_recipe(number, tmp_path), tmp_path, range(number * 100, number * 100 + 12)) == []


@pytest.mark.long
def test_a_run_that_adds_a_task_killed_at_random_instants_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    assert kill_often(with_a_task_added(tmp_path), tmp_path, range(9000, 9012)) == []
