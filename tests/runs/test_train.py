"""Whole runs: resumed to the bit wherever they were cut off, five tasks of mixed kinds, tables in memory."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import transformers
import yaml
from safetensors.torch import save_file

import mtbert
import mtbert.runs.stage
from mtbert.data.batches import Batch, Examples
from mtbert.data.perturbation import perturbed
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.model.multitask import MultiTask
from mtbert.recipe.reading import read_recipe
from mtbert.runs.build import build
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Step
from mtbert.scoring.evaluation import Scores, evaluate
from tests.support.cut_off import Kill, Killed, assert_same_run, records
from tests.support.small import recipe_over, write_small_data


def in_two_stages(recipe: dict[str, Any]) -> dict[str, Any]:
    """Two stages with dropout, noise, momentum that idles and early stopping: everything that has a state."""
    stage = recipe["stages"][0]
    first = stage | {"steps": 4, "evaluate_every": 2, "sampler": "round_robin", "train": ["heads", "modules"]}
    second = stage | {"steps": 6, "evaluate_every": 3, "regularizers": ["gaussian"], "patience": 3, "clip": None}
    second["optimizer"] = {"lr": 1e-2, "weight_decay": 0.01, "zero_fill": True}
    return recipe | {"stages": [first, second], "modules": ["lhuc"]}


@pytest.fixture
def staged(small_recipe: dict[str, Any]) -> dict[str, Any]:
    return in_two_stages(small_recipe)


def evaluate_moved(model: MultiTask, sets: dict[str, Any], world: Any) -> Scores:
    """Scores that rise as the model moves away from where it began, so that every stage keeps something."""
    found = evaluate(model, sets)
    moved = sum(p.detach().abs().sum().item() for p in model.modules_by_task.parameters())  # gains begin at zero
    return Scores(found.tasks, dict.fromkeys(found.normalised, moved))


@pytest.fixture
def rising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtbert.runs.stage, "evaluate", evaluate_moved)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtbert.runs.stage, "evaluate", evaluate_moved)
        run = mtbert.train(in_two_stages(recipe_over(write_small_data(folder / "data"))), out=folder / "whole")
    kept = [(one.stage, one.step) for one in run.log.only(Evaluation) if one.kept]
    assert {(0, 2), (0, 4), (1, 3), (1, 6)} <= set(kept)  # or the checkpoints would not differ
    return run


@pytest.fixture
def whole(trained_once: Run, rising: None) -> Run:
    """The run that nothing interrupted, to compare with one over data of the same content."""
    return trained_once


# ---- resuming


def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_one_does_not(
    staged: dict[str, Any], whole: Run, tmp_path: Path
) -> None:
    assert_same_run(mtbert.train(staged, out=tmp_path / "again"), whole)
    other = mtbert.train(staged | {"seed": 5}, out=tmp_path / "other")
    assert records(other) != records(whole)


@pytest.mark.parametrize("kill", [{"steps": n} for n in (1, 2, 3, 4, 5, 7, 8, 10)] + [{"evaluations": 3}])
def test_a_killed_run_resumes_to_the_uninterrupted_one(
    staged: dict[str, Any], whole: Run, tmp_path: Path, kill: dict[str, int]
) -> None:
    with pytest.raises(Killed):
        mtbert.train(staged, out=tmp_path / "run", listener=Kill(**kill))
    torch.manual_seed(12345)  # a new process knows nothing of the old one's random state
    assert_same_run(mtbert.train(staged, out=tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize("steps", [3, 5, 7, 9])
def test_a_stage_on_cached_features_resumes_too(staged: dict[str, Any], tmp_path: Path, steps: int) -> None:
    full, frozen = staged["stages"][1] | {"steps": 4, "evaluate_every": 2}, staged["stages"][0] | {"train": "heads"}
    recipe = staged | {"stages": [full, frozen, full]}
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "run", listener=Kill(steps=steps))
    assert_same_run(mtbert.train(recipe, out=tmp_path / "run", resume=True), whole)


def test_a_run_killed_again_and_again_still_arrives(staged: dict[str, Any], whole: Run, tmp_path: Path) -> None:
    for _ in range(20):
        try:
            mtbert.train(staged, out=tmp_path / "run", resume=True, listener=Kill(steps=4))
        except Killed:
            continue
        break
    assert_same_run(Run(tmp_path / "run"), whole)


def cut_offs(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of a run folder: what a killed process leaves, at every instant that something is about to be written."""
    taken: list[Path] = []

    def before(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            if (run / "recipe.yaml").exists():
                taken.append(shutil.copytree(run, folder / str(len(taken))))
            return act(*arguments, **options)

        return acted

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, before(getattr(Path, name)))
    monkeypatch.setattr("mtbert.model.tensors.save_file", before(save_file))
    return taken


