"""What goes on is the run that was begun: with the same data, or said and recorded otherwise."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

import mtbert
import mtbert.runs.environment
import mtbert.runs.stage
from mtbert.errors import Mistake
from mtbert.model.sources import ENCODERS
from mtbert.recipe.reading import read_recipe
from mtbert.runs.checkpoint import Checkpoint
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation
from mtbert.runs.stage import StageUnderWay
from mtbert.runs.train import prepare
from tests.support.cut_off import Kill, Killed, assert_same_run, records, tensors
from tests.support.mutations import mutated
from tests.support.small import recipe_over, write_small_data


class Notes(Listener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@dataclass(frozen=True)
class Begun:
    """A run that went to its end, and one of the same recipe that was cut off in the middle."""

    recipe: dict[str, Any]
    whole: Run
    cut: Path


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    folder = tmp_path_factory.mktemp("begun")
    recipe = recipe_over(write_small_data(folder / "data"))
    whole = mtbert.train(recipe, out=folder / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=folder / "cut", listener=Kill(steps=6))
    return Begun(recipe, whole, folder / "cut")


@pytest.fixture
def recipe(begun: Begun) -> Iterator[dict[str, Any]]:
    """The recipe; what a test does to the data is undone behind it."""
    before = {path: path.read_bytes() for path in Path(begun.recipe["data"]).iterdir()}
    yield copy.deepcopy(begun.recipe)
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture
def whole(begun: Begun) -> Run:
    return begun.whole


@pytest.fixture
def cut(begun: Begun, tmp_path: Path) -> Run:
    return Run(shutil.copytree(begun.cut, tmp_path / "run"))


def recorded(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.folder / "environment.json").read_text())
    return content


# ---- the data


def in_lines(change: Callable[[list[str]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        lines = path.read_text().splitlines()
        change(lines)
        path.write_text("\n".join(lines) + "\n")

    return apply


CHANGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a row more": (
        "mood-train.tsv",
        in_lines(lambda lines: lines.append("99\ttea\tlow")),
        "mood.train had 40 rows and now has 41",
    ),
    "a row less": ("near-train.jsonl", in_lines(lambda lines: lines.pop()), "near.train had 40 rows and now has 39"),
    "another label": (
        "mood-train.tsv",
        in_lines(lambda lines: lines.__setitem__(3, lines[3].replace("high", "low"))),
        "mood.train has 40 rows as before, but not the same",
    ),
    "another order": (
        "same-train.csv",
        in_lines(lambda lines: lines.insert(1, lines.pop())),
        "same.train has 40 rows as before, but not the same",
    ),
    "another dev set": (
        "same-dev.csv",
        in_lines(lambda lines: lines.__setitem__(1, lines[1] + "0")),
        "same.dev has 12 rows as before, but not the same",
    ),
}


@pytest.mark.parametrize("what", ["a row more", "a row less", "another label", "another order"])
def test_a_run_is_not_resumed_with_other_data_and_the_message_says_which(
    cut: Run, recipe: dict[str, Any], what: str
) -> None:
    name, change, said = CHANGES[what]
    before = {path: path.read_bytes() for path in cut.folder.rglob("*") if path.is_file()}
    change(Path(recipe["data"]) / name)
    with pytest.raises(Mistake, match="begun with other data") as refusal:
        mtbert.train(recipe, out=cut.folder, resume=True)
    assert said in str(refusal.value)
    assert "--force" in str(refusal.value)
    now = {path: path.read_bytes() for path in cut.folder.rglob("*") if path.is_file()}
    assert {path for path in now if path.name != ".lock"} == {path for path in before if path.name != ".lock"}
    assert all(now[path] == before[path] for path in now if path.name != ".lock")


def test_another_dev_set_is_other_data_too(cut: Run, recipe: dict[str, Any]) -> None:
    path = Path(recipe["data"]) / "same-dev.csv"
    path.write_text(path.read_text().replace("tea", "coffee"))
    with pytest.raises(Mistake, match=r"same\.dev has 12 rows as before, but not the same"):
        mtbert.train(recipe, out=cut.folder, resume=True)


def test_the_same_files_touched_or_copied_are_the_same_data(cut: Run, whole: Run, recipe: dict[str, Any]) -> None:
    data = Path(recipe["data"])
    for path in list(data.iterdir()):
        copy = path.with_name(f"{path.name}.copy")
        shutil.copy(path, copy)
        path.unlink()
        copy.rename(path)
        os.utime(path, (0, 0))
    assert_same_run(mtbert.train(recipe, out=cut.folder, resume=True), whole)


def test_the_hash_that_counts_is_the_one_in_the_environment(cut: Run, recipe: dict[str, Any]) -> None:
    content = recorded(cut)
    content["data"]["mood.train"]["sha256"] = "0" * 64
    cut.write_json("environment.json", content)
    with pytest.raises(Mistake, match=r"mood\.train has 40 rows as before, but not the same"):
        mtbert.train(recipe, out=cut.folder, resume=True)


def test_force_goes_on_and_records_both(cut: Run, recipe: dict[str, Any]) -> None:
    before = recorded(cut)
    CHANGES["a row more"][1](Path(recipe["data"]) / "mood-train.tsv")
    mtbert.train(recipe, out=cut.folder, resume=True, force=True)
    after = recorded(cut)
    assert after["data"] == before["data"]
    [change] = after["changes"]
    assert change["data"]["mood.train"]["rows"] == 41
    assert change["data"]["mood.train"]["sha256"] != before["data"]["mood.train"]["sha256"]
    mtbert.train(recipe, out=cut.folder, resume=True)  # what was forced is what the run now has
    assert recorded(cut) == after


def test_tables_in_memory_are_compared_by_what_they_hold(recipe: dict[str, Any], tmp_path: Path) -> None:
    texts = [f"{word} film" for word in ("good", "bad", "warm", "cold", "slow", "dull")]

    def over(texts: list[str], labels: list[str]) -> dict[str, Any]:
        table = pa.table({"text": pa.chunked_array([texts[:2], texts[2:]]), "mood": labels, "aside": range(6)})
        task = recipe["tasks"]["mood"] | {"train": table, "dev": table}
        return recipe | {"tasks": {"mood": task}}

    labels = ["low", "mid", "high"] * 2
    with pytest.raises(Killed):
        mtbert.train(over(texts, labels), out=tmp_path / "run", listener=Kill(steps=6))
    for other in (over(texts[::-1], labels), over(texts, labels[::-1])):
        with pytest.raises(Mistake, match=r"mood\.train has 6 rows as before, but not the same"):
            mtbert.train(other, out=tmp_path / "run", resume=True)
    assert mtbert.train(over(list(texts), labels), out=tmp_path / "run", resume=True).scores


def test_another_tokenizer_is_another_run(cut: Run, recipe: dict[str, Any]) -> None:
    cut.write_json("environment.json", recorded(cut) | {"tokenizer": "0" * 64})
    with pytest.raises(Mistake, match="the encoder's tokenizer is another"):
        mtbert.train(recipe, out=cut.folder, resume=True)


# ---- the machine


def test_another_number_of_threads_is_said_in_a_line_and_recorded(cut: Run, recipe: dict[str, Any]) -> None:
    cut.write_json("environment.json", recorded(cut) | {"threads": 64})
    notes = Notes()
    mtbert.train(recipe, out=cut.folder, resume=True, listener=notes)
    [said] = notes.said
    assert f"threads 64 -> {torch.get_num_threads()}" in said
    assert "the last bits may differ" in said
    assert "\n" not in said
    assert recorded(cut)["threads"] == 64
    assert recorded(cut)["changes"] == [{"threads": torch.get_num_threads()}]


def test_another_processor_is_said(cut: Run, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtbert.runs.environment, "processor", lambda: "Z80")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    notes = Notes()
    mtbert.train(recipe, out=cut.folder, resume=True, listener=notes)
    assert "-> Z80" in notes.said[0]
    assert "-> NONE" in notes.said[0]


def test_where_nothing_changed_nothing_is_said(cut: Run, recipe: dict[str, Any]) -> None:
    notes, before = Notes(), recorded(cut)
    mtbert.train(recipe, out=cut.folder, resume=True, listener=notes)
    assert notes.said == []
    assert recorded(cut) == before
    assert {"threads", "processor", "capability"} <= before.keys()


# ---- the encoder


def test_a_resumed_run_reads_its_encoder_at_the_commit_that_it_began_with(
    cut: Run, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def published(place: str, *, revision: str | None = None) -> Any:
        asked.append(revision)
        return ENCODERS["random"](layers=1)

    monkeypatch.setattr(ENCODERS, "_otherwise", published)
    monkeypatch.setattr(mtbert.runs.build, "commit_of", lambda name, options: "c" * 40)
    recipe = recipe | {"encoder": {"name": "an-owner/an-encoder", "revision": "main"}}
    with pytest.raises(Killed):
        mtbert.train(recipe, out=cut.folder.with_name("pinned"), listener=Kill(steps=6))
    assert asked[-1] == "c" * 40
    run = Run(cut.folder.with_name("pinned"))
    assert recorded(run)["encoder"] == {"commit": "c" * 40}
    monkeypatch.setattr(mtbert.runs.build, "commit_of", lambda name, options: "d" * 40)  # the branch has moved on
    mtbert.train(recipe, out=run.folder, resume=True)
    assert asked[-1] == "c" * 40


# ---- saving by the clock


def test_saves_between_evaluations_change_no_bits(whole: Run, recipe: dict[str, Any], tmp_path: Path) -> None:
    saves: list[int] = []
    write = Checkpoint.write

    def spy(self: Checkpoint, run: Run) -> None:
        saves.append(self.facts.step)
        write(self, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", spy)
        often = mtbert.train(recipe | {"save_every": 1e-6}, out=tmp_path / "often")
    assert saves == list(range(1, 13))
    assert_same_run(often, whole)


@pytest.mark.parametrize(("every", "lost"), [(600, 599), (200, 199), (None, 3599)])
def test_a_kill_costs_no_more_than_the_time_between_saves(
    every: float | None, lost: float, recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that moves 90 seconds a step, an hour passes between two evaluations."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    saved: list[tuple[int, float]] = []
    write = Checkpoint.write

    def spy(self: Checkpoint, run: Run) -> None:
        saved.append((self.facts.step, clock[0]))
        write(self, run)

    class Tick(Listener):
        def step(self, record: Any) -> None:
            clock[0] += 90.0

    monkeypatch.setattr(Checkpoint, "write", spy)
    recipe["stages"][0] |= {"steps": 40, "evaluate_every": 40}
    changes = {} if every == 600 else {"save_every": every}
    mtbert.train(recipe | changes, out=tmp_path / "run", listener=Tick())
    instants = [0.0, *(instant for _, instant in saved)]
    longest = max(later - earlier for earlier, later in itertools.pairwise(instants))
    assert longest <= (3600 if every is None else every)
    assert longest >= lost - 89


def test_a_run_saved_by_the_clock_resumes_to_the_bit_also_where_it_reverts(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    stage = recipe["stages"][0] | {"steps": 4, "evaluate_every": 2, "regularizers": ["bregman"]}
    second = stage | {"keep": {"name": "threshold", "share": 0.9}, "for_each_task": True}
    recipe = recipe | {"stages": [stage, second], "save_every": 1e-6}
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    assert len(list(whole.log.only(Evaluation))) == 8
    for steps in (7, 11):
        with pytest.raises(Killed):
            mtbert.train(recipe, out=tmp_path / f"{steps}", listener=Kill(steps=steps))
        saved = Checkpoint.read(Run(tmp_path / f"{steps}"))
        assert saved is not None
        assert (saved.facts.stage, saved.facts.step) == divmod(steps - 1, 4)
        assert_same_run(mtbert.train(recipe, out=tmp_path / f"{steps}", resume=True), whole)


# ---- damage


def forge(run: Run, **changes: Any) -> None:
    """Change facts of the checkpoint as one who also forgets the manifest."""
    path = run.folder / "last" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    (run.folder / "last" / "manifest.json").unlink(missing_ok=True)


FORGED: dict[str, dict[str, Any]] = {
    "a step beyond the stage": {"step": 13},
    "a negative step": {"step": -1},
    "a step in words": {"step": "six"},
    "a stage beyond the recipe": {"stage": 1},
    "positions of another task": {"positions": {"moo": 1}},
    "positions that are a list": {"positions": [1]},
    "a keeper without measures": {"keeper": {"waited": 0}},
    "a keeper that waits for less than nothing": {"keeper": {"kept": {}, "waited": -1}},
    "a keeper of another kind": {"keeper": 7},
    "a log of negative size": {"log_size": -1},
    "a baseline of words": {"baseline": {"mood": "good"}},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_checkpoint_of_impossible_facts_is_a_mistake(cut: Run, recipe: dict[str, Any], what: str) -> None:
    forge(cut, **FORGED[what])
    with pytest.raises(Mistake, match=r"last/state\.json"):
        mtbert.train(recipe, out=cut.folder, resume=True)


def test_a_missing_fact_is_named(cut: Run, recipe: dict[str, Any]) -> None:
    forge(cut)
    path = cut.folder / "last" / "state.json"
    for key in ("stage", "step", "positions", "keeper", "log_size"):
        content = json.loads(path.read_text())
        before = path.read_text()
        del content[key]
        path.write_text(json.dumps(content))
        with pytest.raises(Mistake, match=rf"state\.json: {key}.* required"):
            mtbert.train(recipe, out=cut.folder, resume=True)
        path.write_text(before)


def forged_tensors(run: Run, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    path = run.folder / "last" / "state.safetensors"
    found = load_file(path)
    change(found)
    save_file(found, path)
    (run.folder / "last" / "manifest.json").unlink(missing_ok=True)


WEIGHT, MEAN = "model.heads.mood.output.weight", "trainer.optimizer.means.heads.mood.output.weight"
WRONG: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "a weight less": lambda t: t.pop(WEIGHT),
    "a weight more": lambda t: t.update({"model.heads.moo": torch.ones(2)}),
    "a weight of another shape": lambda t: t.update({WEIGHT: torch.ones(4)}),
    "a weight of another type": lambda t: t.update({WEIGHT: t[WEIGHT].double()}),
    "a weight of nan": lambda t: t[WEIGHT].fill_(float("nan")),
    "a moment of another shape": lambda t: t.update({MEAN: torch.ones(4)}),
    "a moment of inf": lambda t: t[MEAN].fill_(float("inf")),
    "a moment less": lambda t: t.pop(MEAN),
    "a count of steps less": lambda t: t.pop(MEAN.replace("means", "steps")),
    "a moment of nobody": lambda t: t.update({"trainer.optimizer.means.nobody": torch.ones(4)}),
    "a part unheard of": lambda t: t.update({"trainer.optimizer.nothing.x": torch.ones(4)}),
    "no random state": lambda t: t.pop("random"),
    "half a random state": lambda t: t.update({"random": t["random"][:100]}),
    "a random state of floats": lambda t: t.update({"random": t["random"].float()}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_checkpoint_of_tensors_that_do_not_fit_is_a_mistake(cut: Run, recipe: dict[str, Any], what: str) -> None:
    forged_tensors(cut, WRONG[what])
    with pytest.raises(Mistake, match=r"last/state\.safetensors"):
        mtbert.train(recipe, out=cut.folder, resume=True)


def test_a_flipped_bit_in_the_checkpoint_is_found_on_resuming(cut: Run, recipe: dict[str, Any]) -> None:
    for path in sorted((cut.folder / "last").iterdir()):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            with pytest.raises(Mistake, match=path.name):
                mtbert.train(recipe, out=cut.folder, resume=True)
        path.write_bytes(content)


def test_a_damaged_file_of_the_run_is_a_mistake_that_names_it(cut: Run, recipe: dict[str, Any]) -> None:
    contents = [b"", b"\x00\xff", b"{", b"[1]", b'{"data": 1, "format": []}']
    for name in ("recipe.yaml", "environment.json", "run.json"):
        before = (cut.folder / name).read_bytes()
        for content in [*contents, *([b"[" * 5000] if name.endswith("json") else [])]:
            (cut.folder / name).write_bytes(content)
            with pytest.raises(Mistake, match=name.replace(".", r"\.")):
                mtbert.train(recipe, out=cut.folder, resume=True)
        (cut.folder / name).write_bytes(before)


def outlive_mutations(cut: Run, recipe: dict[str, Any], seeds: range) -> None:
    """From every mutation of a checkpoint's files training goes on, or it is a mistake; nothing else comes out."""
    (cut.folder / "last" / "manifest.json").unlink()
    experiment = prepare(read_recipe(recipe))
    whole = {path: path.read_bytes() for path in sorted((cut.folder / "last").iterdir())}
    for seed in seeds:
        draw = random.Random(seed)
        path = draw.choice(list(whole))
        path.write_bytes(mutated(whole[path], draw))
        try:
            saved = Checkpoint.read(cut)
            assert saved is not None
            stage = StageUnderWay(cut, experiment, 0, kept=None, baseline=None)
            stage.restore(saved)
            next(iter(stage.prepared.trainer), None)
        except Mistake:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {path.name}: {type(error).__name__}: {error}") from error
        path.write_bytes(whole[path])


