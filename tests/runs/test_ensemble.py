"""Several runs as one, and one that learns from several; means and distances are worked out by numpy and scipy."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from typer.testing import CliRunner

import mtbert
from mtbert.app.cli import app
from mtbert.data.tokens import Tokens
from mtbert.errors import Mistake
from mtbert.model.checkpoints import load_model
from mtbert.model.original import Original
from mtbert.pages.run_page import run_page
from mtbert.recipe.minutes import in_minutes
from mtbert.recipe.reading import read_recipe
from mtbert.reports.check import check
from mtbert.reports.info import read as info
from mtbert.reports.verify import verify
from mtbert.runs.build import build
from mtbert.runs.ensemble import ensemble
from mtbert.runs.evaluate import evaluate_run
from mtbert.runs.folder import Run
from mtbert.runs.listener import Listener
from mtbert.runs.log import Evaluation, Step
from mtbert.scoring.evaluation import Scores, outputs_of
from mtbert.training.distillation import distance
from mtbert.training.trainer import Record
from tests.support.cut_off import Kill, Killed, assert_same_run
from tests.support.screen import shown_lines
from tests.support.small import recipe_over, write_small_data
from tests.support.tiny_models import MOOD, NEAR

TEXTS = {
    "mood": ["good film", "cold tea by the river", "slow"],
    "same": [("good film", "bad film"), ("warm tea", "tea")],
    "near": [("good film", "bad film"), ("warm tea", "tea")],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    recipe = recipe_over(write_small_data(folder / "data"))
    recipe["stages"][0] |= {"steps": 4, "evaluate_every": 4, "optimizer": {"lr": 0.01}}
    return [mtbert.train(recipe | {"seed": seed}, out=folder / f"run{seed}") for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def together(runs: list[Run]) -> Run:
    return ensemble([run.folder for run in runs], runs[0].folder.parent / "together")


def recipe_of(runs: list[Run], **stage: Any) -> dict[str, Any]:
    recipe = recipe_over(runs[0].folder.parent / "data")
    recipe["stages"][0] |= stage
    return recipe


def test_an_ensemble_says_the_mean_of_probabilities_and_of_scores(runs: list[Run], together: Run) -> None:
    members, model = [mtbert.load(run.folder) for run in runs], mtbert.load(together.folder)
    for task in ("mood", "same"):
        each = [softmax(member.outputs(task, TEXTS[task]).double().numpy(), axis=1) for member in members]
        found = [list(row.values()) for row in model.probabilities(task, TEXTS[task])]
        np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    scores = np.mean([member.outputs("near", TEXTS["near"]).numpy() for member in members], axis=0)
    np.testing.assert_allclose(model.outputs("near", TEXTS["near"]).numpy(), scores, atol=1e-6)
    all_at_once = model.predict_all(TEXTS["same"])
    assert [row["same"] for row in all_at_once] == model.predict("same", TEXTS["same"])


def test_an_ensemble_is_evaluated_and_shown_like_a_run(runs: list[Run], together: Run) -> None:
    assert together.scores["dev"]["overall"] == pytest.approx(evaluate_run(together.folder).overall, abs=1e-9)
    assert info(together).state == "an ensemble of other runs"
    assert mtbert.load(together.folder).embed(["tea"]).shape == (1, 16)
    done = CliRunner().invoke(app, ["predict", str(together.folder), "--task", "mood", "good film"])
    assert done.exit_code == 0
    assert "good film -> " in done.stdout


def test_an_ensemble_of_copies_is_the_model_itself(runs: list[Run], tmp_path: Path) -> None:
    again = shutil.copytree(runs[0].folder, tmp_path / "again")
    model, one = mtbert.load(ensemble([runs[0].folder, again], tmp_path / "out").folder), mtbert.load(runs[0].folder)
    for task, texts in TEXTS.items():
        ours, theirs = model.outputs(task, texts), one.outputs(task, texts)
        difference = ours - theirs
        torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), atol=1e-6, rtol=0)


def test_runs_that_make_no_ensemble_are_refused_and_nothing_is_written(runs: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(runs, steps=1, evaluate_every=1)
    fewer = copy.deepcopy(recipe)
    del fewer["tasks"]["near"]
    others = copy.deepcopy(recipe)
    others["tasks"]["mood"]["classes"] = ["low", "high", "mid"]
    apart = copy.deepcopy(recipe)
    apart["tasks"]["same"]["pairs"] = "separate"
    for number, (other, said) in enumerate(
        [(fewer, "has the tasks mood, same"), (others, "says"), (apart, "reads its texts as")]
    ):
        run = mtbert.train(other, out=tmp_path / str(number))
        with pytest.raises(Mistake, match=said) as refused:
            ensemble([runs[0].folder, run.folder], tmp_path / "out")
        assert "beside the vector" not in str(refused.value)  # no head of either reads such features
    with pytest.raises(Mistake, match="two runs or more"):
        ensemble([runs[0].folder], tmp_path / "out")
    with pytest.raises(Mistake, match="two runs or more"):
        ensemble([runs[0].folder, runs[0].folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(Mistake, match="is not empty"):
        ensemble([run.folder for run in runs], runs[0].folder)


def test_what_needs_one_model_says_that_an_ensemble_is_several(runs: list[Run], together: Run, tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="holds an ensemble"):
        load_model(together.folder / "best")
    with pytest.raises(Mistake, match="holds an ensemble"):
        mtbert.train(recipe_of(runs), out=together.folder, resume=True)
    task = recipe_of(runs)["tasks"]["near"]
    added = {"data": recipe_of(runs)["data"], "tasks": {"far": task}, "stages": [{"steps": 1, "train": "heads"}]}
    with pytest.raises(Mistake, match="holds an ensemble"):
        mtbert.add_task(together.folder, added, out=tmp_path / "more")


# ---- distillation


def test_the_distance_is_the_divergence_of_softened_classes_and_the_squared_one_of_scores() -> None:
    ours, theirs = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (softmax(x.double().numpy() / 2, axis=1) for x in (theirs, ours))
    np.testing.assert_allclose(distance(MOOD, ours, theirs, 2.0).numpy(), 4 * rel_entr(p, q).sum(1), rtol=1e-4)
    scores, taught = torch.randn(5, 1), torch.randn(5, 1)
    expected = (scores - taught).square()[:, 0].numpy()
    np.testing.assert_allclose(distance(NEAR, scores, taught, 2.0).numpy(), expected, rtol=1e-5)


def test_the_loss_is_shared_between_labels_and_what_the_teachers_say(runs: list[Run]) -> None:
    teachers = [str(run.folder) for run in runs[:2]]
    share = {"name": "linear", "value": 1.0, "warmup": 0}
    made = build(read_recipe(recipe_of(runs, distill={"teachers": teachers, "share": share})))
    plain = build(read_recipe(recipe_of(runs)))
    trainer, hard = made.stage(0).trainer, plain.stage(0).trainer.objective
    trainer.begin()
    made.model.eval()
    plain.model.load_state_dict(made.model.state_dict())
    plain.model.eval()
    for task in ("mood", "near"):
        examples = made.sets["train"][task]
        batch = trainer.streams[task].examples.batch([3, 7, 20])
        outputs = made.model(batch).detach()
        said = [outputs_of(load_model(run.folder / "best")[0], examples)[[3, 7, 20]] for run in runs[:2]]
        if task == "mood":
            q = softmax(outputs.double().numpy(), axis=1)
            soft = rel_entr(np.mean([softmax(one.double().numpy(), axis=1) for one in said], axis=0), q).sum(1).mean()
        else:
            soft = float((outputs - torch.stack(said).mean(0)).square().mean())
        label = hard(batch, 0.0).terms["loss"]
        for progress in (0.0, 0.25, 1.0):
            expected = progress * label + (1 - progress) * soft
            assert trainer.objective(batch, progress).terms["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_teacher_of_one_task_is_asked_of_that_task_alone(runs: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(runs, steps=4, evaluate_every=4)
    recipe["tasks"] = {"near": recipe["tasks"]["near"] | {"pairs": "separate", "head": "cosine"}}
    alone = mtbert.train(recipe, out=tmp_path / "near")
    distill = {"teachers": [str(runs[0].folder), str(alone.folder)], "share": 1.0}
    made = build(read_recipe(recipe_of(runs, distill=distill)))
    trainer = made.stage(0).trainer
    trainer.begin()
    rows, asked = [3, 7, 20], {"mood": [runs[0]], "same": [runs[0]], "near": [runs[0], alone]}
    for task, teachers in asked.items():
        texts = made.rows["train"][task].take(np.array(rows)).given
        given = list(zip(*texts, strict=True)) if len(texts) == 2 else texts[0]
        each = [mtbert.load(teacher.folder).outputs(task, given).numpy() for teacher in teachers]
        found = trainer.streams[task].examples.batch(rows).taught
        assert found is not None
        if task == "near":
            np.testing.assert_allclose(found.numpy(), np.mean(each, axis=0), atol=1e-5)
        else:
            np.testing.assert_allclose(softmax(found.numpy(), axis=1), softmax(each[0], axis=1), atol=1e-5)


@pytest.mark.parametrize("sampler", ["proportional", "joint_rows"])
def test_teachers_read_no_text_apart_that_the_student_has_read(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    recipe = recipe_of(runs, steps=2, evaluate_every=2)
    recipe["tasks"] = {"near": recipe["tasks"]["near"] | {"head": {"name": "linear", "beside": ["cosine", "product"]}}}
    teacher = mtbert.train(recipe, out=tmp_path / "teacher")
    recipe["stages"][0] |= {"distill": {"teachers": [str(teacher.folder)]}, "sampler": sampler}
    made = build(read_recipe(recipe))
    trainer = made.stage(0).trainer
    made.sets["train"]["near"].vectors()
    read, vectors = [], Original.vectors

    def counted(original: Original, tokens: Tokens, *told: Any) -> torch.Tensor:
        read.append(original)
        return vectors(original, tokens, *told)

    monkeypatch.setattr(Original, "vectors", counted)
    trainer.begin()
    found = trainer.streams["near"].examples.batch([3, 7, 20]).taught
    assert not any(original is not made.model.original for original in read)
    texts = list(zip(*made.rows["train"]["near"].take(np.array([3, 7, 20])).given, strict=True))
    assert found is not None
    torch.testing.assert_close(found, mtbert.load(teacher.folder).outputs("near", texts), atol=1e-4, rtol=0)


def test_a_teacher_that_began_elsewhere_reads_with_its_own_original(runs: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(runs, steps=2, evaluate_every=2)
    recipe["tasks"] = {"near": recipe["tasks"]["near"] | {"head": {"name": "linear", "beside": ["cosine", "product"]}}}
    teacher = mtbert.train(recipe | {"seed": 5}, out=tmp_path / "teacher")  # an encoder drawn with another seed
    recipe["stages"][0] |= {"distill": {"teachers": [str(teacher.folder)]}}
    made = build(read_recipe(recipe | {"seed": 6}))
    trainer = made.stage(0).trainer
    trainer.begin()
    found = trainer.streams["near"].examples.batch([3, 7, 20]).taught
    texts = list(zip(*made.rows["train"]["near"].take(np.array([3, 7, 20])).given, strict=True))
    assert found is not None
    torch.testing.assert_close(found, mtbert.load(teacher.folder).outputs("near", texts), atol=1e-4, rtol=0)


def test_without_a_share_nothing_changes_to_the_bit(runs: list[Run], tmp_path: Path) -> None:
    distill = {"teachers": [str(runs[0].folder)], "share": 0.0}
    taught = mtbert.train(recipe_of(runs, distill=distill, steps=4), out=tmp_path / "taught")
    plain = mtbert.train(recipe_of(runs, steps=4), out=tmp_path / "plain")
    assert [one.terms for one in taught.log.only(Step)] == [one.terms for one in plain.log.only(Step)]


def test_a_student_of_an_ensemble_alone_comes_nearer_to_it(runs: list[Run], together: Run, tmp_path: Path) -> None:
    distill = {"teachers": [str(together.folder)], "share": 1.0}
    run = mtbert.train(
        recipe_of(runs, distill=distill, steps=60, evaluate_every=60, optimizer={"lr": 0.01}, train="all"),
        out=tmp_path / "student",
    )
    first, *_, last = [line.terms for line in run.log.only(Step) if "mood" in line.terms]
    assert last["mood"]["loss"] < 0.5 * first["mood"]["loss"]


def test_a_killed_student_goes_on_to_the_bit(runs: list[Run], tmp_path: Path) -> None:
    recipe = recipe_of(runs, distill={"teachers": [str(run.folder) for run in runs]})
    whole = mtbert.train(recipe, out=tmp_path / "whole")
    with pytest.raises(Killed):
        mtbert.train(recipe, out=tmp_path / "cut", listener=Kill(steps=6))
    assert_same_run(mtbert.train(recipe, out=tmp_path / "cut", resume=True), whole)


def _only(recipe: dict[str, Any], name: str) -> None:
    recipe["tasks"] = {name: recipe["tasks"]["mood"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda recipe: recipe["tasks"]["mood"].update(classes=["low", "high", "mid"]), "classes or ranges differ"),
        (lambda recipe: recipe["tasks"].update(tone=recipe["tasks"]["mood"]), "no teacher has the task tone"),
        (lambda recipe: _only(recipe, "tone"), "has none of the tasks tone (its tasks: mood, same, near)"),
        (lambda recipe: recipe["stages"][0]["distill"].update(teachers=["nowhere"]), "nowhere holds no run"),
        (lambda recipe: recipe["stages"][0]["distill"].update(teachers=[]), "teachers"),
        (lambda recipe: recipe["stages"][0]["distill"].update(temperature=0), "temperature"),
    ],
)
def test_teachers_that_do_not_fit_are_a_mistake_before_anything_is_written(
    runs: list[Run], tmp_path: Path, change: Any, said: str
) -> None:
    recipe = recipe_of(runs, distill={"teachers": [str(runs[0].folder)]})
    change(recipe)
    with pytest.raises(Mistake, match="distill") as refusal:
        mtbert.train(recipe, out=tmp_path / "run")
    assert said in str(refusal.value)
    assert not (tmp_path / "run").exists()


# ---- teachers that are trained first


def with_own_teachers(runs: list[Run], number: int = 2, **more: Any) -> dict[str, Any]:
    share = {"name": "linear", "value": 1.0, "warmup": 0}
    return recipe_of(runs, steps=4, evaluate_every=2, distill={"teachers": number, "share": share}) | more


@pytest.fixture(scope="module")
def taught_by_two(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return mtbert.train(with_own_teachers(runs), out=tmp_path_factory.mktemp("own") / "run")


def test_own_teachers_are_the_same_recipe_with_other_seeds_to_the_bit(
    runs: list[Run], taught_by_two: Run, tmp_path: Path
) -> None:
    first, second = (Run(taught_by_two.folder / "teachers" / name) for name in ("1", "2"))
    seeds = [taught_by_two.recipe().seed, first.recipe().seed, second.recipe().seed]
    assert len(set(seeds)) == 3
    plain = recipe_of(runs, steps=4, evaluate_every=2)
    assert_same_run(second, mtbert.train(plain | {"seed": seeds[2]}, out=tmp_path / "plain"))


def test_a_student_of_own_teachers_is_that_of_the_same_runs_by_name(
    runs: list[Run], taught_by_two: Run, tmp_path: Path
) -> None:
    recipe = with_own_teachers(runs)
    named = [str(taught_by_two.folder / "teachers" / name) for name in ("1", "2")]
    recipe["stages"][0]["distill"]["teachers"] = named
    assert_same_run(taught_by_two, mtbert.train(recipe, out=tmp_path / "named"))
    found = verify(taught_by_two)
    assert (found.equal, found.differences) == (True, [])


@pytest.mark.parametrize("steps", [3, 4, 6, 10])  # in the first teacher, at its end, in the second, in the student
def test_a_run_killed_among_its_teachers_goes_on_to_the_bit(
    runs: list[Run], taught_by_two: Run, tmp_path: Path, steps: int
) -> None:
    with pytest.raises(Killed):
        mtbert.train(with_own_teachers(runs), out=tmp_path / "cut", listener=Kill(steps=steps))
    torch.manual_seed(12345)  # a new process knows nothing of the old one's random state
    found = mtbert.train(with_own_teachers(runs), out=tmp_path / "cut", resume=True)
    assert_same_run(found, taught_by_two)
    for name in ("1", "2"):
        assert_same_run(Run(found.folder / "teachers" / name), Run(taught_by_two.folder / "teachers" / name))


def test_a_listener_that_ends_a_teacher_ends_the_run_and_it_goes_on(
    runs: list[Run], taught_by_two: Run, tmp_path: Path
) -> None:
    class Enough(Listener):
        def __init__(self) -> None:
            self.taken = 0

        def step(self, record: Record) -> None:
            self.taken += 1

        def reason_to_stop(self) -> str | None:
            return "the tea" if self.taken == 5 else None

    run = mtbert.train(with_own_teachers(runs), out=tmp_path / "run", listener=Enough())
    assert run.stopped == "the tea"
    assert info(run).state == "stopped by the tea; --resume goes on"
    again = mtbert.train(with_own_teachers(runs), out=tmp_path / "run", resume=True)
    assert again.stopped is None
    assert_same_run(again, taught_by_two)


def test_teachers_take_their_part_of_the_minutes(runs: list[Run]) -> None:
    recipe = read_recipe(with_own_teachers(runs, 3))
    assert [stage.minutes for stage in in_minutes(recipe, 20.0).stages] == [5.0]


def test_check_says_what_teachers_cost(runs: list[Run]) -> None:
    found = check(build(read_recipe(with_own_teachers(runs, 3))))
    assert found.teachers == 3
    assert any("before that 3 teachers" in line for line in shown_lines(found, 100))


def test_whoever_follows_a_run_hears_the_scores_of_its_own_model_alone(runs: list[Run], tmp_path: Path) -> None:
    class Heard(Listener):
        def __init__(self) -> None:
            self.notes: list[str] = []
            self.overall: list[float] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

        def scores(self, scores: Scores, kept: bool) -> None:
            self.overall.append(scores.overall)

    heard = Heard()
    run = mtbert.train(with_own_teachers(runs, 1), out=tmp_path / "run", listener=heard)
    assert heard.overall == [line.overall for line in run.log.only(Evaluation)]
    (teacher,) = run.teachers
    said = [f"overall {line.overall:.4f} on dev" for line in teacher.log.only(Evaluation)]
    assert [note for note in heard.notes if "overall" in note] == [
        f"teacher 1: {one}" + (", kept" if line.kept else "")
        for one, line in zip(said, teacher.log.only(Evaluation), strict=True)
    ]


def test_removing_weights_removes_those_of_teachers_and_leaves_what_was_found(
    taught_by_two: Run, tmp_path: Path
) -> None:
    copied = Run(shutil.copytree(taught_by_two.folder, tmp_path / "run"))
    copied.remove_weights()
    assert list(copied.folder.rglob("*.safetensors")) == []
    assert copied.scores == taught_by_two.scores
    assert list(copied.log) == list(taught_by_two.log)


def test_the_page_says_what_the_teachers_took(runs: list[Run], taught_by_two: Run) -> None:
    assert "2 teachers, " in run_page(taught_by_two)
    assert "teachers, " not in run_page(runs[0])


def test_overwriting_a_run_removes_its_teachers_and_nothing_else(
    runs: list[Run], taught_by_two: Run, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(taught_by_two.folder, tmp_path / "run"))
    (copied / "teachers" / "1" / "notes.txt").write_text("mine")
    with pytest.raises(Mistake, match=r"teachers/1/notes\.txt"):
        mtbert.train(recipe_of(runs), out=copied, overwrite=True)
    (copied / "teachers" / "1" / "notes.txt").unlink()
    mtbert.train(recipe_of(runs, steps=1, evaluate_every=1), out=copied, overwrite=True)
    assert not (copied / "teachers").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda recipe: recipe["tasks"]["mood"].update(limit=20), "limit draws the training rows by the seed"),
        (lambda recipe: recipe["stages"][0]["distill"].update(teachers=0), "greater than or equal to 1"),
        (lambda recipe: recipe["stages"][0]["distill"].update(teachers=2.5), "teachers"),
    ],
)
def test_own_teachers_that_cannot_be_are_a_mistake(runs: list[Run], tmp_path: Path, change: Any, said: str) -> None:
    recipe = with_own_teachers(runs)
    change(recipe)
    with pytest.raises(Mistake, match=said):
        mtbert.train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