def test_a_run_resumes_from_whatever_instant_it_was_cut_off_at_also_while_saving(
    staged: dict[str, Any], whole: Run, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        taken = cut_offs(tmp_path / "run", tmp_path / "cut", patch)
        mtbert.train(staged, out=tmp_path / "run")
    assert len(taken) >= 4 * 6
    wrong = {}
    for folder in taken:
        there = sorted(path.name for path in folder.iterdir())
        try:
            assert_same_run(mtbert.train(staged, out=folder, resume=True), whole)
        except AssertionError as error:
            wrong[folder.name] = (there, str(error).splitlines()[0])
    assert wrong == {}


def test_a_half_written_line_of_the_log_is_dropped(staged: dict[str, Any], whole: Run, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        mtbert.train(staged, out=tmp_path / "run", listener=Kill(steps=3))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"stage": 0, "st')
    assert_same_run(mtbert.train(staged, out=tmp_path / "run", resume=True), whole)


def test_a_finished_run_resumed_does_nothing(whole: Run) -> None:
    before = {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()}
    mtbert.train(whole.folder / "recipe.yaml", out=whole.folder, resume=True, listener=Kill(steps=1))
    assert {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()} == before


def test_resume_where_nothing_was_begun_begins(staged: dict[str, Any], whole: Run, tmp_path: Path) -> None:
    assert_same_run(mtbert.train(staged, out=tmp_path / "fresh", resume=True), whole)


def test_a_run_killed_before_its_recipe_was_written_can_begin_again(
    staged: dict[str, Any], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Run.write

    def killed(self: Run, name: str, content: str) -> None:
        if name == "recipe.yaml":
            raise Killed
        write(self, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", killed)
        with pytest.raises(Killed):
            mtbert.train(staged, out=tmp_path / "run")
    assert_same_run(mtbert.train(staged, out=tmp_path / "run", resume=True), whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: recipe["stages"][0].update(batch_size=4),
        lambda recipe: recipe["stages"].pop(),  # every line that is left stood there before
        lambda recipe: recipe["stages"][1].pop("patience"),  # `patience: null` stands in the other stage
        lambda recipe: recipe["stages"].reverse(),
        lambda recipe: recipe.update(seed=1),
    ],
)
def test_a_run_is_not_resumed_with_another_recipe(
    staged: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    folder = tmp_path / "my run"
    with pytest.raises(Killed):
        mtbert.train(staged, out=folder, listener=Kill(steps=3))
    other = copy.deepcopy(staged)
    change(other)
    with pytest.raises(Mistake, match="was begun with another recipe") as refused:
        mtbert.train(other, out=folder, resume=True)
    (command,) = re.findall("`(mtbert train .* --resume)`", str(refused.value))
    assert shlex.split(command) == ["mtbert", "train", str(folder / "recipe.yaml"), "--out", str(folder), "--resume"]


def test_the_recipe_in_a_run_goes_on_with_it(staged: dict[str, Any], tmp_path: Path) -> None:
    whole = mtbert.train(staged, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(staged, out=tmp_path / "run", listener=Kill(steps=3))
    assert_same_run(mtbert.train(tmp_path / "run" / "recipe.yaml", out=tmp_path / "run", resume=True), whole)


def test_a_process_killed_outright_resumes_to_the_uninterrupted_run(staged: dict[str, Any], tmp_path: Path) -> None:
    whole = mtbert.train(staged, out=tmp_path / "whole")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(staged, sort_keys=False))
    program = (
        "import os, signal, sys, torch, mtbert\n"
        "from mtbert.runs.listener import Listener\n"
        "torch.set_num_threads(1)\n"
        "class Kill(Listener):\n"
        "    left = 6\n"
        "    def step(self, record):\n"
        "        self.left -= 1\n"
        "        if not self.left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "mtbert.train(sys.argv[1], out=sys.argv[2], listener=Kill())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "recipe.yaml"), str(tmp_path / "run")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    assert_same_run(mtbert.train(tmp_path / "recipe.yaml", out=tmp_path / "run", resume=True), whole)


# ---- saving


def test_a_reloaded_model_gives_its_logits_to_the_last_bit(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    batches: dict[str, Batch] = {}
    save = mtbert.model.checkpoints.save_model

    def spy(model: Any, tokenizer: Any, folder: Path) -> None:
        save(model, tokenizer, folder)
        model.eval()
        with torch.inference_mode():
            kept.append({task: model(batch) for task, batch in batches.items()})
        model.train()

    experiment = build(read_recipe(small_recipe))
    batches |= {task: examples.batch(range(12)) for task, examples in experiment.sets["dev"].items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mtbert.runs.stage, "save_model", spy)
        run = mtbert.train(small_recipe, out=tmp_path / "run")
    model, _ = load_model(run.folder / "best")
    with torch.inference_mode():
        assert all(torch.equal(model(batch), kept[-1][task]) for task, batch in batches.items())


def test_a_kept_model_scores_what_its_run_says(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    assert evaluate_run(run.folder).as_dict() == run.scores["dev"]
    found = evaluate_run(run.folder, small_recipe["data"]).as_dict()
    assert found == run.scores["dev"]


def test_a_model_kept_by_a_stage_on_cached_features_scores_what_its_run_says(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    small_recipe["stages"][0] |= {"train": "heads", "optimizer": {"lr": 0.05}}
    run = mtbert.train(small_recipe | {"modules": ["lhuc"]}, out=tmp_path / "run")
    found = evaluate_run(run.folder)
    assert found.overall == pytest.approx(run.scores["dev"]["overall"], abs=1e-6)
    for task, metrics in found.tasks.items():
        assert metrics == pytest.approx(run.scores["dev"]["tasks"][task], abs=1e-5)


def test_a_kept_encoder_opens_in_transformers_with_the_same_hidden_states(
    small_recipe: dict[str, Any], tmp_path: Path
) -> None:
    mtbert.train(small_recipe, out=tmp_path / "run")
    ours = mtbert.load(tmp_path / "run").model
    theirs = transformers.BertModel.from_pretrained(tmp_path / "run" / "best" / "encoder").eval()
    examples = build(read_recipe(small_recipe)).sets["dev"]["same"]
    batch = examples.batch(range(12))
    assert batch.segments.any()
    assert not batch.mask.all()
    with torch.inference_mode():
        states = [ours.embed(batch), *ours.states(ours.embed(batch), batch)]
        reference = theirs(
            input_ids=batch.tokens,
            token_type_ids=batch.segments,
            attention_mask=batch.mask.long(),
            output_hidden_states=True,
        )
        torch.testing.assert_close(ours.encoder.pool(states[-1][:, 0]), reference.pooler_output, atol=1e-5, rtol=0)
    assert len(reference.hidden_states) == len(states) == 3
    for mine, other in zip(states, reference.hidden_states, strict=True):
        torch.testing.assert_close(mine[batch.mask], other[batch.mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_disk_that_fills_up_while_saving_leaves_the_last_good_checkpoint(
    staged: dict[str, Any], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    saves = [0]

    def full(state: Any, path: Path, **options: Any) -> None:
        saves[0] += f".{which}.new" in path.parts
        if saves[0] > {"best": 3, "last": 2}[which]:  # the first model is whole: its encoder, outputs and heads
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(state, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("mtbert.model.tensors.save_file", full)
        with pytest.raises(Mistake, match=r"disk is full.*intact"):
            mtbert.train(staged, out=tmp_path / "run")
    assert mtbert.load(tmp_path / "run").predict("mood", ["good film"])[0] in ("low", "mid", "high")
    assert_same_run(mtbert.train(staged, out=tmp_path / "run", resume=True), whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_truly_full_disk_stops_training_with_a_mistake(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    class Fill(Listener):
        def begin(self, stage: int, steps: int, done: int) -> None:
            (tmp_path / "run" / "log.jsonl").symlink_to("/dev/full")

    with pytest.raises(Mistake, match="disk is full"):
        mtbert.train(small_recipe, out=tmp_path / "run", listener=Fill())


# ---- the run folder


def test_a_run_holds_what_the_design_says(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        *("best", "environment.json", "last", "log.jsonl", "recipe.yaml", "run.json", "scores.json")
    ]
    facts = json.loads((run.folder / "environment.json").read_text())
    assert facts["data"]["mood.train"]["rows"] == 40
    assert facts["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    steps = list(run.log.only(Step))
    assert [one.step for one in steps] == list(range(1, 13))
    assert [one.step for one in run.log.only(Evaluation)] == [4, 8, 12]


def test_a_run_is_repeated_from_the_recipe_it_holds(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    first = mtbert.train(small_recipe, out=tmp_path / "first")
    second = mtbert.train(first.folder / "recipe.yaml", out=tmp_path / "second")
    assert (second.folder / "recipe.yaml").read_text() == (first.folder / "recipe.yaml").read_text()
    assert_same_run(second, first)


def test_a_folder_with_a_run_is_refused_and_untouched(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(Mistake, match=r"already holds a run; --resume.*--overwrite"):
        mtbert.train(small_recipe, out=run.folder)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_overwrite_begins_anew(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    mtbert.train(small_recipe | {"seed": 3}, out=tmp_path / "run")
    fresh = mtbert.train(small_recipe, out=tmp_path / "fresh")
    assert_same_run(mtbert.train(small_recipe, out=tmp_path / "run", overwrite=True), fresh)


def test_a_mistake_with_overwrite_loses_nothing(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    small_recipe["tasks"]["near"]["dev"] = "nowhere.jsonl"
    with pytest.raises(Mistake, match="there is no file"):
        mtbert.train(small_recipe, out=run.folder, overwrite=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["best", "last", "log.jsonl"])
def test_what_bears_a_runs_names_without_a_recipe_is_not_deleted(
    small_recipe: dict[str, Any], tmp_path: Path, name: str
) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    (tmp_path / "kept").mkdir()
    (run.folder / name).rename(tmp_path / "kept" / name)  # all that someone saved of an earlier run
    before = sorted(tmp_path.joinpath("kept").rglob("*"))
    with pytest.raises(Mistake, match="is not empty and holds no run"):
        mtbert.train(small_recipe, out=tmp_path / "kept")
    assert sorted(tmp_path.joinpath("kept").rglob("*")) == before


def test_a_folder_of_someone_elses_is_refused_and_untouched(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    ways: list[dict[str, Any]] = [{}, {"overwrite": True}, {"resume": True}]
    for options in ways:
        with pytest.raises(Mistake, match="is not empty and holds no run"):
            mtbert.train(small_recipe, out=tmp_path / "thesis", **options)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


# ---- from Python


def test_the_callers_recipe_is_left_as_it_was(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    before = copy.deepcopy(small_recipe)
    mtbert.train(small_recipe, out=tmp_path / "run", overrides=["stages.0.steps=2", "stages.0.optimizer.lr=1e-4"])
    assert small_recipe == before


def test_data_and_overrides_given_apart_win_over_the_recipes(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    data = small_recipe.pop("data")
    run = mtbert.train(small_recipe, data=data, out=tmp_path / "run", overrides=["stages.0.steps=2"])
    assert run.scores["step"] == 2


class OnlyArrow:
    """A table of some other library, which speaks nothing but the Arrow C stream."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


def test_five_tasks_of_mixed_kinds_train_and_predict_from_tables_in_memory(tmp_path: Path) -> None:
    texts = [f"{word} {other}" for word in ("good", "bad", "warm", "cold") for other in ("film", "tea", "plot")]
    rows = {"a": texts, "b": texts[::-1], "n": [i % 3 for i in range(12)], "f": [i / 4 - 1 for i in range(12)]}
    rows |= {"c": [["no", "maybe", "yes, indeed"][i % 3] for i in range(12)], "id": [f"row {i}" for i in range(12)]}
    made = OnlyArrow(pa.table(rows))
    data = {"train": made, "dev": made}
    named = {"kind": "classification", "label": "c", "classes": ["no", "maybe", "yes, indeed"], **data}
    scored = {"kind": "regression", "label": "f", "range": [-1, 2], **data}
    recipe: dict[str, Any] = {
        "encoder": {"name": "random", "width": 16, "inner": 32},
        "tasks": {
            "names": named | {"text": "a", "pooling": "cls"},
            "numbers": {"kind": "classification", "text": "b", "label": "n", "classes": 3, "pooling": "pooler", **data},
            "together": named | {"text": ["a", "b"], "pairs": "joint"},
            "apart": scored | {"text": ["a", "b"], "pairs": "separate", "head": "cosine01"},
            "one-score": scored | {"text": ["a"], "head": "sigmoid"},
        },
        "stages": [{"sampler": "round_robin", "epochs": 2, "batch_size": 5, "schedule": "constant"}],
    }
    run = mtbert.train(recipe, out=tmp_path / "run")
    assert len(list(run.log.only(Step))) == 2 * 5 * 3
    assert set(run.scores["dev"]["tasks"]) == set(recipe["tasks"])

    model = mtbert.load(run.folder)
    assert set(model.predict("names", texts)) <= {"no", "maybe", "yes, indeed"}
    assert set(model.predict("numbers", texts)) <= {"0", "1", "2"}
    assert set(model.predict("together", list(zip(texts, texts, strict=True)))) <= {"no", "maybe", "yes, indeed"}
    # a text is as similar to itself as the range allows, whatever the encoder has learned
    assert model.predict("apart", list(zip(texts, texts, strict=True))) == pytest.approx([2.0] * 12, abs=1e-4)
    assert all(-1 <= score <= 2 for score in model.predict("one-score", texts))
    assert model.predict_table("together", made).ids == rows["id"]
    with pytest.raises(Mistake, match="names no `dev` rows"):
        evaluate_run(run.folder)  # tables in memory are not the run's to keep, and it says so


def test_strange_texts_train_and_predict(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    strange = ["a 😀 film", "שלום עולם", "مرحبا بالعالم", "a\x00b", "half \ud83d of a pair", "\udc00", "x" * 100_000]
    strange += ["word " * 20_000, "‮reversed", "é", "🏳️‍🌈"]
    data = Path(small_recipe["data"])
    lines = [json.dumps({"text": text, "mood": ["low", "mid", "high"][i % 3]}) for i, text in enumerate(strange)]
    (data / "strange.jsonl").write_text("\n".join(lines))
    small_recipe["tasks"]["mood"] |= {"train": "strange.jsonl", "dev": "strange.jsonl", "max_length": 64}
    small_recipe["stages"][0] |= {"steps": 4, "tasks": "mood"}
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    model = mtbert.load(run.folder)
    assert len(model.predict("mood", strange)) == len(strange)
    assert len(model.predict_table("mood", data / "strange.jsonl").values) == len(strange)


@pytest.mark.parametrize("ending", [".tsv", ".csv"])
def test_strange_texts_in_a_delimited_file_keep_their_rows(
    small_recipe: dict[str, Any], tmp_path: Path, ending: str
) -> None:
    mark = "\t" if ending == ".tsv" else ","
    strange = ["a 😀 film", "שלום", "a\0b", "half \ud83d", "x" * 100_000]
    lines = [f"{i}{mark}{text}{mark}{['low', 'mid', 'high'][i % 3]}" for i, text in enumerate(strange)]
    path = Path(small_recipe["data"]) / f"strange{ending}"
    path.write_bytes("\n".join([f"id{mark}text{mark}mood", *lines]).encode("utf-8", "surrogatepass"))
    small_recipe["tasks"]["mood"] |= {"train": path.name, "dev": path.name, "max_length": 64}
    small_recipe["stages"][0] |= {"steps": 2, "tasks": "mood"}
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    assert mtbert.load(run.folder).predict_table("mood", path).ids == ["0", "1", "2", "3", "4"]


def test_the_sampler_decides_how_large_batches_are_and_how_much_of_a_task_is_used(
    small_recipe: dict[str, Any],
) -> None:
    mood = Path(small_recipe["data"]) / "mood-train.tsv"
    mood.write_text("\n".join(mood.read_text().splitlines()[:16]))  # 15 of its 40 rows
    small_recipe["stages"] = [
        {"steps": 3, "batch_size": 7, "sampler": "equal_round_robin"},
        {"steps": 3, "batch_size": 7, "sampler": "interleaved"},
    ]
    experiment = mtbert.runs.build.build(read_recipe(small_recipe))
    equal, interleaved = (experiment.stage(index).trainer for index in range(2))
    assert [stream.batches_per_pass for stream in equal.streams.values()] == [2, 2, 2]
    assert [stream.batch_size for stream in interleaved.streams.values()] == [3, 7, 7]


def test_a_perturbed_evaluation_scores_the_perturbed_dev_rows(small_recipe: dict[str, Any], tmp_path: Path) -> None:
    run = mtbert.train(small_recipe, out=tmp_path / "run")
    model, tokenizer = load_model(run.part("best"))
    rows = build(read_recipe(small_recipe)).rows["dev"]
    changed = {
        task: Examples.from_rows(model.tasks[task], perturbed(one, 3), tokenizer, model.encoder.shape.positions)
        for task, one in rows.items()
    }
    assert evaluate_run(run.folder, perturbed_by=3) == evaluate(model, changed)
    assert evaluate_run(run.folder, perturbed_by=3) != evaluate_run(run.folder)


def test_a_limited_task_trains_on_so_many_rows_and_always_the_same(small_recipe: dict[str, Any]) -> None:
    small_recipe["tasks"]["mood"]["limit"] = 10
    small_recipe["stages"][0] |= {"batch_size": 4, "sampler": "round_robin"}
    trainer = build(read_recipe(small_recipe)).stage(0).trainer
    passes = [[row for _ in range(3) for row in trainer.streams["mood"].draw().rows.tolist()] for _ in range(2)]
    assert len(set(passes[0])) == 10
    assert sorted(passes[0]) == sorted(passes[1])
    assert trainer.streams["near"].batches_per_pass == 10


def test_a_combiner_without_several_tasks_says_which_samplers_give_them(small_recipe: dict[str, Any]) -> None:
    small_recipe["stages"][0]["combiner"] = "pcgrad"
    with pytest.raises(
        Mistake, match=r"stages\.0\.combiner: 'pcgrad'.*'proportional' has one.*: joint, joint_by_ratio"
    ):
        build(read_recipe(small_recipe)).stage(0)
    for stage in ({"sampler": "joint"}, {"accumulate": 3}):
        small_recipe["stages"][0] |= {"sampler": "proportional", "accumulate": 1} | stage
        build(read_recipe(small_recipe)).stage(0).trainer.take_step()