def test_a_mutated_checkpoint_goes_on_or_is_a_mistake(cut: Run, recipe: dict[str, Any]) -> None:
    outlive_mutations(cut, recipe, range(40))


@pytest.mark.long
def test_five_thousand_mutated_checkpoints_go_on_or_are_mistakes(cut: Run, recipe: dict[str, Any]) -> None:
    outlive_mutations(cut, recipe, range(5000))


def test_a_log_that_lost_lines_is_said(cut: Run, recipe: dict[str, Any]) -> None:
    os.truncate(cut.folder / "log.jsonl", 100)
    with pytest.raises(Mistake, match=r"log\.jsonl has lost lines: it holds 100 bytes of the"):
        mtbert.train(recipe, out=cut.folder, resume=True)


def test_a_log_of_absurd_depth_is_a_mistake(cut: Run) -> None:
    with (cut.folder / "log.jsonl").open("a") as log:
        log.write("[" * 100_000 + "\n")
    with pytest.raises(Mistake, match=r"log\.jsonl, line \d+"):
        list(cut.log)


def test_a_log_is_on_the_disk_before_the_checkpoint_that_counts_on_it(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, write = Run.flush_log, Checkpoint.write

    def flushed(self: Run) -> None:
        done.append("log")
        flush(self)

    def written(self: Checkpoint, run: Run) -> None:
        done.append("checkpoint")
        write(self, run)

    monkeypatch.setattr(Run, "flush_log", flushed)
    monkeypatch.setattr(Checkpoint, "write", written)
    mtbert.train(recipe, out=tmp_path / "run")
    assert done == ["log", "checkpoint"] * 3


def test_records_and_tensors_see_a_difference(whole: Run) -> None:
    """The judge of this file can tell runs apart."""
    assert tensors(whole)
    assert records(whole)
    assert replace(records(whole)[0], step=99) != records(whole)[0]
